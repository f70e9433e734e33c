//! A restore job in its legacy shape.

use std::collections::HashMap;

use catalog::{Deployment, RestoreJob};
use model::{
    ClusterTime,
    id::SnapshotId,
    restore::{DeliveryType, RestoreState},
    timeline::PointInTime,
};
use serde_json::{Value, json};

use crate::{
    download,
    gate::Call,
    ops::{
        links,
        restore_view::{self, Shown},
    },
};

/// Cluster times of snapshots.
pub(super) type Times = HashMap<SnapshotId, ClusterTime>;

/// `BackupRestoreJob`.
pub(super) fn view(call: &Call, deployment: &Deployment, job: &RestoreJob, times: &Times) -> Value {
    let shown = Shown::of(call, job);
    let mut object = json!({
        "clusterId": deployment.id.to_string(),
        "clusterName": deployment.name.as_str(),
        "created": job.created_at.to_rfc3339(),
        "delivery": delivery(job, &shown),
        "encryptionEnabled": false,
        "groupId": deployment.project_id.to_string(),
        "id": job.id.to_string(),
        "links": [links::own(call.link(&format!("{}/restoreJobs/{}", links::deployment_path(deployment), job.id)))],
        "snapshotId": job.snapshot_id.to_string(),
        "statusName": status_name(shown.state),
        "timestamp": timestamp(job, times.get(&job.snapshot_id)),
    });
    let archive = download::Archive::of_ready(job);
    if let Some(sha1) = archive.and_then(|archive| archive.sha1) {
        object["hashes"] = json!([{"fileName": download::file_name(job), "hash": sha1, "typeName": "SHA1"}]);
    }
    object
}

/// `ApiBSONTimestampView` of the state that is restored. The catalog may know no cluster time, of a snapshot that is
/// forgotten: then it is told when that was complete.
fn timestamp(job: &RestoreJob, snapshot: Option<&ClusterTime>) -> Value {
    match job.point_in_time.map(PointInTime::time).or(snapshot.copied()) {
        Some(time) => json!({"date": restore_view::date(time), "increment": time.increment}),
        None => json!({"date": job.snapshot_completed_at.to_rfc3339()}),
    }
}

fn delivery(job: &RestoreJob, shown: &Shown) -> Value {
    let mut object = json!({"statusName": delivery_status(shown)});
    if job.delivery == DeliveryType::Download {
        object["methodName"] = "HTTP".into();
        object["maxDownloads"] = job.terms.downloads().into();
        object["expirationHours"] = job.terms.hours().into();
        if let Some(expires) = job.expires_at {
            object["expires"] = expires.to_rfc3339().into();
        }
        if let Some(url) = &shown.url {
            object["url"] = url.as_str().into();
            object["urlV2"] = url.as_str().into();
        }
    } else {
        object["methodName"] = "AUTOMATED_RESTORE".into();
    }
    if let Some(target) = &job.target {
        object["targetClusterId"] = target.deployment_id.to_string().into();
        object["targetClusterName"] = target.deployment_name.as_str().into();
        object["targetGroupId"] = target.project_id.to_string().into();
    }
    object
}

fn delivery_status(shown: &Shown) -> &'static str {
    match shown.state {
        RestoreState::Queued => "NOT_STARTED",
        RestoreState::Running | RestoreState::Cancelling | RestoreState::CutOver => "IN_PROGRESS",
        RestoreState::Ready | RestoreState::Finished => "READY",
        RestoreState::Failed => "FAILED",
        RestoreState::Cancelled => "INTERRUPTED",
        RestoreState::Expired if shown.used_up => "MAX_DOWNLOADS_EXCEEDED",
        RestoreState::Expired => "EXPIRED",
    }
}

fn status_name(state: RestoreState) -> &'static str {
    match state {
        RestoreState::Queued | RestoreState::Running | RestoreState::Cancelling | RestoreState::CutOver => {
            "IN_PROGRESS"
        }
        RestoreState::Ready | RestoreState::Finished | RestoreState::Expired => "FINISHED",
        RestoreState::Failed => "BROKEN",
        RestoreState::Cancelled => "KILLED",
    }
}
