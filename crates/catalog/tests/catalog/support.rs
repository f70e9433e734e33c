//! What every case needs: a catalog, a clock and a few rows.

use catalog::{
    Catalog, Completion, Delivery, Deployment, DeploymentFacts, Lease, NewDeployment, NewRestore,
    NewSnapshot, Outcome, Project, RestoreJob, Sealed, Snapshot, SnapshotType,
};
use model::{ClusterTime, DeploymentKind, WallTime};
use serde_json::json;

/// Some time in 2026. Cases count from here; nothing reads a clock.
pub(crate) const T0: WallTime = WallTime(1_780_000_000_000);
pub(crate) const LEASE_MS: i64 = 30_000;

pub(crate) async fn sqlite() -> (Catalog, tempfile::TempDir) {
    let directory = directory();
    let path = directory.path().join("catalog.db");
    (Catalog::open(path.to_str().unwrap()).await.unwrap(), directory)
}

/// In memory where that can be: these cases are about decisions, and a disk's flushes would only make them slow.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn at(seconds: i64) -> WallTime {
    T0.plus_ms(seconds * 1000)
}

pub(crate) async fn project(catalog: &Catalog) -> Project {
    catalog.projects().create("shop", T0).await.unwrap()
}

pub(crate) fn new_deployment(project: &Project, name: &str) -> NewDeployment {
    NewDeployment {
        project_id: project.id,
        name: name.parse().unwrap(),
        kind: DeploymentKind::ReplicaSet,
        uri_sealed: Sealed(format!("sealed uri of {name}")),
        options: json!({"allowUntestedVersion": false}),
        facts: DeploymentFacts {
            replica_set_name: Some("rs0".to_owned()),
            replica_set_id: None,
            mongodb_version: Some("6.0.5".to_owned()),
            details: json!({"fcv": "6.0"}),
            checked_at: Some(T0),
        },
    }
}

pub(crate) async fn deployment(catalog: &Catalog, project: &Project, name: &str) -> Deployment {
    catalog.deployments().add(new_deployment(project, name), T0).await.unwrap()
}

/// A project with one deployment.
pub(crate) async fn source(catalog: &Catalog) -> (Project, Deployment) {
    let project = project(catalog).await;
    let deployment = deployment(catalog, &project, "Cluster0").await;
    (project, deployment)
}

pub(crate) fn new_snapshot(deployment: &Deployment, snapshot_type: SnapshotType) -> NewSnapshot {
    NewSnapshot {
        deployment_id: deployment.id,
        snapshot_type,
        description: Some("before the release".to_owned()),
        retention_days: Some(7),
    }
}

pub(crate) async fn request_snapshot(catalog: &Catalog, deployment: &Deployment, now: WallTime) -> Snapshot {
    catalog.snapshots().request(new_snapshot(deployment, SnapshotType::OnDemand), now).await.unwrap()
}

pub(crate) async fn claim(catalog: &Catalog, worker: &str, now: WallTime) -> Lease {
    catalog.jobs().claim(worker, &[], now, LEASE_MS).await.unwrap().expect("an item waits")
}

pub(crate) fn completion(manifest: &str) -> Outcome {
    Outcome::SnapshotCompleted(Box::new(Completion {
        manifest: manifest.to_owned(),
        cluster_time: ClusterTime { seconds: 4_000_000_000, increment: 7 },
        mongod_version: "6.0.5".to_owned(),
        fcv: Some("6.0".to_owned()),
        replica_set_name: Some("rs0".to_owned()),
        collections: 3,
        documents: 1_000,
        logical_bytes: 1 << 40,
        stored_bytes: 1 << 39,
        added_bytes: 1 << 38,
        notes: json!({"capped": []}),
    }))
}

/// A completed snapshot.
pub(crate) async fn snapshot(
    catalog: &Catalog,
    deployment: &Deployment,
    manifest: &str,
    now: WallTime,
) -> Snapshot {
    let snapshot = request_snapshot(catalog, deployment, now).await;
    let lease = claim(catalog, "w0", now).await;
    catalog.jobs().finish(&lease, completion(manifest), now).await.unwrap();
    catalog.snapshots().get(snapshot.id).await.unwrap().unwrap()
}

pub(crate) fn new_restore(snapshot: &Snapshot, delivery: Delivery) -> NewRestore {
    NewRestore { snapshot_id: snapshot.id, delivery, options: json!({"withUsers": true}) }
}

/// An automated restore of a snapshot onto its own deployment.
pub(crate) async fn request_restore(catalog: &Catalog, snapshot: &Snapshot, now: WallTime) -> RestoreJob {
    let delivery = Delivery::Automated { target: snapshot.deployment_id };
    catalog.restores().request(new_restore(snapshot, delivery), now).await.unwrap()
}

pub(crate) async fn request_download(catalog: &Catalog, snapshot: &Snapshot, now: WallTime) -> RestoreJob {
    catalog.restores().request(new_restore(snapshot, Delivery::Download), now).await.unwrap()
}

pub(crate) async fn restore(catalog: &Catalog, job: &RestoreJob) -> RestoreJob {
    catalog.restores().get(job.id).await.unwrap().unwrap()
}

pub(crate) fn receipt() -> Outcome {
    Outcome::RestoreFinished { receipt: json!({"collections": 3, "equal": true}) }
}

pub(crate) fn ready(expires_at: WallTime) -> Outcome {
    Outcome::DownloadReady {
        archive: json!({"name": "abcd", "sha256": "00"}),
        url_token_sha256: "token-hash".to_owned(),
        expires_at,
    }
}

pub(crate) fn failed(error: &str) -> Outcome {
    Outcome::Failed { error: error.to_owned() }
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
