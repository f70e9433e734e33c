//! What every case needs: a catalog, a clock and a few rows.

use catalog::{
    CaptureLease, Catalog, Completion, Delivery, Deployment, DeploymentFacts, Lease, NewDeployment,
    NewRestore, NewSlice, NewSnapshot, NewTimeline, Outcome, Project, RestoreJob, Sealed, Snapshot,
    SnapshotType, Timeline,
};
use model::{ClusterTime, ContinuousBackup, DeploymentKind, OplogPosition, WallTime, chain::SliceSpan};
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
        continuous: None,
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
    let cluster_time = ClusterTime { seconds: 4_000_000_000, increment: 7 };
    completion_at(manifest, cluster_time, Some(ClusterTime { increment: 9, ..cluster_time }))
}

pub(crate) fn completion_at(
    manifest: &str,
    cluster_time: ClusterTime,
    last_as_of: Option<ClusterTime>,
) -> Outcome {
    Outcome::SnapshotCompleted(Box::new(Completion {
        manifest: manifest.to_owned(),
        cluster_time,
        last_as_of,
        amid_restore: false,
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
    snapshot_with(catalog, deployment, completion(manifest), now).await
}

/// A snapshot that is completed like that.
pub(crate) async fn snapshot_with(
    catalog: &Catalog,
    deployment: &Deployment,
    completion: Outcome,
    now: WallTime,
) -> Snapshot {
    let snapshot = request_snapshot(catalog, deployment, now).await;
    let lease = claim(catalog, "w0", now).await;
    catalog.jobs().finish(&lease, completion, now).await.unwrap();
    catalog.snapshots().get(snapshot.id).await.unwrap().unwrap()
}

/// A download on the usual terms.
pub(crate) const DOWNLOAD: Delivery = Delivery::Download { terms: model::LinkTerms::ONCE_WITHIN_AN_HOUR };

pub(crate) fn new_restore(snapshot: &Snapshot, delivery: Delivery) -> NewRestore {
    NewRestore { snapshot_id: snapshot.id, delivery, options: json!({"withUsers": true}) }
}

/// An automated restore of a snapshot onto its own deployment.
pub(crate) async fn request_restore(catalog: &Catalog, snapshot: &Snapshot, now: WallTime) -> RestoreJob {
    let delivery = Delivery::Automated { target: snapshot.deployment_id };
    catalog.restores().request(new_restore(snapshot, delivery), now).await.unwrap()
}

pub(crate) async fn request_download(catalog: &Catalog, snapshot: &Snapshot, now: WallTime) -> RestoreJob {
    catalog.restores().request(new_restore(snapshot, DOWNLOAD), now).await.unwrap()
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

/// Records the deployment from now on, with a window of a week.
pub(crate) async fn switch_on(catalog: &Catalog, deployment: &Deployment) {
    let wanted = ContinuousBackup { pit_enabled: true, ..ContinuousBackup::default() };
    catalog.timelines().set_continuous_backup(deployment.id, wanted).await.unwrap();
}

pub(crate) async fn capture(catalog: &Catalog, deployment: &Deployment, now: WallTime) -> CaptureLease {
    let lease = catalog.timelines().claim(deployment.id, "k0", now, LEASE_MS).await.unwrap();
    lease.expect("nobody holds the capture")
}

/// The operation of that second on the clock of the deployment, which is ours.
pub(crate) fn position(seconds: i64) -> OplogPosition {
    let seconds = u32::try_from(at(seconds).seconds()).unwrap();
    OplogPosition { time: ClusterTime { seconds, increment: 1 }, term: 1 }
}

pub(crate) fn time(seconds: i64) -> ClusterTime {
    position(seconds).time
}

/// A recorded deployment with a timeline that begins at 0.
pub(crate) async fn recorded(catalog: &Catalog) -> (Deployment, CaptureLease, Timeline) {
    let (_, deployment) = source(catalog).await;
    switch_on(catalog, &deployment).await;
    let lease = capture(catalog, &deployment, T0).await;
    let timeline = catalog.timelines().open(&lease, new_timeline(0), T0).await.unwrap();
    (deployment, lease, timeline)
}

pub(crate) fn new_timeline(start: i64) -> NewTimeline {
    NewTimeline {
        replica_set_id: Some("5ebb".to_owned()),
        replica_set_name: "rs0".to_owned(),
        start: position(start),
    }
}

/// The slice that continues the timeline up to a second, without open transactions.
pub(crate) fn next_slice(timeline: &Timeline, to: i64) -> NewSlice {
    NewSlice {
        name: format!("{}-{}-{to}", timeline.id, timeline.next_sequence),
        sequence: timeline.next_sequence,
        previous: timeline.last_slice.clone(),
        span: SliceSpan {
            after: timeline.end,
            first: OplogPosition {
                time: ClusterTime::from_u64(timeline.end.time.as_u64() + 1),
                ..timeline.end
            },
            last: OplogPosition { term: timeline.end.term, ..position(to) },
            read_from: time(to),
        },
        entries: 10,
        bytes: 1 << 20,
        stored_bytes: 1 << 18,
        created_at: at(to),
    }
}

/// Appends a slice up to that second and has it stored.
pub(crate) async fn record(
    catalog: &Catalog,
    lease: &CaptureLease,
    timeline: &Timeline,
    to: i64,
) -> Timeline {
    let slice = next_slice(timeline, to);
    catalog.timelines().append(lease, timeline.id, &slice).await.unwrap();
    catalog.timelines().mark_stored(lease, &slice.name).await.unwrap()
}
