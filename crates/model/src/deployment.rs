//! Deployments: what is backed up and restored to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What the API treats a deployment as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeploymentKind {
    /// A replica set, served under `/clusters/{name}`.
    ReplicaSet,
    /// A logical tenant: the same engine behind `/serverless/{name}`.
    Serverless,
    /// The same behind `/flexClusters/{name}`.
    Flex,
}

impl DeploymentKind {
    /// The word used in the catalog, the API and the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicaSet",
            Self::Serverless => "serverless",
            Self::Flex => "flex",
        }
    }
}

impl FromStr for DeploymentKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "replicaSet" => Ok(Self::ReplicaSet),
            "serverless" => Ok(Self::Serverless),
            "flex" => Ok(Self::Flex),
            other => Err(format!("a deployment is of kind replicaSet, serverless or flex, not {other:?}")),
        }
    }
}

/// The name of a deployment inside its project: `^[a-zA-Z0-9][a-zA-Z0-9-]*$`, 64 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentName(String);

/// Atlas's limit on cluster names.
pub const DEPLOYMENT_NAME_CHARACTERS_MAX: usize = 64;

impl DeploymentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.len() <= DEPLOYMENT_NAME_CHARACTERS_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a cluster name has 1 to {DEPLOYMENT_NAME_CHARACTERS_MAX} letters, digits and hyphens and starts with a letter or digit"
            ))
        }
    }
}

impl TryFrom<String> for DeploymentName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeploymentName> for String {
    fn from(name: DeploymentName) -> String {
        name.0
    }
}

impl fmt::Display for DeploymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in [DeploymentKind::ReplicaSet, DeploymentKind::Serverless, DeploymentKind::Flex] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
        assert!("shardedCluster".parse::<DeploymentKind>().is_err());
    }

    #[test]
    fn names_follow_the_pattern_of_the_api() {
        assert!("Cluster-0".parse::<DeploymentName>().is_ok());
        for bad in ["", "-a", "a_b", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<DeploymentName>().is_err(), "{bad:?} was taken");
        }
    }
}
