//! Asking for a restore: rights on both sides, what must exist, what must hold, then one transaction.

use std::sync::Arc;

use catalog::{Delivery, Deployment, NewRestore, RestoreJob, Snapshot};
use model::{
    DeploymentKind,
    id::SnapshotId,
    restore::{DeliveryType, RestoreResource},
    role::Action,
    snapshot::SnapshotState,
    timeline::PointInTime,
};
use serde_json::{Value, json};

use super::{
    audit, checkup, point_in_time,
    restore_input::{TargetName, Wanted},
};
use crate::{
    access,
    error::{Answer, Code, Problem},
    gate::Call,
};

/// A restore that was checked and only has to be written down.
pub(super) struct Checked {
    /// What is restored; for a point in time what the fold begins with.
    pub(super) snapshot: Snapshot,
    pub(super) target: Option<Arc<Deployment>>,
    pub(super) point_in_time: Option<PointInTime>,
}

impl Checked {
    fn delivery(&self, wanted: &Wanted) -> Delivery {
        match (&self.target, self.point_in_time) {
            (None, _) => Delivery::Download { terms: wanted.terms() },
            (Some(target), None) => Delivery::Automated { target: target.id },
            (Some(target), Some(at)) => Delivery::PointInTime { target: target.id, at },
        }
    }
}

/// Checks everything that can be checked without writing.
pub(super) async fn check(call: &Call, source: &Deployment, wanted: &Wanted) -> Answer<Checked> {
    let needed = match wanted.delivery() {
        DeliveryType::Automated | DeliveryType::PointInTime => Action::Restore,
        DeliveryType::Download => Action::Download,
    };
    access::require(&call.credential, source.project_id, &[needed])?;
    match wanted {
        Wanted::Automated { snapshot, target } => {
            let target = find_target(call, source, target).await?;
            let snapshot = find_snapshot(call, source, *snapshot).await?;
            require_complete(&snapshot, Code::CannotStartRestoreJobForIncompleteSnapshot)?;
            require_version(call, &snapshot, &target).await?;
            Ok(Checked { snapshot, target: Some(target), point_in_time: None })
        }
        Wanted::Download { snapshot, .. } => {
            let snapshot = find_snapshot(call, source, *snapshot).await?;
            require_complete(&snapshot, Code::CannotDownloadIncompleteSnapshot)?;
            Ok(Checked { snapshot, target: None, point_in_time: None })
        }
        Wanted::PointInTime { target, at } => {
            let target = find_target(call, source, target).await?;
            let snapshot = point_in_time::base(call, source, *at).await?;
            require_version(call, &snapshot, &target).await?;
            Ok(Checked { snapshot, target: Some(target), point_in_time: Some(*at) })
        }
    }
}

/// Checks, then writes the restore job and its work item.
pub(super) async fn create(
    call: &Call,
    source: &Deployment,
    wanted: &Wanted,
    resource: RestoreResource,
    options: Value,
) -> Answer<RestoreJob> {
    let checked = check(call, source, wanted).await?;
    let delivery = checked.delivery(wanted);
    let Checked { snapshot, target, point_in_time } = checked;
    let new = NewRestore { snapshot_id: snapshot.id, delivery, options: options.clone() };
    let job = call.server.state.catalog.restores().request_as(resource, new, call.server.now()).await;
    let job = job.map_err(|e| match e {
        // It was completed a moment ago, so it was deleted since.
        catalog::Error::Illegal(_) => Problem::new(Code::CannotStartRestoreJobForDeletedSnapshot),
        catalog::Error::NotFound { what: "snapshot", .. } => unknown_snapshot(source, snapshot.id),
        catalog::Error::NotFound { .. } => unknown_target(call, target.as_deref().unwrap_or(source)),
        other => call.server.catalog_problem("ask for a restore", other),
    })?;
    call.server.state.poke.notify_one();
    let detail = json!({
        "deliveryType": wanted.delivery().as_str(),
        "options": options,
        "pointInTime": point_in_time,
        "snapshotId": snapshot.id.to_string(),
        "target": target.map(|target| target.id.to_string()),
    });
    audit::record(call, "restore.create", job.id, detail);
    Ok(job)
}

async fn find_target(call: &Call, source: &Deployment, target: &TargetName) -> Answer<Arc<Deployment>> {
    if target.project != source.project_id {
        access::require_target(&call.credential, target.project)?;
        call.server.project(target.project).await?;
    }
    let name = target.cluster.as_str();
    let found = call.server.deployment(target.project, name).await?;
    let unknown = || Problem::new(Code::ClusterNotFound).with(name).with(target.project.to_string());
    let found = found.ok_or_else(unknown)?;
    // Atlas doesn't restore a dedicated cluster's snapshot into a tenant.
    if source.kind == DeploymentKind::ReplicaSet && found.kind != DeploymentKind::ReplicaSet {
        return Err(Problem::new(Code::ProviderBackupNotSupported));
    }
    Ok(found)
}

async fn find_snapshot(call: &Call, source: &Deployment, id: SnapshotId) -> Answer<Snapshot> {
    let found = call.server.state.catalog.snapshots().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a snapshot", e))?;
    let found = found.filter(|snapshot| snapshot.deployment_id == source.id);
    found.ok_or_else(|| unknown_snapshot(source, id))
}

fn require_complete(snapshot: &Snapshot, incomplete: Code) -> Answer<()> {
    match snapshot.state {
        SnapshotState::Completed => Ok(()),
        SnapshotState::Deleted => Err(Problem::new(Code::CannotStartRestoreJobForDeletedSnapshot)),
        SnapshotState::Queued | SnapshotState::InProgress | SnapshotState::Failed => {
            Err(Problem::new(incomplete))
        }
    }
}

/// Data never goes to an older release. What is known of the target may be older than its last upgrade, so it is asked
/// itself before it is refused; when it doesn't answer, the decision is left to the worker, which asks again anyway.
async fn require_version(call: &Call, snapshot: &Snapshot, target: &Deployment) -> Answer<()> {
    let data = &snapshot.mongod_version;
    if !is_older(target.facts.mongodb_version.as_deref(), data.as_deref()) {
        return Ok(());
    }
    match checkup::again(call, target).await {
        Some(now) if is_older(now.mongodb_version.as_deref(), data.as_deref()) => {
            Err(Problem::new(Code::InvalidRestoreProcess))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a server is surely of an older release than data.
fn is_older(server: Option<&str>, data: Option<&str>) -> bool {
    let release = |version: Option<&str>| {
        let mut numbers = version?.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    release(server).zip(release(data)).is_some_and(|(server, data)| server < data)
}

fn unknown_snapshot(source: &Deployment, id: SnapshotId) -> Problem {
    Problem::new(Code::SnapshotNotFound).with(id.to_string()).with(source.name.as_str())
}

fn unknown_target(call: &Call, target: &Deployment) -> Problem {
    call.server.forget_deployments();
    Problem::new(Code::ClusterNotFound).with(target.name.as_str()).with(target.project_id.to_string())
}
