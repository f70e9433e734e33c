//! The queue of work items: leases, fencing, progress, outcomes.
//!
//! A work item (job) belongs to one snapshot, one restore job or one export, its subject. A worker claims it, which gives it
//! a lease with an epoch, renews the lease with every heartbeat, and ends it with an outcome that changes
//! job and subject in one transaction. An item whose lease has run out is claimed again, with a higher epoch.

mod claim;
mod lease;
mod outcome;

use model::{
    ClusterTime, WallTime,
    id::{DeploymentId, JobId},
    job::{JobState, Progress, Work},
    restore::RestoreState,
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Result, new_id,
    row::{Columns, placeholders, statement, to_json},
};

pub(crate) use lease::fence;

/// How many unfinished items are shown.
const ACTIVE_MAX: i64 = 1_000;

const COLUMNS: &str =
    "id, work, state, attempts, lease_owner, lease_until, progress, error, created_at, started_at, ended_at";

/// How many times an item is begun before it is given up: enough for a few crashes and restarts, too few for
/// an item that kills its worker to do so for ever.
pub const ATTEMPTS_MAX: u32 = 8;

/// The right to run a work item.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The item.
    pub job_id: JobId,
    /// What to do.
    pub work: Work,
    /// The fencing token: every write carries it.
    pub epoch: i64,
    /// Which attempt this is, from 1 on.
    pub attempt: u32,
    /// What the last heartbeat with a checkpoint saved.
    pub checkpoint: Option<Value>,
    /// State of the restore job at the claim; `cancelling`: only clean up, `cutOver`: go on with that.
    pub restore_state: Option<RestoreState>,
    /// Who holds it.
    pub worker: String,
}

/// A work item, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The item.
    pub id: JobId,
    /// What it does.
    pub work: Work,
    /// Where it stands.
    pub state: JobState,
    /// How often it was begun.
    pub attempts: u32,
    /// Who holds its lease, while it runs.
    pub worker: Option<String>,
    /// Until when, while it runs.
    pub lease_until: Option<WallTime>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Why it failed, or why it will be tried again.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: WallTime,
    /// When it was claimed first.
    pub started_at: Option<WallTime>,
    /// When it ended.
    pub ended_at: Option<WallTime>,
}

/// What a completed snapshot is.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Name of its manifest, durable in the vault.
    pub manifest: String,
    /// The time of the data.
    pub cluster_time: ClusterTime,
    /// The latest time that any of its collections is as of, where it is known.
    pub last_as_of: Option<ClusterTime>,
    /// Whether a restore had staged collections in the deployment at the time of the data.
    pub amid_restore: bool,
    /// Version of mongod.
    pub mongod_version: String,
    /// Feature compatibility version.
    pub fcv: Option<String>,
    /// Name of the replica set.
    pub replica_set_name: Option<String>,
    /// Collections in it.
    pub collections: u64,
    /// Documents in it.
    pub documents: u64,
    /// Bytes of BSON in it.
    pub logical_bytes: u64,
    /// Bytes in the vault of all that it names.
    pub stored_bytes: u64,
    /// Bytes that it added to the vault.
    pub added_bytes: u64,
    /// What is worth knowing.
    pub notes: Value,
}

/// How a work item ended; decides the state of its subject too.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The snapshot is complete.
    SnapshotCompleted(Box<Completion>),
    /// The target was proved equal.
    RestoreFinished {
        /// What was proved.
        receipt: Value,
    },
    /// The plan that was asked for is made, and nothing was touched.
    RestorePlanned {
        /// What would be done.
        plan: Value,
    },
    /// The archive is complete.
    DownloadReady {
        /// The archive.
        archive: Value,
        /// SHA-256 of the token in its URL, in hexadecimal.
        url_token_sha256: String,
        /// When it goes away.
        expires_at: WallTime,
    },
    /// All files of the export are in their place.
    ExportFinished,
    /// It cannot be done.
    Failed {
        /// Why, for people.
        error: String,
    },
    /// It was cancelled, and everything is cleaned up.
    Cancelled,
}

/// Operations on work items.
#[derive(Debug, Clone, Copy)]
pub struct Jobs<'a>(pub(crate) &'a Catalog);

