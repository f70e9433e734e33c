//! Exports: snapshots that are written to a place outside the vault.

mod buckets;
mod cancel;
mod request;

use model::{
    DeploymentName, WallTime,
    export::{ExportState, Label},
    id::{DeploymentId, ExportBucketId, ExportJobId, ProjectId, SnapshotId},
    job::Progress,
};
use sqlx::any::AnyRow;

pub(crate) use buckets::lock as lock_bucket;
pub use buckets::{ExportBucket, ExportBuckets, NewExportBucket};
pub(crate) use cancel::cancel_of_removed;
pub use request::NewExport;

use crate::{
    Catalog, Listing, Page, Result,
    row::{Columns, statement},
};

/// What is read of an export: its row, the name of its deployment, and how far its work item says that it is.
const COLUMNS: &str = "e.id AS id, e.project_id AS project_id, e.deployment_id AS deployment_id, d.name AS deployment_name, \
    e.snapshot_id AS snapshot_id, e.bucket_id AS bucket_id, e.state AS state, e.prefix AS prefix, \
    e.custom_data AS custom_data, e.scheduled AS scheduled, e.error AS error, e.created_at AS created_at, e.finished_at AS finished_at, \
    j.progress AS progress";
const TABLES: &str = "FROM export_jobs e JOIN deployments d ON d.id = e.deployment_id \
                      LEFT JOIN jobs j ON j.subject_id = e.id";

/// An export of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportJob {
    /// Its id.
    pub id: ExportJobId,
    /// Its project.
    pub project_id: ProjectId,
    /// The deployment that the snapshot is of.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub deployment_name: DeploymentName,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Where it goes.
    pub bucket_id: ExportBucketId,
    /// Where it stands.
    pub state: ExportState,
    /// What the names of all its files begin with.
    pub prefix: String,
    /// What is told again in the marker of its end.
    pub custom_data: Vec<Label>,
    /// Whether a schedule asked for it.
    pub scheduled: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: WallTime,
    /// When it reached a final state.
    pub finished_at: Option<WallTime>,
    /// How far it is, once a worker has told.
    pub progress: Option<Progress>,
}

/// Operations on exports. What their worker writes goes through [`crate::Jobs`].
#[derive(Debug, Clone, Copy)]
pub struct Exports<'a>(pub(crate) &'a Catalog);

impl Exports<'_> {
    /// The export of that id.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: ExportJobId) -> Result<Option<ExportJob>> {
        let row = statement(format!("SELECT {COLUMNS} {TABLES} WHERE e.id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(export_job).transpose()
    }

    /// The exports of a deployment's snapshots, newest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, deployment: DeploymentId, page: Page) -> Result<Listing<ExportJob>> {
        let deployment = deployment.to_string();
        let rows = statement(format!(
            "SELECT {COLUMNS} {TABLES} WHERE e.deployment_id = $1 ORDER BY e.created_at DESC, e.id DESC LIMIT $2 OFFSET $3"
        ))
        .bind(&deployment)
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let count = sqlx::query("SELECT COUNT(*) AS total FROM export_jobs WHERE deployment_id = $1")
            .bind(&deployment);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(export_job).collect::<Result<_>>()?, total })
    }
}

fn export_job(row: &AnyRow) -> Result<ExportJob> {
    Ok(ExportJob {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        deployment_id: row.parsed("deployment_id")?,
        deployment_name: row.parsed("deployment_name")?,
        snapshot_id: row.parsed("snapshot_id")?,
        bucket_id: row.parsed("bucket_id")?,
        state: row.parsed("state")?,
        prefix: row.text("prefix")?,
        custom_data: row.json("custom_data")?,
        scheduled: row.flag("scheduled")?,
        error: row.maybe_text("error")?,
        created_at: row.time("created_at")?,
        finished_at: row.maybe_time("finished_at")?,
        progress: row.maybe_json("progress")?,
    })
}
