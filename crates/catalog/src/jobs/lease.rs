//! What the holder of a lease does while it runs.

use model::{
    WallTime,
    export::ExportState,
    job::{Directive, Progress},
    restore::RestoreState,
};
use serde_json::Value;
use sqlx::{Any, Transaction, query};

use super::{Jobs, Lease};
use crate::{
    Error, Result,
    row::{Columns, plain, to_json},
};

impl Jobs<'_> {
    /// Renews the lease, reports progress, saves a checkpoint and learns what to do: one statement.
    ///
    /// # Errors
    /// When the database cannot be used; the lease may still be held then.
    pub async fn heartbeat(
        &self,
        lease: &Lease,
        now: WallTime,
        lease_ms: i64,
        progress: Option<&Progress>,
        checkpoint: Option<&Value>,
    ) -> Result<Directive> {
        let row = query(
            "UPDATE jobs SET lease_until = $3, progress = COALESCE($4, progress), checkpoint = COALESCE($5, checkpoint) \
             WHERE id = $1 AND lease_epoch = $2 AND state = 'running' \
             RETURNING (SELECT r.state FROM restore_jobs r WHERE r.id = jobs.subject_id) AS restore_state, \
             (SELECT e.state FROM export_jobs e WHERE e.id = jobs.subject_id) AS export_state",
        )
        .bind(lease.job_id.to_string())
        .bind(lease.epoch)
        .bind(now.plus_ms(lease_ms).0)
        .bind(progress.map(to_json))
        .bind(checkpoint.map(to_json))
        .fetch_optional(self.0.database.writer())
        .await?;
        let Some(row) = row else { return Ok(Directive::Lost) };
        let restore = row.maybe_parsed("restore_state")? == Some(RestoreState::Cancelling);
        let export = row.maybe_parsed("export_state")? == Some(ExportState::Cancelling);
        Ok(if restore || export { Directive::Cancel } else { Directive::Continue })
    }

    /// Gives an item back at a clean shutdown: it can be claimed at once, and this attempt does not count.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        // The epoch moves on, so that whoever gave it back cannot write by mistake before somebody else takes it.
        // No time of ours is written: where our clock is ahead of others', they would wait for it.
        let done = query(
            "UPDATE jobs SET lease_until = 0, lease_owner = NULL, lease_epoch = lease_epoch + 1, \
             attempts = attempts - 1 WHERE id = $1 AND lease_epoch = $2 AND state = 'running'",
        )
        .bind(lease.job_id.to_string())
        .bind(lease.epoch)
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }

    /// Gives an item back to be tried again at `run_at`; the attempt counts.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn retry_at(&self, lease: &Lease, run_at: WallTime, reason: &str) -> Result<()> {
        self.give_back(lease, run_at, reason, 0).await
    }

    /// The same, and the attempt does not count: for a job that may not be given up yet.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn postpone(&self, lease: &Lease, run_at: WallTime, reason: &str) -> Result<()> {
        self.give_back(lease, run_at, reason, 1).await
    }

    async fn give_back(&self, lease: &Lease, run_at: WallTime, reason: &str, not_counted: i64) -> Result<()> {
        let done = query(
            "UPDATE jobs SET state = 'queued', run_at = $3, lease_owner = NULL, lease_epoch = lease_epoch + 1, \
             attempts = attempts - $5, error = $4 WHERE id = $1 AND lease_epoch = $2 AND state = 'running'",
        )
        .bind(lease.job_id.to_string())
        .bind(lease.epoch)
        .bind(run_at.0)
        .bind(plain(reason))
        .bind(not_counted)
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }
}

/// Makes sure that the lease holds, and goes on holding until the transaction ends: whoever wants to take the
/// job over has to wait for this row.
pub(crate) async fn fence(transaction: &mut Transaction<'static, Any>, lease: &Lease) -> Result<()> {
    let done = query(
        "UPDATE jobs SET lease_epoch = lease_epoch WHERE id = $1 AND lease_epoch = $2 AND state = 'running'",
    )
    .bind(lease.job_id.to_string())
    .bind(lease.epoch)
    .execute(&mut **transaction)
    .await?;
    held(lease, done.rows_affected())
}

fn held(lease: &Lease, rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::LeaseLost { what: format!("job {}", lease.job_id) }) } else { Ok(()) }
}