impl Jobs<'_> {
    /// The work item of that id.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>> {
        let row = statement(format!("SELECT {COLUMNS} FROM jobs WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(job).transpose()
    }

    /// The work item of a snapshot, a restore job or an export, by the subject's id as text.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of_subject(&self, subject: &str) -> Result<Option<Job>> {
        let row = statement(format!("SELECT {COLUMNS} FROM jobs WHERE subject_id = $1"))
            .bind(subject)
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(job).transpose()
    }

    /// Items that are queued or running, oldest first, a bounded number.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn active(&self) -> Result<Vec<Job>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM jobs WHERE state IN ('queued', 'running') ORDER BY created_at, id LIMIT $1"
        ))
        .bind(ACTIVE_MAX)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(job).collect()
    }

    /// The items that restore into deployments and had not ended at `time`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn restores_unfinished_at(&self, time: WallTime) -> Result<Vec<JobId>> {
        let rows =
            query("SELECT id FROM jobs WHERE kind = 'restore' AND (ended_at IS NULL OR ended_at >= $1)")
                .bind(time.0)
                .fetch_all(self.0.database.reader())
                .await?;
        rows.iter().map(|row| row.parsed("id")).collect()
    }

    /// The items that restored into deployments that are still registered, ended at `time` or later, and were held by more than
    /// one worker, with their targets, oldest first, a bounded number: an earlier worker may be frozen and wake up yet.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn restores_taken_over_since(&self, time: WallTime) -> Result<Vec<(JobId, DeploymentId)>> {
        let rows = query(
            "SELECT j.id AS id, d.id AS target FROM jobs j JOIN restore_jobs r ON r.id = j.subject_id \
             JOIN deployments d ON d.id = r.target_deployment_id \
             WHERE j.kind = 'restore' AND j.lease_epoch > 1 AND j.ended_at >= $1 AND d.removed_at IS NULL \
             ORDER BY j.ended_at, j.id LIMIT $2",
        )
        .bind(time.0)
        .bind(ACTIVE_MAX)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(|row| Ok((row.parsed("id")?, row.parsed("target")?))).collect()
    }

    /// When the next item of these kinds can be claimed, as things stand: now or earlier when one waits.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn next_wakeup(&self, kinds: &[&str]) -> Result<Option<WallTime>> {
        let mut select = statement(format!(
            "SELECT MIN({CLAIMABLE_AT}) AS at FROM jobs WHERE state IN ('queued', 'running'){}",
            of_kinds(kinds, 1)
        ));
        for kind in kinds {
            select = select.bind((*kind).to_owned());
        }
        select.fetch_one(self.0.database.reader()).await?.maybe_time("at")
    }
}

/// When an unfinished item can be claimed.
const CLAIMABLE_AT: &str = "CASE state WHEN 'queued' THEN run_at ELSE lease_until END";

/// A condition on the kind, with placeholders from `first` on; empty when all kinds are meant.
fn of_kinds(kinds: &[&str], first: usize) -> String {
    if kinds.is_empty() {
        String::new()
    } else {
        format!(" AND kind IN ({})", placeholders(first, kinds.len()))
    }
}

/// Enters the work item of a new subject.
pub(crate) async fn insert(
    transaction: &mut Transaction<'static, Any>,
    work: Work,
    subject: &str,
    now: WallTime,
) -> Result<()> {
    query(
        "INSERT INTO jobs (id, kind, subject_id, work, state, run_at, attempts, lease_until, lease_epoch, pinned_in, \
         created_at) VALUES ($1, $2, $3, $4, 'queued', $5, 0, 0, 0, 0, $5)",
    )
    .bind(new_id::<Job>(now).to_string())
    .bind(work.kind())
    .bind(subject)
    .bind(to_json(&work))
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The id of the snapshot, restore job or export that the work is about, as text.
fn subject(work: Work) -> String {
    match work {
        Work::Snapshot { snapshot_id } => snapshot_id.to_string(),
        Work::Restore { restore_job_id } | Work::Download { restore_job_id } => restore_job_id.to_string(),
        Work::Export { export_job_id } => export_job_id.to_string(),
    }
}

fn job(row: &AnyRow) -> Result<Job> {
    let state: JobState = row.parsed("state")?;
    let running = state == JobState::Running;
    Ok(Job {
        id: row.parsed("id")?,
        work: row.json("work")?,
        state,
        attempts: row.small("attempts")?,
        worker: row.maybe_text("lease_owner")?.filter(|_| running),
        lease_until: if running { Some(row.time("lease_until")?) } else { None },
        progress: row.maybe_json("progress")?,
        error: row.maybe_text("error")?,
        created_at: row.time("created_at")?,
        started_at: row.maybe_time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
    })
}
