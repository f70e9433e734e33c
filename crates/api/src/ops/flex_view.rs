//! Flex clusters, their snapshots and restore jobs, as the API shows them.

use catalog::{Deployment, RestoreJob, Snapshot};
use model::{
    WallTime,
    restore::{DeliveryType, RestoreState},
    snapshot::SnapshotState,
};
use serde_json::{Value, json};

use super::{restore_view::Shown, tenants};
use crate::gate::Call;

/// `FlexClusterDescription20241113`. The specification wants a cloud provider; the word stands for nothing here.
pub(super) fn cluster(call: &Call, deployment: &Deployment) -> Value {
    let mut object = tenants::view(call, deployment, "FLEX");
    object["backupSettings"] = json!({"enabled": true});
    object["clusterType"] = "REPLICASET".into();
    object["versionReleaseSystem"] = "LTS".into();
    object
}

/// `FlexBackupSnapshot20241113`; Atlas gives its items no links.
pub(super) fn snapshot(snapshot: &Snapshot) -> Value {
    let due = snapshot.policy.as_ref().map_or(snapshot.requested_at, |policy| policy.due_at);
    let mut object = json!({
        "id": snapshot.id.to_string(),
        "scheduledTime": due.to_rfc3339(),
        "status": match snapshot.state {
            SnapshotState::Queued => "QUEUED",
            SnapshotState::InProgress => "RUNNING",
            SnapshotState::Completed | SnapshotState::Deleted => "COMPLETED",
            SnapshotState::Failed => "FAILED",
        },
    });
    for (name, text) in [
        ("expiration", snapshot.expires_at.map(WallTime::to_rfc3339)),
        ("finishTime", snapshot.completed_at.map(WallTime::to_rfc3339)),
        ("mongoDBVersion", snapshot.mongod_version.clone()),
    ] {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    object
}

/// `FlexBackupRestoreJob20241113`.
pub(super) fn restore_job(call: &Call, job: &RestoreJob) -> Value {
    let shown = Shown::of(call, job);
    let is_download = job.delivery == DeliveryType::Download;
    let mut object = json!({
        "deliveryType": if is_download { "DOWNLOAD" } else { "RESTORE" },
        "id": job.id.to_string(),
        "instanceName": job.deployment_name.as_str(),
        "projectId": job.project_id.to_string(),
        "restoreScheduledDate": job.created_at.to_rfc3339(),
        "snapshotFinishedDate": job.snapshot_completed_at.to_rfc3339(),
        "snapshotId": job.snapshot_id.to_string(),
        "status": status(shown.state),
    });
    if let Some(target) = &job.target {
        object["targetDeploymentItemName"] = target.deployment_name.as_str().into();
        object["targetProjectId"] = target.project_id.to_string().into();
    }
    for (name, text) in [
        ("expirationDate", job.expires_at.filter(|_| is_download).map(WallTime::to_rfc3339)),
        ("restoreFinishedDate", finished(job).map(WallTime::to_rfc3339)),
        ("snapshotUrl", shown.url),
    ] {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    object
}

/// When the data was there: in the target, or in an archive.
fn finished(job: &RestoreJob) -> Option<WallTime> {
    let is_done = matches!(job.state, RestoreState::Ready | RestoreState::Finished | RestoreState::Expired);
    job.finished_at.filter(|_| is_done)
}

/// There is no word for what was cancelled: it has brought nothing about, as what failed.
fn status(state: RestoreState) -> &'static str {
    match state {
        RestoreState::Queued => "QUEUED",
        RestoreState::Running | RestoreState::Cancelling | RestoreState::CutOver => "RUNNING",
        RestoreState::Ready | RestoreState::Finished | RestoreState::Expired => "COMPLETED",
        RestoreState::Failed | RestoreState::Cancelled => "FAILED",
    }
}
