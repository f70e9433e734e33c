//! What an account lacks for a job, told before the job runs into it.

use mongo::{
    Deployment, facts,
    privileges::{self, Purpose},
};

/// What the account cannot do and the job cannot do without, with the commands that mend it.
///
/// Asked before anything else: each command that looks at a deployment needs a privilege of its own, and the server's
/// "not authorized" names no role.
///
/// # Errors
/// The server's.
pub(crate) async fn lacking(deployment: &Deployment, purpose: Purpose) -> mongo::Result<Option<String>> {
    let missing = privileges::check(deployment, purpose).await?;
    if missing.iter().all(|privilege| privilege.optional) {
        return Ok(None);
    }
    let account = facts::authenticated_user(deployment).await?;
    let account = account.as_ref().map(|(db, user)| (db.as_str(), user.as_str()));
    let remedy = privileges::remedy(&missing, purpose, deployment.version(), account);
    let named: Vec<_> =
        missing.iter().filter(|p| !p.optional).map(|p| format!("{} ({})", p.action, p.why)).collect();
    Ok(Some(format!("the account lacks {}; run: {remedy}", named.join(", "))))
}
