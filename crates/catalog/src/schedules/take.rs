//! Taking what is due, once.

use model::{
    WallTime,
    schedule::{Due, FrequencyType},
};
use sqlx::{Any, Transaction, query};

use super::{DeploymentSchedule, Schedules};
use crate::{
    Error, NewSnapshot, Result, Snapshot, SnapshotPolicy, SnapshotType, deployments, row::Columns, snapshots,
};

/// What became of a snapshot that was due.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It is queued.
    Queued(Box<Snapshot>),
    /// Left out, since the one before it is not done; the next hour is soon.
    Skipped,
    /// Put off until the one before it is done: whatever is taken but once a day or more seldom would leave a hole.
    PutOff,
    /// Seen to by somebody else, or no longer wanted.
    NotOurs,
}

impl Schedules<'_> {
    /// Asks for the snapshot that is due, unless one that this schedule took is queued or in progress. `seen` is the
    /// schedule that it was computed from: when that has been changed, moved on or deleted since, nothing happens.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn take(&self, seen: &DeploymentSchedule, due: &Due, now: WallTime) -> Result<Taken> {
        let mut transaction = self.0.database.begin().await?;
        let project = match deployments::lock(&mut transaction, seen.deployment_id).await {
            Ok(locked) => locked.project_id,
            Err(Error::NotFound { .. }) => return Ok(Taken::NotOurs),
            Err(error) => return Err(error),
        };
        let is_busy = is_busy(&mut transaction, seen).await?;
        if is_busy && due.frequency.kind() != FrequencyType::Hourly {
            return Ok(Taken::PutOff);
        }
        if !move_on(&mut transaction, seen, due.at).await? {
            return Ok(Taken::NotOurs);
        }
        // A clock that went back and forth comes by the same time twice.
        let taken = if is_busy {
            Taken::Skipped
        } else if is_taken(&mut transaction, seen, due.at).await? {
            Taken::NotOurs
        } else {
            let new = NewSnapshot {
                deployment_id: seen.deployment_id,
                snapshot_type: SnapshotType::Scheduled,
                description: None,
                retention_days: Some(due.retention_days),
            };
            let policy =
                SnapshotPolicy { frequency: due.frequency, items: due.items.clone(), due_at: due.at };
            let snapshot = snapshots::insert(&mut transaction, project, new, Some(&policy), now).await?;
            Taken::Queued(Box::new(snapshot))
        };
        transaction.commit().await?;
        Ok(taken)
    }
}

/// Whether a snapshot that the schedule took is not done yet. Bases of timelines and those on demand stand in nobody's way.
async fn is_busy(transaction: &mut Transaction<'static, Any>, seen: &DeploymentSchedule) -> Result<bool> {
    let row = query(
        "SELECT COUNT(*) AS unfinished FROM snapshots WHERE deployment_id = $1 AND due_at IS NOT NULL \
         AND state IN ('queued', 'inProgress')",
    )
    .bind(seen.deployment_id.to_string())
    .fetch_one(&mut **transaction)
    .await?;
    row.flag("unfinished")
}

async fn is_taken(
    transaction: &mut Transaction<'static, Any>,
    seen: &DeploymentSchedule,
    at: WallTime,
) -> Result<bool> {
    let row = query("SELECT COUNT(*) AS taken FROM snapshots WHERE deployment_id = $1 AND due_at = $2")
        .bind(seen.deployment_id.to_string())
        .bind(at.0)
        .fetch_one(&mut **transaction)
        .await?;
    row.flag("taken")
}

/// The one update that decides who takes what is due.
async fn move_on(
    transaction: &mut Transaction<'static, Any>,
    seen: &DeploymentSchedule,
    to: WallTime,
) -> Result<bool> {
    let done = query(
        "UPDATE schedules SET handled_until = $4 WHERE deployment_id = $1 AND revision = $2 AND handled_until = $3",
    )
    .bind(seen.deployment_id.to_string())
    .bind(seen.revision)
    .bind(seen.handled_until.0)
    .bind(to.0)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}
