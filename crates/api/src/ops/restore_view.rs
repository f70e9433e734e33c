//! A restore job as the API shows it. Atlas shows no state: it is read from flags and from what is there.

use catalog::{Deployment, RestoreJob};
use model::{
    ClusterTime, WallTime,
    restore::{DeliveryType, RestoreState},
    timeline::PointInTime,
};
use serde_json::{Value, json};

use super::links;
use crate::{download, gate::Call, json};

/// What a client may conclude from a job, now.
pub(super) struct Shown {
    /// The state, with a link that has died since counted as expired.
    pub(super) state: RestoreState,
    /// The link, while it can be fetched.
    pub(super) url: Option<String>,
    /// The link was fetched as often as it may be; known here a moment before it is written down.
    pub(super) used_up: bool,
}

impl Shown {
    pub(super) fn of(call: &Call, job: &RestoreJob) -> Self {
        let written = job.downloads >= u64::from(job.terms.downloads());
        let used_up = written || call.server.downloads.is_used_up(job.id);
        if job.state != RestoreState::Ready {
            return Self { state: job.state, url: None, used_up };
        }
        if !download::is_open(&call.server, job, call.server.now()) {
            return Self { state: RestoreState::Expired, url: None, used_up };
        }
        Self { state: RestoreState::Ready, url: download::link(&call.server, &call.base, job), used_up }
    }
}

/// `DiskBackupSnapshotRestoreJob`.
pub(super) fn atlas(call: &Call, deployment: &Deployment, job: &RestoreJob) -> Value {
    let shown = Shown::of(call, job);
    let mut object = json!({
        "cancelled": shown.state == RestoreState::Cancelled,
        "deliveryType": job.delivery.as_str(),
        "deliveryUrl": shown.url.into_iter().collect::<Vec<_>>(),
        "expired": shown.state == RestoreState::Expired,
        "failed": shown.state == RestoreState::Failed,
        "id": job.id.to_string(),
        "links": links::of_restore_job(call, deployment, &job.id.to_string(), job.snapshot_id),
        "snapshotId": job.snapshot_id.to_string(),
        "timestamp": job.snapshot_completed_at.to_rfc3339(),
    });
    if let Some(target) = &job.target {
        object["targetClusterName"] = target.deployment_name.as_str().into();
        object["targetGroupId"] = target.project_id.to_string().into();
    }
    if let Some(finished) = finished_at(job) {
        object["finishedAt"] = finished.to_rfc3339().into();
    }
    if let Some(expires) = expires_at(job) {
        object["expiresAt"] = expires.to_rfc3339().into();
    }
    if call.server.state.settings.quirks.null_desired_timestamp {
        object["desiredTimestamp"] = json!({"date": null, "increment": null, "time": null});
    }
    if let Some(at) = job.point_in_time {
        describe_point_in_time(&mut object, at);
    }
    object
}

/// Adds the point in time in the words in which it was asked for.
pub(super) fn describe_point_in_time(object: &mut Value, at: PointInTime) {
    name_point_in_time(object, at, "pointInTimeUTCSeconds");
    if let PointInTime::Operation(time) = at {
        // A member that Atlas has beyond the specification stays as it is, when it is there.
        object["desiredTimestamp"]["date"] = date(time).into();
        object["desiredTimestamp"]["increment"] = time.increment.into();
    }
}

/// The fields in which a point in time is asked for; that of a second has two spellings.
pub(super) fn name_point_in_time(object: &mut Value, at: PointInTime, point_name: &str) {
    match at {
        PointInTime::Operation(time) => {
            object["oplogTs"] = time.seconds.into();
            object["oplogInc"] = time.increment.into();
        }
        PointInTime::Second(seconds) => object[point_name] = seconds.into(),
    }
}

/// The wall clock's part of a cluster time.
pub(super) fn date(time: ClusterTime) -> String {
    WallTime(i64::from(time.seconds) * 1000).to_rfc3339()
}

/// `ServerlessBackupRestoreJob`: the target is required even where there is none.
pub(super) fn serverless(call: &Call, deployment: &Deployment, job: &RestoreJob) -> Value {
    let mut object = atlas(call, deployment, job);
    if job.target.is_none() {
        object["targetClusterName"] = deployment.name.as_str().into();
        object["targetGroupId"] = deployment.project_id.to_string().into();
    }
    object
}

/// A download never finishes, says Atlas: clients refuse to cancel what has a `finishedAt`.
fn finished_at(job: &RestoreJob) -> Option<WallTime> {
    let into_a_deployment = job.delivery != DeliveryType::Download;
    job.finished_at.filter(|_| into_a_deployment && job.state == RestoreState::Finished)
}

/// Only a link that was made has an end.
fn expires_at(job: &RestoreJob) -> Option<WallTime> {
    job.expires_at.filter(|_| job.delivery == DeliveryType::Download)
}

/// Ebbtide's own view: the state by its name, progress, error, receipt.
pub(super) fn own(
    call: &Call,
    deployment: &Deployment,
    job: &RestoreJob,
    work: Option<&catalog::Job>,
) -> Value {
    let shown = Shown::of(call, job);
    let mut object = json!({
        "clusterName": deployment.name.as_str(),
        "createdAt": job.created_at.to_rfc3339(),
        "deliveryType": job.delivery.as_str(),
        "deliveryUrl": shown.url.into_iter().collect::<Vec<_>>(),
        "downloaded": job.downloads > 0,
        "groupId": job.project_id.to_string(),
        "id": job.id.to_string(),
        "links": [links::own(format!(
            "{}/api/ebbtide/v1/groups/{}/clusters/{}/restoreJobs/{}",
            call.base, job.project_id, deployment.name, job.id
        ))],
        "options": job.options,
        "resource": job.resource.as_str(),
        "snapshotId": job.snapshot_id.to_string(),
        "state": shown.state.as_str(),
        "timestamp": job.snapshot_completed_at.to_rfc3339(),
    });
    if let Some(target) = &job.target {
        object["targetClusterName"] = target.deployment_name.as_str().into();
        object["targetGroupId"] = target.project_id.to_string().into();
    }
    if let Some(at) = job.point_in_time {
        describe_point_in_time(&mut object, at);
    }
    let texts = [
        ("error", job.error.clone()),
        ("expiresAt", expires_at(job).map(WallTime::to_rfc3339)),
        ("finishedAt", job.finished_at.map(WallTime::to_rfc3339)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    if let Some(receipt) = &job.receipt {
        object["receipt"] = json::without_nulls(receipt);
    }
    if let Some(archive) = download::Archive::of_ready(job) {
        object["archive"] = json!({
            "bytes": archive.bytes,
            "fileName": download::file_name(job),
            "sha256": archive.sha256,
        });
    }
    if let Some(work) = work {
        super::snapshot_view::describe_job(&mut object, work);
    }
    object
}
