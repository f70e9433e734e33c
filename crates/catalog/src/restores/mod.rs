//! Restore jobs: what was asked for, and what became of it.

use model::{
    DeploymentName, LinkTerms, WallTime,
    id::{DeploymentId, ProjectId, RestoreJobId, SnapshotId},
    restore::{DeliveryType, RestoreResource, RestoreState},
    timeline::PointInTime,
};
use serde_json::Value;
use sqlx::any::AnyRow;

use crate::{
    Catalog, Error, Listing, Page, Result,
    row::{Columns, statement},
};

mod cancel;
mod collections;
mod delivery;
mod request;

pub use collections::{CollectionFilter, CollectionSums, RestoredCollection};

pub(crate) const COLUMNS: &str = "id, project_id, deployment_id, deployment_name, snapshot_id, snapshot_completed_at, \
    delivery, state, target_project_id, target_deployment_id, target_deployment_name, options, error, receipt, archive, \
    url_token_sha256, expires_at, downloads, downloads_max, link_hours, deliveries, created_at, finished_at, point_in_time, resource";

/// The most active downloads of one project; Atlas's limit.
pub const PROJECT_DOWNLOADS_MAX: u32 = 20;

/// A restore job.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreJob {
    /// Its id.
    pub id: RestoreJobId,
    /// Project of the source.
    pub project_id: ProjectId,
    /// The deployment that the snapshot is of.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub deployment_name: DeploymentName,
    /// The snapshot; for a point in time the one that the fold begins with.
    pub snapshot_id: SnapshotId,
    /// When the snapshot was completed; the API's `timestamp`.
    pub snapshot_completed_at: WallTime,
    /// As what it was asked for.
    pub resource: RestoreResource,
    /// How the data is delivered.
    pub delivery: DeliveryType,
    /// The point in time that is wanted, if it is not the snapshot's own.
    pub point_in_time: Option<PointInTime>,
    /// Where the job stands.
    pub state: RestoreState,
    /// Where the data goes, for all but downloads.
    pub target: Option<Target>,
    /// What was chosen: `withUsers`, `inPlace`, ….
    pub options: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// What was proved, once finished.
    pub receipt: Option<Value>,
    /// The archive, once ready, until it is deleted.
    pub archive: Option<Value>,
    /// SHA-256 of the token in the URL, in hexadecimal, once ready.
    pub url_token_sha256: Option<String>,
    /// When the archive goes away, once ready.
    pub expires_at: Option<WallTime>,
    /// On which terms the archive is offered.
    pub terms: LinkTerms,
    /// How many times the archive was fetched completely.
    pub downloads: u64,
    /// How many times a fetch of the archive began.
    pub deliveries: u64,
    /// When it was asked for.
    pub created_at: WallTime,
    /// When it reached a final state (or, for a download, when the archive was ready).
    pub finished_at: Option<WallTime>,
}

/// Where restored data goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its project.
    pub project_id: ProjectId,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Its name.
    pub deployment_name: DeploymentName,
}

/// How a new restore delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Into a deployment.
    Automated {
        /// Which one.
        target: DeploymentId,
    },
    /// As an archive.
    Download {
        /// On which terms.
        terms: LinkTerms,
    },
    /// Into a deployment, as of a point in time.
    PointInTime {
        /// Which one.
        target: DeploymentId,
        /// The point; the snapshot has to lie at or before it.
        at: PointInTime,
    },
}

impl Delivery {
    /// Its word in the model.
    pub const fn kind(self) -> DeliveryType {
        match self {
            Self::Automated { .. } => DeliveryType::Automated,
            Self::Download { .. } => DeliveryType::Download,
            Self::PointInTime { .. } => DeliveryType::PointInTime,
        }
    }

    /// The deployment that it is into.
    pub const fn target(self) -> Option<DeploymentId> {
        match self {
            Self::Automated { target } | Self::PointInTime { target, .. } => Some(target),
            Self::Download { .. } => None,
        }
    }

    /// On which terms its archive is offered, if it has one.
    pub(crate) const fn terms(self) -> LinkTerms {
        match self {
            Self::Download { terms } => terms,
            Self::Automated { .. } | Self::PointInTime { .. } => LinkTerms::ONCE_WITHIN_AN_HOUR,
        }
    }

