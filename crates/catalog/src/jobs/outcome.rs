//! Ending a work item together with its subject.

use model::{
    IllegalTransition, WallTime,
    export::ExportEvent,
    id::JobId,
    job::{JobState, Work},
    restore::RestoreEvent,
    snapshot::SnapshotEvent,
};
use serde_json::Value;
use sqlx::{Any, Transaction, query};

use super::{Completion, Jobs, Lease, Outcome, fence, subject};
use crate::{
    Error, Result,
    row::{Columns, plain, statement, stored, to_json},
    snapshots::DAY_MS,
    transition::{self, Moves},
};

type Tx = Transaction<'static, Any>;

impl Jobs<'_> {
    /// Ends an item: job, subject and pins in one transaction.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::Illegal`] when the subject cannot take this outcome, such as
    /// `RestoreFinished` without a cut-over or `DownloadReady` after a cancel.
    pub async fn finish(&self, lease: &Lease, outcome: Outcome, now: WallTime) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        let (state, error) = match (lease.work, outcome) {
            (Work::Snapshot { .. }, Outcome::SnapshotCompleted(completion)) => {
                complete_snapshot(&mut transaction, lease.work, &completion, now).await?;
                (JobState::Succeeded, None)
            }
            (Work::Restore { .. }, Outcome::RestoreFinished { receipt }) => {
                end_restore(&mut transaction, lease.work, RestoreEvent::Finished, &receipt, now).await?;
                (JobState::Succeeded, None)
            }
            (Work::Restore { .. }, Outcome::RestorePlanned { plan }) => {
                end_restore(&mut transaction, lease.work, RestoreEvent::Planned, &plan, now).await?;
                (JobState::Succeeded, None)
            }
            (Work::Download { .. }, Outcome::DownloadReady { archive, url_token_sha256, expires_at }) => {
                let archive = (&archive, url_token_sha256.as_str(), expires_at);
                ready_download(&mut transaction, lease.work, archive, now).await?;
                (JobState::Succeeded, None)
            }
            (Work::Restore { .. } | Work::Download { .. }, Outcome::Cancelled) => {
                cancel_restore(&mut transaction, lease.work, now).await?;
                (JobState::Cancelled, None)
            }
            (Work::Export { .. }, Outcome::ExportFinished) => {
                end_export(&mut transaction, lease.work, ExportEvent::Finished, now).await?;
                (JobState::Succeeded, None)
            }
            (Work::Export { .. }, Outcome::Cancelled) => {
                end_export(&mut transaction, lease.work, ExportEvent::Cancelled, now).await?;
                (JobState::Cancelled, None)
            }
            (work, Outcome::Failed { error }) => {
                fail_subject(&mut transaction, work, &error, now).await?;
                (JobState::Failed, Some(error))
            }
            (work, outcome) => return Err(mismatch(work, &outcome)),
        };
        end(&mut transaction, lease.job_id, state, error.as_deref(), now).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Ends a job whose row is locked, and lets go of what it pinned.
