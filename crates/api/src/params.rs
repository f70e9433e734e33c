//! Path parameters: their forms are checked before anything is looked up.

use axum::extract::RawPathParams;
use model::{
    DeploymentName,
    id::{ExportBucketId, ExportJobId, ProjectId, RestoreJobId, SnapshotId},
};

use crate::error::{Answer, Code, Problem};

/// The parameters of a path, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl From<&RawPathParams> for Params {
    fn from(raw: &RawPathParams) -> Self {
        Self(raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Params {
    /// Takes the verb of a custom method (AIP-136), such as `:invite`, from the end of the path; `false` when it is not there.
    pub(crate) fn take_verb(&mut self, verb: &str) -> bool {
        let Some((_, last)) = self.0.last_mut() else { return false };
        let Some(name) = last.strip_suffix(verb).and_then(|rest| rest.strip_suffix(':')) else {
            return false;
        };
        *last = name.to_owned();
        true
    }

    /// Parameters that come from nowhere.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Checks the form of every parameter, in the order of the path.
    pub(crate) fn check(&self) -> Answer<()> {
        for (name, value) in &self.0 {
            match name.as_str() {
                "groupId" => drop(self.project()?),
                "snapshotId" => drop(self.snapshot()?),
                "restoreJobId" => drop(self.restore_job()?),
                "checkpointId" => drop(self.checkpoint()?),
                "exportBucketId" => drop(self.export_bucket()?),
                "exportId" => drop(self.export_job()?),
                "orgId" => {
                    value.parse::<ProjectId>().map_err(|_| refused(Code::InvalidOrgId, value))?;
                }
                "credentialId" => {
                    value
                        .parse::<model::id::CredentialId>()
                        .map_err(|_| refused(Code::InvalidKeyId, value))?;
                }
                "clusterName" => {
                    let group = self.get("groupId").unwrap_or_default();
                    value
                        .parse::<DeploymentName>()
                        .map_err(|_| refused(Code::ClusterNotFound, value).with(group))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn project(&self) -> Answer<ProjectId> {
        let text = self.get("groupId").unwrap_or_default();
        text.parse().map_err(|_| refused(Code::InvalidGroupId, text))
    }

    pub(crate) fn snapshot(&self) -> Answer<SnapshotId> {
        let text = self.get("snapshotId").unwrap_or_default();
        text.parse().map_err(|_| refused(Code::InvalidSnapshotId, text))
    }

    pub(crate) fn restore_job(&self) -> Answer<RestoreJobId> {
        let text = self.get("restoreJobId").unwrap_or_default();
        text.parse().map_err(|_| refused(Code::InvalidJobId, text))
    }

    /// Of what there is none, so that only its form is of interest.
    pub(crate) fn checkpoint(&self) -> Answer<&str> {
        let text = self.get("checkpointId").unwrap_or_default();
        text.parse::<SnapshotId>().map(|_| text).map_err(|_| refused(Code::InvalidCheckpointId, text))
    }

    pub(crate) fn export_bucket(&self) -> Answer<ExportBucketId> {
        let text = self.get("exportBucketId").unwrap_or_default();
        text.parse().map_err(|_| refused(Code::ExportBucketNotFound, text))
    }

    pub(crate) fn export_job(&self) -> Answer<ExportJobId> {
        let text = self.get("exportId").unwrap_or_default();
        text.parse().map_err(|_| refused(Code::ResourceNotFound, text))
    }

    /// Name of the deployment.
    pub(crate) fn cluster(&self) -> &str {
        self.get("clusterName").unwrap_or_default()
    }
}

/// Longest part of a bad parameter that is shown back.
const SHOWN_CHARACTERS: usize = 64;

fn refused(code: Code, value: &str) -> Problem {
    Problem::new(code).with(value.chars().take(SHOWN_CHARACTERS).collect::<String>())
}
