//! Asking for a restore.

use model::{
    ClusterTime, DeploymentName, IllegalTransition, WallTime,
    id::{DeploymentId, ProjectId, RestoreJobId, SnapshotId},
    job::Work,
    restore::{RestoreResource, RestoreState},
    snapshot::SnapshotState,
    timeline::PointInTime,
};
use sqlx::{Any, Transaction, query};

use super::{
    COLUMNS, Delivery, NewRestore, PROJECT_DOWNLOADS_MAX, RestoreJob, Restores, Target, delivery, restore_job,
};
use crate::{
    Conflict, Error, Lease, Result, deployments,
    error::is_duplicate,
    jobs, new_id,
    row::{Columns, statement, to_json},
};

type Tx = Transaction<'static, Any>;

/// The snapshot that is restored, as the job copies it.
struct Source {
    project_id: ProjectId,
    deployment_id: DeploymentId,
    deployment_name: DeploymentName,
    completed_at: WallTime,
    /// No collection of it is as of a later time.
    complete_at: Option<ClusterTime>,
}

impl Restores<'_> {
    /// Claims for the lease's restore job the replica set that its worker has found behind the target: what was known
    /// when it was asked for may have been nothing, or another set. Doing it again does no harm.
    ///
    /// # Errors
    /// [`crate::Conflict::TargetBusy`] when another restore has claimed it, [`crate::Error::LeaseLost`].
    pub async fn claim_target(&self, lease: &Lease, replica_set_id: &str) -> Result<()> {
        let Work::Restore { restore_job_id: id } = lease.work else {
            let (state, event) = (lease.work.kind().to_owned(), "a claim of a target".to_owned());
            return Err(IllegalTransition { machine: "job", state, event }.into());
        };
        let mut transaction = self.0.database.begin().await?;
        jobs::fence(&mut transaction, lease).await?;
        enter_target(&mut transaction, id, replica_set_id).await?;
        Ok(transaction.commit().await?)
    }

    /// Asks for a restore job: its row and its work item, in one transaction.
    ///
    /// # Errors
    /// As [`Restores::request_as`].
    pub async fn request(&self, new: NewRestore, now: WallTime) -> Result<RestoreJob> {
        self.request_as(RestoreResource::RestoreJob, new, now).await
    }

    /// Asks for a restore as that resource: its row and its work item, in one transaction.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for the snapshot or the target (`what` says which), [`crate::Error::Illegal`] when the
    /// snapshot is not completed, or is later than the point in time that is wanted, [`crate::Conflict`] when the target is busy or there are too many downloads.
    pub async fn request_as(
        &self,
        resource: RestoreResource,
        new: NewRestore,
        now: WallTime,
    ) -> Result<RestoreJob> {
        let mut transaction = self.0.database.begin().await?;
        let locked = match new.delivery.target() {
            Some(target) => Some((target, deployments::lock(&mut transaction, target).await?)),
            None => None,
        };
        let replica_set_id = locked.as_ref().and_then(|(_, locked)| locked.replica_set_id.clone());
        let target = locked.map(|(deployment_id, locked)| Target {
            project_id: locked.project_id,
            deployment_id,
            deployment_name: locked.name,
        });
        if target.is_none() {
            lock_project_of(&mut transaction, new.snapshot_id).await?;
        }
        let source = lock_snapshot(&mut transaction, new.snapshot_id).await?;
        if let Some(at) = new.delivery.point_in_time() {
            require_before(&source, at)?;
        }
        if target.is_none() {
            make_room_for_download(&mut transaction, source.project_id, now).await?;
        }
        let id: RestoreJobId = new_id(now);
        let job = insert(&mut transaction, id, resource, &new, &source, target.as_ref(), now).await?;
        if let Some(replica_set_id) = replica_set_id {
            enter_target(&mut transaction, id, &replica_set_id).await?;
        }
        let work = match new.delivery {
            Delivery::Automated { .. } | Delivery::PointInTime { .. } => Work::Restore { restore_job_id: id },
            Delivery::Download { .. } => Work::Download { restore_job_id: id },
        };
        jobs::insert(&mut transaction, work, &id.to_string(), now).await?;
        transaction.commit().await?;
        Ok(job)
    }
}

