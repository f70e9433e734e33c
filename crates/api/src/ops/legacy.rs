//! Legacy Backup: the deployment's restore jobs in the shape from before Cloud Backup. Atlas refuses these calls for
//! Cloud Backup clusters; here that is one of three modes.

use std::collections::HashMap;

use catalog::{Deployment, RestoreJob};
use http::Method;
use model::{
    ClusterTime,
    id::{RestoreJobId, SnapshotId},
    restore::{DeliveryType, RestoreState},
    role::Action,
    timeline::PointInTime,
};
use serde_json::{Value, json};

use super::{
    Operation,
    clusters::cluster,
    links, restore_jobs,
    restore_view::{self, Shown},
};
use crate::{
    access::Scope,
    download,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
    state::LegacyMode,
    version::Version,
};

/// Cluster times of snapshots.
type Times = HashMap<SnapshotId, ClusterTime>;

/// Deprecated since Cloud Backup replaced it; no end is announced.
const VERSIONS: &[Version] =
    &[Version::current(2023, 1, 1).deprecated("Mon, 23 Mar 2020 00:00:00 GMT", None)];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterRestoreJobs",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/restoreJobs",
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getGroupClusterRestoreJob",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/restoreJobs/{restoreJobId}",
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let batch = call.query.get("batchId");
    if batch.is_some_and(|id| id.parse::<RestoreJobId>().is_err()) {
        return Err(Problem::new(Code::InvalidQueryParameter).with("batchId"));
    }
    let deployment = cluster(&call).await?;
    require_mode(&call, &deployment)?;
    // Only the jobs of a sharded cluster come in batches, and a replica set is none.
    let empty = batch.is_some() || call.server.state.settings.legacy_mode == LegacyMode::Empty;
    let (jobs, total) = if empty {
        (vec![], 0)
    } else {
        restore_jobs::listed(&call, &deployment, restore_jobs::RESOURCE, asked).await?
    };
    let times = cluster_times(&call, &jobs).await?;
    let results = jobs.iter().map(|job| view(&call, &deployment, job, &times)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    require_mode(&call, &deployment)?;
    let job = restore_jobs::one(&call, &deployment).await?;
    let times = cluster_times(&call, std::slice::from_ref(&job)).await?;
    Ok(Reply::object(view(&call, &deployment, &job, &times)))
}

/// The times of the data that the jobs restore.
async fn cluster_times(call: &Call, jobs: &[RestoreJob]) -> Answer<Times> {
    let ids: Vec<SnapshotId> = jobs.iter().map(|job| job.snapshot_id).collect();
    let times = call.server.state.catalog.snapshots().cluster_times(&ids).await;
    times.map_err(|e| call.server.catalog_problem("read the times of snapshots", e))
}

fn require_mode(call: &Call, deployment: &Deployment) -> Answer<()> {
    if call.server.state.settings.legacy_mode != LegacyMode::Refuse {
        return Ok(());
    }
    let instead = format!("/api/atlas/v2{}/backup/restoreJobs", links::deployment_path(deployment));
    Err(Problem::new(Code::IncorrectBackupApiEndpoint).with(instead))
}

/// `BackupRestoreJob`.
fn view(call: &Call, deployment: &Deployment, job: &RestoreJob, times: &Times) -> Value {
    let shown = Shown::of(call, job);
    let mut object = json!({
        "clusterId": deployment.id.to_string(),
        "clusterName": deployment.name.as_str(),
        "created": job.created_at.to_rfc3339(),
        "delivery": delivery(call, job, &shown),
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

fn delivery(call: &Call, job: &RestoreJob, shown: &Shown) -> Value {
    let mut object = json!({"statusName": delivery_status(job, shown.state)});
    if job.delivery == DeliveryType::Download {
        object["methodName"] = "HTTP".into();
        object["maxDownloads"] = 1.into();
        object["expirationHours"] = (call.server.state.settings.download_ttl_ms / 3_600_000).max(1).into();
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

fn delivery_status(job: &RestoreJob, state: RestoreState) -> &'static str {
    match state {
        RestoreState::Queued => "NOT_STARTED",
        RestoreState::Running | RestoreState::Cancelling | RestoreState::CutOver => "IN_PROGRESS",
        RestoreState::Ready | RestoreState::Finished => "READY",
        RestoreState::Failed => "FAILED",
        RestoreState::Cancelled => "INTERRUPTED",
        RestoreState::Expired if job.downloaded => "MAX_DOWNLOADS_EXCEEDED",
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
