//! A snapshot as the API shows it.

use std::collections::HashMap;

use catalog::{Deployment, Snapshot, SnapshotCopy};
use model::{copy::CopyState, id::SnapshotId, snapshot::SnapshotState};
use serde_json::{Value, json};

use super::links;
use crate::{error::Answer, gate::Call, json};

/// `DiskBackupReplicaSet`. Regions are shown that have the whole of it: nobody must rely on half a copy.
pub(super) fn replica_set(
    call: &Call,
    deployment: &Deployment,
    snapshot: &Snapshot,
    copies: &Copies,
) -> Value {
    let mut object = of_cluster(call, deployment, snapshot);
    let places = &call.server.state.settings.copy_regions;
    let is_there = |copy: &&SnapshotCopy| copy.state == CopyState::Made && places.contains(&copy.region);
    let made = copies.of(snapshot).iter().filter(is_there);
    object["copyRegions"] = made.map(|copy| copy.region.as_str()).collect::<Vec<_>>().into();
    object["replicaSetName"] = replica_set_name(deployment, snapshot).into();
    object
}

/// `DiskBackupShardedClusterSnapshot` of a replica set: there are no members that have snapshots of their own.
pub(super) fn without_shards(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let mut object = of_cluster(call, deployment, snapshot);
    object["members"] = json!([]);
    object["snapshotIds"] = json!([]);
    object
}

/// What snapshots of clusters have in common, be they sharded or not.
fn of_cluster(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let mut object = common(call, deployment, snapshot);
    let items = snapshot.policy.iter().flat_map(|policy| &policy.items);
    object["policyItems"] = items.map(ToString::to_string).collect::<Vec<_>>().into();
    object["type"] = "replicaSet".into();
    if let Some(description) = &snapshot.description {
        object["description"] = description.as_str().into();
    }
    object
}

/// `ServerlessBackupSnapshot`.
pub(super) fn serverless(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let mut object = common(call, deployment, snapshot);
    object["serverlessInstanceName"] = deployment.name.as_str().into();
    object
}

fn common(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let created = snapshot.completed_at.unwrap_or(snapshot.requested_at);
    let mut object = json!({
        "createdAt": created.to_rfc3339(),
        "id": snapshot.id.to_string(),
        "links": links::of_snapshot(call, deployment, snapshot.id),
        "snapshotType": snapshot.snapshot_type.as_str(),
        "status": snapshot.state.as_str(),
        "storageSizeBytes": snapshot.stored_bytes,
    });
    // Until it is completed, the expiry is what it would be if it were completed now. What is not to be deleted has none.
    let days = snapshot.retention_days.filter(|_| snapshot.completed_at.is_none());
    let estimated = days.map(|days| created.plus_ms(i64::from(days) * 86_400_000));
    if let Some(expires) = snapshot.expires_at.or(estimated) {
        object["expiresAt"] = expires.to_rfc3339().into();
    }
    if let Some(version) = &snapshot.mongod_version {
        object["mongodVersion"] = version.as_str().into();
    }
    if let Some(policy) = &snapshot.policy {
        object["frequencyType"] = policy.frequency.kind().as_str().into();
    }
    // The specification's enum lacks the word that Atlas sends (D9).
    let on_demand = snapshot.snapshot_type == catalog::SnapshotType::OnDemand;
    if on_demand && call.server.state.settings.quirks.ondemand_frequency_type {
        object["frequencyType"] = "ondemand".into();
    }
    object
}

/// The copies of some snapshots in other vaults.
pub(super) struct Copies(HashMap<SnapshotId, Vec<SnapshotCopy>>);

impl Copies {
    /// Looks them up.
    pub(super) async fn look_up(call: &Call, snapshots: &[Snapshot]) -> Answer<Self> {
        let ids: Vec<_> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let found = call.server.state.catalog.copies().of(&ids).await;
        Ok(Self(found.map_err(|e| call.server.catalog_problem("look up copies of snapshots", e))?))
    }

