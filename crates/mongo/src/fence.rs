//! Keeping other writers out while a restore replaces what they write to, and finding those that wrote nevertheless.
//!
//! The server's write block (`setUserWriteBlockMode`, 6.0 and later) stops everybody but the holders of
//! `bypassWriteBlockingMode`. Without authentication it would stop the restore itself; it does not cover `admin` and
//! `config`; it survives a restart. So it is raised only where it helps, the caller records [`WriteBlock::state`]
//! durably before raising it and puts it back on every exit, a block that was there before is nobody's to lift, and
//! the oplog is searched for the writes of others in any case: [`foreign_writes`].

mod foreign;
mod untouched;

use std::time::Duration;

use bson::{Bson, Document, doc};

pub use foreign::{ForeignWrites, OwnWrites, Write, foreign_writes};
pub use untouched::touched;

use crate::{ClusterTime, Deployment, Error, Result, time};

/// The first version that has the command.
const FIRST_VERSION: (u32, u32, u32) = (6, 0, 0);
/// What `serverStatus` calls a block that is on.
const MODE_ON: i64 = 2;
/// The privilege without which the block would stop its owner.
const BYPASS: &str = "bypassWriteBlockingMode";

/// What the write block is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockState {
    /// Nobody is kept out.
    Off,
    /// Everybody without the bypass is kept out.
    On,
    /// It cannot be used here.
    Unavailable {
        /// Why, for a person.
        reason: String,
    },
}

/// What came of raising the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceOutcome {
    /// It is ours to lift. What others wrote, they wrote before this time.
    Raised {
        /// In the oplog, after the block took effect.
        fenced_at: ClusterTime,
    },
    /// Somebody else has raised it, and it stays as it is.
    AlreadyOn {
        /// In the oplog, while the block was on.
        fenced_at: ClusterTime,
    },
    /// It cannot be used here.
    Unavailable {
        /// Why, for a person.
        reason: String,
    },
}

/// The server's write block.
#[derive(Debug, Clone, Copy)]
pub struct WriteBlock;

impl WriteBlock {
    /// What the block is. Record this durably before [`WriteBlock::raise`].
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn state(deployment: &Deployment) -> Result<BlockState> {
        if let Some(reason) = why_unavailable(deployment).await? {
            return Ok(BlockState::Unavailable { reason });
        }
        Ok(if is_on(deployment).await? { BlockState::On } else { BlockState::Off })
    }

    /// Raises the block, waiting at most `wait_max` for open transactions to end.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when transactions stay open; the block is off then. Else the server's, sorted: whoever had
    /// recorded `Off` must lift.
    pub async fn raise(deployment: &Deployment, wait_max: Duration) -> Result<FenceOutcome> {
        match Self::state(deployment).await? {
            BlockState::Unavailable { reason } => return Ok(FenceOutcome::Unavailable { reason }),
            BlockState::On => {
                return Ok(FenceOutcome::AlreadyOn { fenced_at: time::majority_now(deployment).await? });
            }
            BlockState::Off => {}
        }
        let wait_ms = i64::try_from(wait_max.as_millis()).unwrap_or(i64::MAX).max(1);
        let raise = doc! { "setUserWriteBlockMode": 1, "global": true, "maxTimeMS": wait_ms };
        if let Err(error) = deployment.run_admin(raise).await {
            return Err(after_failed_raise(deployment, error, wait_max).await);
        }
        Ok(FenceOutcome::Raised { fenced_at: time::majority_now(deployment).await? })
    }

    /// Lifts the block, unless it was on before: `before` is what was recorded. Lifted twice is lifted.
    ///
    /// # Errors
    /// The server's, sorted; try again, since the block survives everything.
    pub async fn lift(deployment: &Deployment, before: &BlockState) -> Result<()> {
        if *before == BlockState::Off {
            deployment.run_admin(doc! { "setUserWriteBlockMode": 1, "global": false }).await?;
        }
        Ok(())
    }
}

/// The block was off before, so what is on now is ours.
async fn after_failed_raise(deployment: &Deployment, error: Error, wait_max: Duration) -> Error {
    if is_on(deployment).await.unwrap_or(true)
        && let Err(lift) = WriteBlock::lift(deployment, &BlockState::Off).await
    {
        return lift;
    }
    match error {
        Error::TimedOut { .. } => Error::TimedOut {
            what: "blocking writes (open transactions must end first)".to_owned(),
            limit_seconds: wait_max.as_secs(),
        },
        other => other,
    }
}

async fn why_unavailable(deployment: &Deployment) -> Result<Option<String>> {
    if deployment.version() < FIRST_VERSION {
        let version = &deployment.identity().version_text;
        return Ok(Some(format!("MongoDB {version} has no write block (6.0 and later have)")));
    }
    if !deployment.identity().auth_enabled {
        return Ok(Some("without authentication the write block would stop the restore itself".to_owned()));
    }
    let status = deployment.run_admin(doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
    if !holds(&status, BYPASS) {
        return Ok(Some(format!(
            "the account lacks {BYPASS}, so the write block would stop the restore itself"
        )));
    }
    if !holds(&status, "setUserWriteBlockMode") {
        return Ok(Some("the account may not set the write block (setUserWriteBlockMode)".to_owned()));
    }
    Ok(None)
}

/// Whether the account holds an action on the cluster.
fn holds(status: &Document, action: &str) -> bool {
    let privileges =
        status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUserPrivileges"));
    privileges.into_iter().flatten().filter_map(Bson::as_document).any(|privilege| {
        let covers = privilege.get_document("resource").is_ok_and(|resource| {
            resource.get_bool("cluster").unwrap_or(false) || resource.get_bool("anyResource").unwrap_or(false)
        });
        let actions = privilege.get_array("actions");
        covers
            && actions.is_ok_and(|actions| {
                actions
                    .iter()
                    .any(|held| matches!(held.as_str(), Some(held) if held == action || held == "anyAction"))
            })
    })
}

async fn is_on(deployment: &Deployment) -> Result<bool> {
    let status =
        deployment.run_admin(doc! { "serverStatus": 1, "metrics": 0, "locks": 0, "tcmalloc": 0 }).await?;
    let mode = status.get_document("repl").ok().and_then(|repl| match repl.get("userWriteBlockMode") {
        Some(Bson::Int32(mode)) => Some(i64::from(*mode)),
        Some(Bson::Int64(mode)) => Some(*mode),
        _ => None,
    });
    mode.map(|mode| mode == MODE_ON)
        .ok_or_else(|| Error::Protocol("serverStatus without userWriteBlockMode".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(resource: Document, action: &str) -> Document {
        doc! { "authInfo": { "authenticatedUserPrivileges": [{ "resource": resource, "actions": ["find", action] }] } }
    }

    #[test]
    fn the_bypass_counts_only_on_the_cluster() {
        assert!(holds(&status(doc! { "cluster": true }, BYPASS), BYPASS));
        assert!(holds(&status(doc! { "anyResource": true }, "anyAction"), BYPASS));
        assert!(!holds(&status(doc! { "db": "", "collection": "" }, BYPASS), BYPASS));
        assert!(!holds(&status(doc! { "cluster": true }, "serverStatus"), BYPASS));
        assert!(!holds(&doc! {}, BYPASS));
    }
}