/// Says which replica set a restore is into. Only one active restore is, under whatever names the set is registered.
async fn enter_target(transaction: &mut Tx, id: RestoreJobId, replica_set_id: &str) -> Result<()> {
    let entered = query("UPDATE restore_jobs SET target_replica_set_id = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(replica_set_id)
        .execute(&mut **transaction)
        .await;
    match entered {
        Err(error) if is_duplicate(&error) => Err(Conflict::TargetBusy.into()),
        other => Ok(other.map(drop)?),
    }
}

/// Locks the project of a snapshot, and before the snapshot: who sets a policy and who trims a record lock in this order too, and
/// nobody waits for somebody who waits for him.
async fn lock_project_of(transaction: &mut Tx, id: SnapshotId) -> Result<()> {
    query("UPDATE projects SET name = name WHERE id = (SELECT project_id FROM snapshots WHERE id = $1)")
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Locks a completed snapshot, so that it is not deleted before the job that reads it is there.
async fn lock_snapshot(transaction: &mut Tx, id: SnapshotId) -> Result<Source> {
    let row = query(
        "UPDATE snapshots SET state = state WHERE id = $1 \
         RETURNING state, project_id, deployment_id, completed_at, \
         COALESCE(last_as_of_seconds, cluster_seconds) AS complete_seconds, \
         COALESCE(last_as_of_increment, cluster_increment) AS complete_increment",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Error::not_found("snapshot", id))?;
    let state: SnapshotState = row.parsed("state")?;
    if state != SnapshotState::Completed {
        let (state, event) = (state.as_str().to_owned(), "a restore".to_owned());
        return Err(IllegalTransition { machine: "snapshot", state, event }.into());
    }
    let deployment_id: DeploymentId = row.parsed("deployment_id")?;
    let named = query("SELECT name FROM deployments WHERE id = $1")
        .bind(deployment_id.to_string())
        .fetch_one(&mut **transaction)
        .await?;
    Ok(Source {
        project_id: row.parsed("project_id")?,
        deployment_id,
        deployment_name: named.parsed("name")?,
        completed_at: row.time("completed_at")?,
        complete_at: row.maybe_cluster_time("complete_seconds", "complete_increment")?,
    })
}

/// A fold goes forward only.
fn require_before(source: &Source, at: PointInTime) -> Result<()> {
    match source.complete_at {
        Some(base) if base <= at.time() => Ok(()),
        base => {
            let state = base.map_or_else(|| "of an unknown time".to_owned(), |base| format!("of {base}"));
            let event = format!("a restore to {}", at.time());
            Err(IllegalTransition { machine: "snapshot", state, event }.into())
        }
    }
}

/// Counts the active downloads of a project that is locked, after those whose time is over have expired.
async fn make_room_for_download(transaction: &mut Tx, project: ProjectId, now: WallTime) -> Result<()> {
    delivery::expire_due(&mut **transaction, None, now).await?;
    let row = query(
        "SELECT COUNT(*) AS active FROM restore_jobs \
         WHERE project_id = $1 AND delivery = 'download' AND state IN ('queued', 'running', 'ready')",
    )
    .bind(project.to_string())
    .fetch_one(&mut **transaction)
    .await?;
    if row.count("active")? >= u64::from(PROJECT_DOWNLOADS_MAX) {
        return Err(Conflict::TooManyDownloads { limit: PROJECT_DOWNLOADS_MAX }.into());
    }
    Ok(())
}

async fn insert(
    transaction: &mut Tx,
    id: RestoreJobId,
    resource: RestoreResource,
    new: &NewRestore,
    source: &Source,
    target: Option<&Target>,
    now: WallTime,
) -> Result<RestoreJob> {
    let conflict = match new.delivery {
        Delivery::Automated { .. } | Delivery::PointInTime { .. } => Conflict::TargetBusy,
        Delivery::Download { .. } => Conflict::SnapshotDownloading,
    };
    let row = statement(format!(
        "INSERT INTO restore_jobs (id, project_id, deployment_id, deployment_name, snapshot_id, snapshot_completed_at, \
         delivery, state, target_project_id, target_deployment_id, target_deployment_name, options, downloads, \
         deliveries, created_at, point_in_time, resource, downloads_max, link_hours) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $13, $14, $15, $16, $17) \
         RETURNING {COLUMNS}"
    ))
    .bind(id.to_string())
    .bind(source.project_id.to_string())
    .bind(source.deployment_id.to_string())
    .bind(source.deployment_name.as_str())
    .bind(new.snapshot_id.to_string())
    .bind(source.completed_at.0)
    .bind(new.delivery.kind().as_str())
    .bind(RestoreState::Queued.as_str())
    .bind(target.map(|t| t.project_id.to_string()))
    .bind(target.map(|t| t.deployment_id.to_string()))
    .bind(target.map(|t| t.deployment_name.to_string()))
    .bind(to_json(&new.options))
    .bind(now.0)
    .bind(new.delivery.point_in_time().map(|at| to_json(&at)))
    .bind(resource.as_str())
    .bind(i64::from(new.delivery.terms().downloads()))
    .bind(i64::from(new.delivery.terms().hours()))
    .fetch_one(&mut **transaction)
    .await;
    match row {
        // The only thing that can be there twice: an active job of the same target or snapshot.
        Err(error) if is_duplicate(&error) => Err(conflict.into()),
        other => restore_job(&other?),
    }
}