    fn of(&self, snapshot: &Snapshot) -> &[SnapshotCopy] {
        self.0.get(&snapshot.id).map_or(&[], Vec::as_slice)
    }
}

/// Where a copy is and how it stands.
fn copy(copy: &SnapshotCopy) -> Value {
    let mut object = json!({
        "region": copy.region.as_str(),
        "requestedAt": copy.requested_at.to_rfc3339(),
        "state": copy.state.as_str(),
    });
    if let Some(made) = copy.made_at {
        object["madeAt"] = made.to_rfc3339().into();
    }
    if let Some(error) = &copy.error {
        object["lastError"] = error.as_str().into();
    }
    object
}

/// Ebbtide's own view: what was observed, and how far it is.
pub(super) fn own(
    call: &Call,
    deployment: &Deployment,
    snapshot: &Snapshot,
    copies: &Copies,
    job: Option<&catalog::Job>,
) -> Value {
    let mut object = json!({
        "addedBytes": snapshot.added_bytes,
        "clusterName": deployment.name.as_str(),
        "collections": snapshot.collections,
        "documents": snapshot.documents,
        "groupId": snapshot.project_id.to_string(),
        "id": snapshot.id.to_string(),
        "links": [links::own(format!(
            "{}/api/ebbtide/v1/groups/{}/clusters/{}/snapshots/{}",
            call.base, snapshot.project_id, deployment.name, snapshot.id
        ))],
        "logicalBytes": snapshot.logical_bytes,
        "requestedAt": snapshot.requested_at.to_rfc3339(),
        "snapshotType": snapshot.snapshot_type.as_str(),
        "state": snapshot.state.as_str(),
        "storedBytes": snapshot.stored_bytes,
    });
    let texts = [
        ("description", snapshot.description.clone()),
        ("error", snapshot.error.clone()),
        ("featureCompatibilityVersion", snapshot.fcv.clone()),
        ("mongoDBVersion", snapshot.mongod_version.clone()),
        ("replicaSetName", snapshot.replica_set_name.clone()),
        ("completedAt", snapshot.completed_at.map(model::WallTime::to_rfc3339)),
        ("expiresAt", snapshot.expires_at.map(model::WallTime::to_rfc3339)),
        ("deletedAt", snapshot.deleted_at.map(model::WallTime::to_rfc3339)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    if let Some(policy) = &snapshot.policy {
        object["dueAt"] = policy.due_at.to_rfc3339().into();
        object["frequencyType"] = policy.frequency.kind().as_str().into();
    }
    if let Some(time) = snapshot.cluster_time {
        object["clusterTime"] = json!({"increment": time.increment, "seconds": time.seconds});
    }
    if !snapshot.notes.is_null() {
        object["notes"] = json::without_nulls(&snapshot.notes);
    }
    if let Some(days) = snapshot.retention_days {
        object["retentionInDays"] = days.into();
    }
    let copies = copies.of(snapshot);
    if !copies.is_empty() {
        object["copies"] = copies.iter().map(copy).collect();
    }
    if let Some(job) = job {
        describe_job(&mut object, job);
    }
    object
}

/// What the work item adds: progress, attempts, why it was tried again.
pub(super) fn describe_job(object: &mut Value, job: &catalog::Job) {
    object["attempts"] = job.attempts.into();
    if let Some(progress) = &job.progress {
        object["progress"] = serde_json::to_value(progress).unwrap_or_default();
    }
    if let (Some(error), true) = (&job.error, object.get("error").is_none()) {
        object["lastError"] = error.as_str().into();
    }
}

fn replica_set_name(deployment: &Deployment, snapshot: &Snapshot) -> String {
    let known = snapshot.replica_set_name.clone().or_else(|| deployment.facts.replica_set_name.clone());
    known.unwrap_or_else(|| deployment.name.to_string())
}

/// Whether the API still knows the snapshot: deleted ones are tombstones.
pub(super) fn is_shown(snapshot: &Snapshot) -> bool {
    snapshot.state != SnapshotState::Deleted
}
