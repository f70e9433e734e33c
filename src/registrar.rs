//! The check of a deployment before it is registered: what `api` asks and only the binary can answer, since `api`
//! knows no MongoDB.

use api::{CheckFinding, CheckReport, Registrar, Secret};
use futures::{FutureExt, future::BoxFuture};
use model::DeploymentKind;
use mongo::{
    ConnectOptions, Deployment, Error, Uri, facts,
    privileges::{self, MissingPrivilege, Purpose},
};

/// Checks with a real connection.
pub(crate) struct LiveRegistrar;

impl Registrar for LiveRegistrar {
    fn check<'a>(
        &'a self,
        uri: &'a Secret,
        _kind: DeploymentKind,
        allow_untested: bool,
    ) -> BoxFuture<'a, CheckReport> {
        check(uri, allow_untested).boxed()
    }
}

async fn check(uri: &Secret, allow_untested: bool) -> CheckReport {
    look(uri, allow_untested).await.unwrap_or_else(|error| {
        let problem = finding(code(&error), error.to_string(), None);
        CheckReport { ok: false, problems: vec![problem], ..CheckReport::default() }
    })
}

async fn look(uri: &Secret, allow_untested: bool) -> mongo::Result<CheckReport> {
    let text = uri.expose_text().ok_or_else(|| Error::InvalidUri("it is not UTF-8".to_owned()))?;
    let options = ConnectOptions { allow_untested_version: allow_untested, ..ConnectOptions::default() };
    let deployment = Deployment::connect(&Uri::parse(text)?, &options).await?;
    // Before anything that a privilege is needed for.
    let missing = Missing::of(&deployment).await?;
    if missing.hinder() {
        let problems = missing.findings(&missing.backup_required, Purpose::Backup);
        return Ok(CheckReport { ok: false, problems, ..CheckReport::default() });
    }
    let facts = deployment.facts().await?;
    let mut warnings = missing.findings(&missing.backup_required, Purpose::Backup);
    warnings.extend(missing.findings(&missing.backup_optional, Purpose::Backup));
    warnings.extend(missing.findings(&missing.restore, Purpose::Restore));
    if facts.untested {
        let message = format!(
            "Ebbtide is not tested with MongoDB {}: every job says so; verify what is backed up and restored",
            facts.version_text
        );
        warnings.push(finding(api::UNTESTED_VERSION, message, None));
    }
    if !facts.auth_enabled {
        let message =
            "the deployment runs without access control: other writers cannot be fenced off during a restore";
        warnings.push(finding("NO_ACCESS_CONTROL", message.to_owned(), None));
    }
    Ok(CheckReport {
        ok: true,
        problems: vec![],
        warnings,
        mongodb_version: Some(facts.version_text),
        feature_compatibility_version: Some(facts.fcv),
        replica_set_name: Some(facts.replica_set_name),
        replica_set_id: facts.replica_set_id,
    })
}

/// What an account lacks, by what it is needed for.
struct Missing {
    backup_required: Vec<MissingPrivilege>,
    backup_optional: Vec<MissingPrivilege>,
    restore: Vec<MissingPrivilege>,
    account: Option<(String, String)>,
    version: (u32, u32, u32),
}

impl Missing {
    async fn of(deployment: &Deployment) -> mongo::Result<Self> {
        let backup = privileges::check(deployment, Purpose::Backup).await?;
        let (backup_optional, backup_required) = backup.into_iter().partition(|missing| missing.optional);
        Ok(Self {
            backup_required,
            backup_optional,
            restore: privileges::check(deployment, Purpose::Restore).await?,
            account: facts::authenticated_user(deployment).await?,
            version: deployment.version(),
        })
    }

    /// An account that can do one of the two is enough: a deployment may be there to restore into, or never be
    /// restored into.
    fn hinder(&self) -> bool {
        !self.backup_required.is_empty() && self.restore.iter().any(|missing| !missing.optional)
    }

    fn findings(&self, missing: &[MissingPrivilege], purpose: Purpose) -> Vec<CheckFinding> {
        let account = self.account.as_ref().map(|(db, user)| (db.as_str(), user.as_str()));
        let remedy = privileges::remedy(missing, purpose, self.version, account);
        missing
            .iter()
            .map(|privilege| finding("MISSING_PRIVILEGE", privilege.to_string(), Some(remedy.clone())))
            .collect()
    }
}

fn finding(code: &str, message: String, remedy: Option<String>) -> CheckFinding {
    CheckFinding { code: code.to_owned(), message, remedy }
}

/// A stable word for each way in which a check can fail.
fn code(error: &Error) -> &'static str {
    match error {
        Error::InvalidUri(_) => "INVALID_CONNECTION_STRING",
        Error::Unreachable { .. } | Error::TimedOut { .. } => "UNREACHABLE",
        Error::Authentication(_) => "AUTHENTICATION_FAILED",
        Error::Privilege(_) => "MISSING_PRIVILEGE",
        Error::Unsupported(_) => "UNSUPPORTED_DEPLOYMENT",
        _ => "CHECK_FAILED",
    }
}