    /// The point in time that it is to.
    pub const fn point_in_time(self) -> Option<PointInTime> {
        match self {
            Self::PointInTime { at, .. } => Some(at),
            Self::Automated { .. } | Self::Download { .. } => None,
        }
    }
}

/// What is needed to ask for a restore.
#[derive(Debug, Clone)]
pub struct NewRestore {
    /// The snapshot; it has to be completed.
    pub snapshot_id: SnapshotId,
    /// How to deliver it.
    pub delivery: Delivery,
    /// What was chosen.
    pub options: Value,
}

/// Which restore jobs a list is about.
#[derive(Debug, Clone, Copy)]
pub struct RestoreFilter {
    /// Whose snapshots are restored.
    pub deployment_id: DeploymentId,
    /// As what they were asked for; whatever that is when it is absent.
    pub resource: Option<RestoreResource>,
}

/// Operations on restore jobs. What their worker writes goes through [`crate::Jobs`].
#[derive(Debug, Clone, Copy)]
pub struct Restores<'a>(pub(crate) &'a Catalog);

impl Restores<'_> {
    /// The restore job of that id. One statement.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: RestoreJobId) -> Result<Option<RestoreJob>> {
        let row = statement(format!("SELECT {COLUMNS} FROM restore_jobs WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(restore_job).transpose()
    }

    /// Whether a restore into a deployment, under whatever name, was asked for and has not ended.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn is_target(&self, deployment: DeploymentId) -> Result<bool> {
        let found = statement(
            "SELECT id FROM restore_jobs WHERE delivery <> 'download' AND state IN ('queued', 'running', 'cancelling', 'cutOver') \
             AND (target_deployment_id = $1 OR target_replica_set_id = \
             (SELECT replica_set_id FROM deployments WHERE id = $1)) LIMIT 1"
                .to_owned(),
        )
        .bind(deployment.to_string())
        .fetch_optional(self.0.database.reader())
        .await?;
        Ok(found.is_some())
    }

    /// Restore jobs, newest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, filter: RestoreFilter, page: Page) -> Result<Listing<RestoreJob>> {
        const WANTED: &str =
            "FROM restore_jobs WHERE deployment_id = $1 AND resource = COALESCE($2, resource)";
        let deployment = filter.deployment_id.to_string();
        let resource = filter.resource.map(RestoreResource::as_str);
        let rows = statement(format!(
            "SELECT {COLUMNS} {WANTED} ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4"
        ))
        .bind(&deployment)
        .bind(resource)
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let count = statement(format!("SELECT COUNT(*) AS total {WANTED}")).bind(&deployment).bind(resource);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(restore_job).collect::<Result<_>>()?, total })
    }
}

fn restore_job(row: &AnyRow) -> Result<RestoreJob> {
    Ok(RestoreJob {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        deployment_id: row.parsed("deployment_id")?,
        deployment_name: row.parsed("deployment_name")?,
        snapshot_id: row.parsed("snapshot_id")?,
        snapshot_completed_at: row.time("snapshot_completed_at")?,
        resource: row.parsed("resource")?,
        delivery: row.parsed("delivery")?,
        point_in_time: row.maybe_json("point_in_time")?,
        state: row.parsed("state")?,
        target: target(row)?,
        options: row.json("options")?,
        error: row.maybe_text("error")?,
        receipt: row.maybe_json("receipt")?,
        archive: row.maybe_json("archive")?,
        url_token_sha256: row.maybe_text("url_token_sha256")?,
        expires_at: row.maybe_time("expires_at")?,
        terms: terms(row)?,
        downloads: row.count("downloads")?,
        deliveries: row.count("deliveries")?,
        created_at: row.time("created_at")?,
        finished_at: row.maybe_time("finished_at")?,
    })
}

fn terms(row: &AnyRow) -> Result<LinkTerms> {
    let number = |column: &str| Ok::<_, Error>(u32::try_from(row.count(column)?).unwrap_or(u32::MAX));
    LinkTerms::new(number("link_hours")?, number("downloads_max")?)
        .map_err(|bad| Error::corrupt(format!("columns link_hours, downloads_max: {bad}")))
}

fn target(row: &AnyRow) -> Result<Option<Target>> {
    let Some(deployment_id) = row.maybe_parsed("target_deployment_id")? else { return Ok(None) };
    let (project_id, deployment_name) =
        (row.parsed("target_project_id")?, row.parsed("target_deployment_name")?);
    Ok(Some(Target { project_id, deployment_id, deployment_name }))
}
