//! Users and roles, when they were asked for.

use mongo::principals::{self, Principals, RestorePrincipals, RestoredPrincipals};

use super::{errors::job_error, source::Restore};
use crate::lease::JobError;

/// Restores users and roles. The account in use stays as it is, and so do accounts that the snapshot does not have.
///
/// # Errors
/// [`JobError`]; what failed leaves the users as they were.
pub(crate) async fn restore(job: &Restore) -> Result<Option<RestoredPrincipals>, JobError> {
    if !job.options.with_users {
        return Ok(None);
    }
    let Some(stored) = job.manifest.principals().await? else {
        return Ok(None);
    };
    let backup = Principals { users: stored.users, roles: stored.roles };
    let facts = job.deployment.facts().await.map_err(|e| job_error("looking at", &job.target.name, e))?;
    let options = RestorePrincipals { keep: facts.authenticated_user, remove_others: false };
    let restored = principals::restore(&job.deployment, &backup, &options).await;
    restored.map(Some).map_err(|e| job_error("restoring the users and roles of", &job.target.name, e))
}