pub(super) async fn end(
    transaction: &mut Tx,
    id: JobId,
    state: JobState,
    error: Option<&str>,
    now: WallTime,
) -> Result<()> {
    query("UPDATE jobs SET state = $2, error = COALESCE($3, error), lease_owner = NULL, ended_at = $4 WHERE id = $1")
        .bind(id.to_string())
        .bind(state.as_str())
        .bind(error.map(plain))
        .bind(now.0)
        .execute(&mut **transaction)
        .await?;
    query("DELETE FROM job_objects WHERE job_id = $1")
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Fails the snapshot, restore job or export that a work item is about.
pub(super) async fn fail_subject(transaction: &mut Tx, work: Work, error: &str, now: WallTime) -> Result<()> {
    let (table, moves, when) = match work {
        Work::Snapshot { .. } => ("snapshots", transition::snapshot(SnapshotEvent::Failed), ""),
        Work::Restore { .. } | Work::Download { .. } => {
            ("restore_jobs", transition::restore(RestoreEvent::Failed), ", finished_at = $3")
        }
        Work::Export { .. } => ("export_jobs", transition::export(ExportEvent::Failed), ", finished_at = $3"),
    };
    let sql = update(table, &moves, &format!("error = $2{when}"));
    let mut update = statement(sql).bind(subject(work)).bind(plain(error));
    if !when.is_empty() {
        update = update.bind(now.0);
    }
    let done = update.execute(&mut **transaction).await?;
    moved(transaction, work, table, "Failed", done.rows_affected()).await
}

async fn complete_snapshot(transaction: &mut Tx, work: Work, done: &Completion, now: WallTime) -> Result<()> {
    let moves = transition::snapshot(SnapshotEvent::Completed);
    let sets = "completed_at = $2, expires_at = $2 + retention_days * $3, manifest = $4, cluster_seconds = $5, \
                cluster_increment = $6, mongod_version = $7, fcv = $8, replica_set_name = $9, collections = $10, \
                documents = $11, logical_bytes = $12, stored_bytes = $13, added_bytes = $14, notes = $15, \
                last_as_of_seconds = $16, last_as_of_increment = $17, amid_restore = $18";
    let rows = statement(update("snapshots", &moves, sets))
        .bind(subject(work))
        .bind(now.0)
        .bind(DAY_MS)
        .bind(&done.manifest)
        .bind(i64::from(done.cluster_time.seconds))
        .bind(i64::from(done.cluster_time.increment))
        .bind(&done.mongod_version)
        .bind(done.fcv.as_deref())
        .bind(done.replica_set_name.as_deref())
        .bind(stored(done.collections))
        .bind(stored(done.documents))
        .bind(stored(done.logical_bytes))
        .bind(stored(done.stored_bytes))
        .bind(stored(done.added_bytes))
        .bind(to_json(&done.notes))
        .bind(done.last_as_of.map(|t| i64::from(t.seconds)))
        .bind(done.last_as_of.map(|t| i64::from(t.increment)))
        .bind(i64::from(done.amid_restore))
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    moved(transaction, work, "snapshots", "Completed", rows).await
}

async fn end_restore(
    transaction: &mut Tx,
    work: Work,
    event: RestoreEvent,
    receipt: &Value,
    now: WallTime,
) -> Result<()> {
    let moves = transition::restore(event);
    let rows = statement(update("restore_jobs", &moves, "receipt = $2, finished_at = $3"))
        .bind(subject(work))
        .bind(to_json(receipt))
        .bind(now.0)
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    moved(transaction, work, "restore_jobs", &format!("{event:?}"), rows).await
}

async fn ready_download(
    transaction: &mut Tx,
    work: Work,
    (archive, url_token_sha256, expires_at): (&Value, &str, WallTime),
    now: WallTime,
) -> Result<()> {
    let moves = transition::restore(RestoreEvent::Ready);
    let sets = "archive = $2, url_token_sha256 = $3, expires_at = $4, finished_at = $5";
    let rows = statement(update("restore_jobs", &moves, sets))
        .bind(subject(work))
        .bind(to_json(archive))
        .bind(url_token_sha256)
        .bind(expires_at.0)
        .bind(now.0)
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    moved(transaction, work, "restore_jobs", "Ready", rows).await
}

async fn cancel_restore(transaction: &mut Tx, work: Work, now: WallTime) -> Result<()> {
    let moves = transition::restore(RestoreEvent::Cancelled);
    let rows = statement(update("restore_jobs", &moves, "finished_at = $2"))
        .bind(subject(work))
        .bind(now.0)
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    moved(transaction, work, "restore_jobs", "Cancelled", rows).await
}

async fn end_export(transaction: &mut Tx, work: Work, event: ExportEvent, now: WallTime) -> Result<()> {
    let moves = transition::export(event);
    let rows = statement(update("export_jobs", &moves, "finished_at = $2"))
        .bind(subject(work))
        .bind(now.0)
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    moved(transaction, work, "export_jobs", &format!("{event:?}"), rows).await
}

fn update(table: &str, moves: &Moves, sets: &str) -> String {
    format!("UPDATE {table} SET state = {}, {sets} WHERE id = $1 AND state IN {}", moves.next, moves.from)
}

/// A conditional update has to have found its row; if not, the state that stood in its way is told.
async fn moved(transaction: &mut Tx, work: Work, table: &str, event: &str, rows: u64) -> Result<()> {
    if rows > 0 {
        return Ok(());
    }
    let machine = match work {
        Work::Snapshot { .. } => "snapshot",
        Work::Restore { .. } | Work::Download { .. } => "restore job",
        Work::Export { .. } => "export",
    };
    let row = statement(format!("SELECT state FROM {table} WHERE id = $1"))
        .bind(subject(work))
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| Error::not_found(machine, subject(work)))?;
    Err(IllegalTransition { machine, state: row.text("state")?, event: event.to_owned() }.into())
}

fn mismatch(work: Work, outcome: &Outcome) -> Error {
    let event = match outcome {
        Outcome::SnapshotCompleted(_) => "SnapshotCompleted",
        Outcome::RestoreFinished { .. } => "RestoreFinished",
        Outcome::RestorePlanned { .. } => "RestorePlanned",
        Outcome::DownloadReady { .. } => "DownloadReady",
        Outcome::ExportFinished => "ExportFinished",
        Outcome::Failed { .. } => "Failed",
        Outcome::Cancelled => "Cancelled",
    };
    IllegalTransition { machine: "job", state: work.kind().to_owned(), event: event.to_owned() }.into()
}
