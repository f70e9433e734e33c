//! The life of an archive: fetched as often as it may be, or gone when its time is over.

use model::{WallTime, id::RestoreJobId, job::Work, restore::RestoreEvent};
use serde_json::Value;
use sqlx::{Any, Executor, query};

use super::{COLUMNS, RestoreJob, Restores, restore_job};
use crate::{
    Lease, Result,
    jobs::fence,
    row::{Columns, statement, to_json},
    transition,
};

/// How many rows a reconciler takes at a time.
const BATCH: i64 = 200;

impl Restores<'_> {
    /// Counts the beginning of a fetch; `None` unless the job is ready, the hash is that of its token and its
    /// time is not over.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn begin_delivery(
        &self,
        id: RestoreJobId,
        url_token_sha256: &str,
        now: WallTime,
    ) -> Result<Option<RestoreJob>> {
        let row = statement(format!(
            "UPDATE restore_jobs SET deliveries = deliveries + 1 \
             WHERE id = $1 AND url_token_sha256 = $2 AND expires_at > $3 AND state = 'ready' RETURNING {COLUMNS}"
        ))
        .bind(id.to_string())
        .bind(url_token_sha256)
        .bind(now.0)
        .fetch_optional(self.0.database.writer())
        .await?;
        row.as_ref().map(restore_job).transpose()
    }

    /// The archive was fetched completely, once more: the last time that it may be, the URL dies. `false` when it was dead
    /// already.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn consume_download(
        &self,
        id: RestoreJobId,
        url_token_sha256: &str,
        now: WallTime,
    ) -> Result<bool> {
        let moves = transition::restore(RestoreEvent::Expired);
        let done = statement(format!(
            "UPDATE restore_jobs SET downloads = downloads + 1, \
             state = CASE WHEN downloads + 1 >= downloads_max THEN {} ELSE state END, \
             expires_at = CASE WHEN downloads + 1 >= downloads_max THEN $3 ELSE expires_at END \
             WHERE id = $1 AND url_token_sha256 = $2 AND state IN {}",
            moves.next, moves.from
        ))
        .bind(id.to_string())
        .bind(url_token_sha256)
        .bind(now.0)
        .execute(self.0.database.writer())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Expires archives whose time is over; the jobs that it was.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn expire_due(&self, now: WallTime) -> Result<Vec<RestoreJobId>> {
        expire_due(self.0.database.writer(), None, now).await
    }

    /// Jobs in a final state whose archive is still in the vault, a bounded number.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn dead_archives(&self) -> Result<Vec<RestoreJob>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM restore_jobs WHERE archive IS NOT NULL \
             AND state IN ('finished', 'failed', 'cancelled', 'expired') ORDER BY id LIMIT $1"
        ))
        .bind(BATCH)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(restore_job).collect()
    }

    /// Forgets the archive of a job in a final state, after it was deleted from the vault.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn forget_archive(&self, id: RestoreJobId) -> Result<()> {
        query(
            "UPDATE restore_jobs SET archive = NULL \
             WHERE id = $1 AND state IN ('finished', 'failed', 'cancelled', 'expired')",
        )
        .bind(id.to_string())
        .execute(self.0.database.writer())
        .await?;
        Ok(())
    }

    /// Records the archive under construction, so that it is found and deleted if the job dies.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`].
    pub async fn record_archive(&self, lease: &Lease, archive: &Value) -> Result<()> {
        let Work::Download { restore_job_id: id } = lease.work else {
            let (state, event) = (lease.work.kind().to_owned(), "an archive".to_owned());
            return Err(model::IllegalTransition { machine: "job", state, event }.into());
        };
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        query("UPDATE restore_jobs SET archive = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(to_json(archive))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Expires archives whose time is over, that of one job or all, alone or as part of a transaction.
pub(super) async fn expire_due<'c>(
    executor: impl Executor<'c, Database = Any>,
    only: Option<RestoreJobId>,
    now: WallTime,
) -> Result<Vec<RestoreJobId>> {
    let moves = transition::restore(RestoreEvent::Expired);
    let rows = statement(format!(
        "UPDATE restore_jobs SET state = {} WHERE expires_at <= $1 AND ($2 IS NULL OR id = $2) AND state IN {} \
         RETURNING id",
        moves.next, moves.from
    ))
    .bind(now.0)
    .bind(only.map(|id| id.to_string()))
    .fetch_all(executor)
    .await?;
    rows.iter().map(|row| row.parsed("id")).collect()
}
