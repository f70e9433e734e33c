//! Claiming a work item.

use model::{
    WallTime,
    export::ExportEvent,
    id::JobId,
    job::{JobState, Work},
    restore::{RestoreEvent, RestoreState},
    snapshot::SnapshotEvent,
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow};

use super::{ATTEMPTS_MAX, CLAIMABLE_AT, Jobs, Lease, of_kinds, outcome, subject};
use crate::{
    Result,
    row::{Columns, plain, statement},
    transition,
};

/// How many items that cannot be run are put away in one call before the caller gets its turn again.
const PUT_AWAY_MAX: usize = 64;

/// What became of the oldest item that can be claimed.
enum Claimed {
    /// There is none.
    None,
    /// It cannot be run any more and was put away.
    PutAway,
    /// It is ours.
    Lease(Box<Lease>),
}

impl Jobs<'_> {
    /// Claims the oldest item of these kinds ([`model::job::Work::kind`]; none means all) that waits or whose lease
    /// has run out. Items that were begun too often are given up on the way, with their subjects.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn claim(
        &self,
        worker: &str,
        kinds: &[&str],
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Option<Lease>> {
        for _ in 0..PUT_AWAY_MAX {
            // Idle workers ask often; on SQLite a look costs nothing while a transaction that writes excludes others.
            if self.next_wakeup(kinds).await?.is_none_or(|at| at > now) {
                return Ok(None);
            }
            match self.claim_oldest(worker, kinds, now, lease_ms).await? {
                Claimed::None => return Ok(None),
                Claimed::PutAway => {}
                Claimed::Lease(lease) => return Ok(Some(*lease)),
            }
        }
        Ok(None)
    }

    async fn claim_oldest(
        &self,
        worker: &str,
        kinds: &[&str],
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Claimed> {
        let mut transaction = self.0.database.begin().await?;
        let mut select = statement(format!(
            "SELECT id, work, attempts, error FROM jobs WHERE state IN ('queued', 'running') AND {CLAIMABLE_AT} <= $1{} \
             ORDER BY created_at, id LIMIT 1{}",
            of_kinds(kinds, 2),
            self.0.database.skip_locked()
        ))
        .bind(now.0);
        for kind in kinds {
            select = select.bind((*kind).to_owned());
        }
        let Some(row) = select.fetch_optional(&mut *transaction).await? else { return Ok(Claimed::None) };
        let (id, work): (JobId, Work) = (row.parsed("id")?, row.json("work")?);

        let claimed = if row.small("attempts")? >= ATTEMPTS_MAX {
            give_up(&mut transaction, id, work, &row, now).await?;
            Claimed::PutAway
        } else {
            match take_subject(&mut transaction, work).await? {
                Some(restore_state) => {
                    let mut lease =
                        take(&mut transaction, id, work, worker, now.plus_ms(lease_ms), now).await?;
                    lease.restore_state = restore_state;
                    Claimed::Lease(Box::new(lease))
                }
                None => {
                    let reason = "what it was about has ended already";
                    outcome::end(&mut transaction, id, JobState::Cancelled, Some(reason), now).await?;
                    Claimed::PutAway
                }
            }
        };
        transaction.commit().await?;
        Ok(claimed)
    }
}

/// The row is locked, by `FOR UPDATE` or by the one writer that there is: no condition can fail here.
async fn take(
    transaction: &mut Transaction<'static, Any>,
    id: JobId,
    work: Work,
    worker: &str,
    lease_until: WallTime,
    now: WallTime,
) -> Result<Lease> {
    // A job taken over keeps its pins, and with them the generation that it is known to have pinned in.
    let row = sqlx::query(
        "UPDATE jobs SET state = 'running', lease_owner = $2, lease_until = $3, lease_epoch = lease_epoch + 1, \
         attempts = attempts + 1, started_at = COALESCE(started_at, $4), \
         pinned_in = CASE WHEN lease_epoch = 0 THEN (SELECT c.generation FROM collector c WHERE c.id = 1) ELSE pinned_in END \
         WHERE id = $1 RETURNING lease_epoch, attempts, checkpoint",
    )
    .bind(id.to_string())
    .bind(plain(worker))
    .bind(lease_until.0)
    .bind(now.0)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Lease {
        job_id: id,
        work,
        epoch: row.int("lease_epoch")?,
        attempt: row.small("attempts")?,
        checkpoint: row.maybe_json::<Value>("checkpoint")?,
        restore_state: None,
        worker: worker.to_owned(),
    })
}

/// Tells the subject that it was claimed. `None` when it is past that; else the state of a restore job.
async fn take_subject(
    transaction: &mut Transaction<'static, Any>,
    work: Work,
) -> Result<Option<Option<RestoreState>>> {
    let (table, moves) = match work {
        Work::Snapshot { .. } => ("snapshots", transition::snapshot(SnapshotEvent::Claimed)),
        Work::Restore { .. } | Work::Download { .. } => {
            ("restore_jobs", transition::restore(RestoreEvent::Claimed))
        }
        Work::Export { .. } => ("export_jobs", transition::export(ExportEvent::Claimed)),
    };
    let row = statement(format!(
        "UPDATE {table} SET state = {} WHERE id = $1 AND state IN {} RETURNING state",
        moves.next, moves.from
    ))
    .bind(subject(work))
    .fetch_optional(&mut **transaction)
    .await?;
    match (row, work) {
        (None, _) => Ok(None),
        (Some(_), Work::Snapshot { .. } | Work::Export { .. }) => Ok(Some(None)),
        (Some(row), Work::Restore { .. } | Work::Download { .. }) => {
            row.parsed("state").map(|state| Some(Some(state)))
        }
    }
}

/// Fails an item that was begun too often, and what it was about.
async fn give_up(
    transaction: &mut Transaction<'static, Any>,
    id: JobId,
    work: Work,
    row: &AnyRow,
    now: WallTime,
) -> Result<()> {
    let last =
        row.maybe_text("error")?.map(|error| format!("; the last one said: {error}")).unwrap_or_default();
    let reason = format!("given up after {ATTEMPTS_MAX} attempts, none of which came to an end{last}");
    outcome::fail_subject(transaction, work, &reason, now).await?;
    outcome::end(transaction, id, JobState::Failed, Some(&reason), now).await
}
