//! Asking for an export.

use model::{
    IllegalTransition, WallTime,
    export::{ExportState, Label, Origin, fits_a_path},
    id::{DeploymentId, ExportBucketId, ExportJobId, SnapshotId},
    job::Work,
    organization::Organization,
    snapshot::SnapshotState,
};
use sqlx::{Any, Transaction, query};

use super::{COLUMNS, ExportJob, Exports, TABLES, buckets, export_job};
use crate::{
    Conflict, Error, Result,
    deployments::{self, Locked},
    error::is_duplicate,
    jobs, new_id,
    row::{Columns, plain, statement, to_json},
};

type Tx = Transaction<'static, Any>;

/// What is needed to ask for an export.
#[derive(Debug, Clone)]
pub struct NewExport<'a> {
    /// The deployment that the snapshot is of; not removed.
    pub deployment_id: DeploymentId,
    /// The snapshot; it has to be completed.
    pub snapshot_id: SnapshotId,
    /// Where it goes: a bucket of the same project.
    pub bucket_id: ExportBucketId,
    /// What the marker of its end is to tell.
    pub custom_data: Vec<Label>,
    /// The organization, for the names of the files.
    pub organization: &'a Organization,
    /// Whether a schedule asks for it, which it does once for a snapshot.
    pub scheduled: bool,
}

impl Exports<'_> {
    /// Asks for an export: its row and its work item, in one transaction.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the deployment, the snapshot or the export bucket (`what` says which),
    /// [`crate::Error::Illegal`] when the snapshot is not completed, [`crate::Conflict::SnapshotExporting`].
    pub async fn request(&self, new: NewExport<'_>, now: WallTime) -> Result<ExportJob> {
        let mut transaction = self.0.database.begin().await?;
        let deployment = deployments::lock(&mut transaction, new.deployment_id).await?;
        if buckets::lock(&mut transaction, new.bucket_id).await? != deployment.project_id {
            return Err(Error::not_found("export bucket", new.bucket_id));
        }
        let snapshot_requested_at = lock_snapshot(&mut transaction, &new).await?;
        let project = deployment.project_id.to_string();
        let name = name_in_paths(&mut transaction, new.deployment_id).await?;
        // Names of other alphabets get long when they are escaped. Then it is the ids.
        let name = name.filter(|name| fits_a_path(name) && fits_a_path(&new.organization.name));
        let (organization, project) = name
            .as_ref()
            .map_or((&new.organization.id, &project), |project| (&new.organization.name, project));
        let origin =
            Origin { organization, project, deployment: deployment.name.as_str(), snapshot_requested_at };
        let prefix = unused_prefix(&mut transaction, &origin, now).await?;
        let id: ExportJobId = new_id(now);
        insert(&mut transaction, id, &new, &deployment, &prefix, now).await?;
        jobs::insert(&mut transaction, Work::Export { export_job_id: id }, &id.to_string(), now).await?;
        let row = statement(format!("SELECT {COLUMNS} {TABLES} WHERE e.id = $1"))
            .bind(id.to_string())
            .fetch_one(&mut *transaction)
            .await?;
        let job = export_job(&row)?;
        transaction.commit().await?;
        Ok(job)
    }
}

/// The name of the project of a deployment that is locked, where its schedule says that paths have it.
async fn name_in_paths(transaction: &mut Tx, deployment: DeploymentId) -> Result<Option<String>> {
    let row = query(
        "SELECT p.name AS name FROM schedules s JOIN deployments d ON d.id = s.deployment_id \
         JOIN projects p ON p.id = d.project_id WHERE s.deployment_id = $1 AND s.names_in_exports = 1",
    )
    .bind(deployment.to_string())
    .fetch_optional(&mut **transaction)
    .await?;
    row.map(|row| row.text("name")).transpose()
}

/// Locks a completed snapshot of the deployment, so that it is not deleted before the job that reads it is there. When it
/// was asked for.
async fn lock_snapshot(transaction: &mut Tx, new: &NewExport<'_>) -> Result<WallTime> {
    let row = query(
        "UPDATE snapshots SET state = state WHERE id = $1 AND deployment_id = $2 RETURNING state, requested_at",
    )
    .bind(new.snapshot_id.to_string())
    .bind(new.deployment_id.to_string())
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Error::not_found("snapshot", new.snapshot_id))?;
    let state: SnapshotState = row.parsed("state")?;
    if state != SnapshotState::Completed {
        let (state, event) = (state.as_str().to_owned(), "an export".to_owned());
        return Err(IllegalTransition { machine: "snapshot", state, event }.into());
    }
    row.time("requested_at")
}

/// The prefix of this second, or of the first one after it that no other export has. The lock on the deployment keeps
/// others from taking it.
async fn unused_prefix(transaction: &mut Tx, origin: &Origin<'_>, now: WallTime) -> Result<String> {
    let mut seconds = now.seconds();
    loop {
        let prefix = origin.prefix(seconds);
        let taken = query("SELECT id FROM export_jobs WHERE prefix = $1")
            .bind(&prefix)
            .fetch_optional(&mut **transaction)
            .await?;
        if taken.is_none() {
            return Ok(prefix);
        }
        seconds += 1;
    }
}

async fn insert(
    transaction: &mut Tx,
    id: ExportJobId,
    new: &NewExport<'_>,
    deployment: &Locked,
    prefix: &str,
    now: WallTime,
) -> Result<()> {
    let custom_data = to_json(&new.custom_data);
    let done = query(
        "INSERT INTO export_jobs (id, project_id, deployment_id, snapshot_id, bucket_id, state, prefix, custom_data, \
         scheduled, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(id.to_string())
    .bind(deployment.project_id.to_string())
    .bind(new.deployment_id.to_string())
    .bind(new.snapshot_id.to_string())
    .bind(new.bucket_id.to_string())
    .bind(ExportState::Queued.as_str())
    .bind(prefix)
    .bind(plain(&custom_data))
    .bind(i64::from(new.scheduled))
    .bind(now.0)
    .execute(&mut **transaction)
    .await;
    match done {
        // The only thing that can be there twice: an active export of the same snapshot, or its schedule's.
        Err(error) if is_duplicate(&error) => Err(Conflict::SnapshotExporting.into()),
        other => Ok(other.map(drop)?),
    }
}
