//! A restore into a captured deployment waits for the recording instead of rolling the oplog over.
//!
//! The keeper is another process than the one that restores, and slow, or dead. `EBBTIDE_PACED_OPLOG_MB` sets the size of the
//! oplog (24 by default), `EBBTIDE_PACED_DATA_MB` how much is restored through it (100).
#![allow(clippy::unwrap_used)]

mod capture_support;
mod restore_support;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Bson, Document, Timestamp, doc};
use capture_support::{Running, based, caught_up, current, majority_now, settings, switch, until};
use catalog::{Delivery, NewRestore, NewSnapshot, RestoreJob, Snapshot, SnapshotType};
use futures::TryStreamExt as _;
use model::{
    ClusterTime,
    id::{DeploymentId, RestoreJobId},
    job::Progress,
    restore::RestoreState,
    snapshot::SnapshotState,
};
use restore_support::{assert_no_staging, data, register, request};
use serde_json::json;
use support::{
    Bench, documents,
    engine::{Settings, engine::wall_clock},
    number, probe,
};
use testbed::{Options, Server, oracle};

/// What a slow keeper takes longer for each of its slices.
const SLICE_TAKES: Duration = Duration::from_secs(2);
/// What the largest restore may take.
const PATIENCE: Duration = Duration::from_secs(1_500);
const DOCUMENT_BYTES: usize = 64 << 10;

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn oplog_mb() -> u32 {
    setting("EBBTIDE_PACED_OPLOG_MB", 24)
}

fn data_bytes() -> u64 {
    u64::from(setting("EBBTIDE_PACED_DATA_MB", 100)) * 1_000_000
}

/// A captured deployment with a small oplog, and a snapshot of another one that is several times as large.
struct Paced {
    bench: Bench,
    large: Snapshot,
    /// Restores and takes snapshots; does not capture.
    worker: Running,
    /// Captures and does nothing else.
    keeper: Option<Running>,
    /// Whether the keeper is slow.
    slow: Arc<AtomicBool>,
    // Its snapshot is compared with nothing, but the worker looks after it until the end.
    _origin: Server,
}

impl Paced {
    async fn start() -> Self {
        // A server keeps what it needs after a crash, however much that is: all since its last checkpoint, of a minute ago
        // at most.
        let arguments = ["--syncdelay", "1"].map(str::to_owned).to_vec();
        let target = Options { oplog_mb: Some(oplog_mb()), arguments, ..Options::version("6.0.5") };
        let bench = Bench::start(target).await;
        bench.fill("app", "things", documents(2_000, 300, |n| Bson::Int64(n as i64))).await;
        let index = doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n" }] };
        bench.client.database("app").run_command(index).await.unwrap();
        let slow = Arc::new(AtomicBool::new(false));
        let worker = Settings { capture: false, workers: 2, ..settings(&bench) };
        let worker = Running::start(bench.engine(worker));
        let slowly = {
            let slow = Arc::clone(&slow);
            probe(move |moment, _| {
                let slow = moment == "capture.sealed" && slow.load(Ordering::SeqCst);
                async move {
                    if slow {
                        tokio::time::sleep(SLICE_TAKES).await;
                    }
                }
            })
        };
        let keeper = Settings { workers: 0, spill_dir: bench.dir.path().join("other"), ..settings(&bench) };
        let keeper = Running::start(bench.engine(keeper).with_probe(slowly));

        let origin = Server::start(Options::version("6.0.5")).await.unwrap();
        let count = data_bytes() / DOCUMENT_BYTES as u64;
        let large = origin.client().await.unwrap().database("app").collection::<Document>("large");
        let mut left = documents(count, DOCUMENT_BYTES, |n| Bson::Int64(n as i64)).peekable();
        while left.peek().is_some() {
            large.insert_many(left.by_ref().take(200)).await.unwrap();
        }
        let id = register(&bench, "origin", &origin.uri()).await;
        let large = taken(&bench, id).await;
        switch(&bench, true).await;
        based(&bench).await;
        Self { bench, large, worker, keeper: Some(keeper), slow, _origin: origin }
    }

    async fn request(&self) -> RestoreJobId {
        request(&self.bench, &self.large, self.bench.deployment, json!({})).await
    }

    async fn job(&self, id: RestoreJobId) -> RestoreJob {
        self.bench.catalog.restores().get(id).await.unwrap().unwrap()
    }

    async fn progress(&self, id: RestoreJobId) -> Progress {
        let job = self.bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
        job.progress.unwrap_or_default()
    }

    /// Waits for the end of a job.
    async fn ended(&self, id: RestoreJobId) -> RestoreJob {
        let begun = Instant::now();
        loop {
            let job = self.job(id).await;
            if !matches!(
                job.state,
                RestoreState::Queued
                    | RestoreState::Running
                    | RestoreState::Cancelling
                    | RestoreState::CutOver
            ) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "it hangs: {:?}", self.progress(id).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Restores to a point in time.
    async fn back_to(&self, at: ClusterTime, target: DeploymentId) {
        let (_, base) =
            self.bench.catalog.timelines().base_for(self.bench.deployment, at).await.unwrap().unwrap();
        let delivery = Delivery::PointInTime { target, at: at.into() };
        let new = NewRestore { snapshot_id: base.id, delivery, options: json!({}) };
        let id = self.bench.catalog.restores().request(new, wall_clock()).await.unwrap().id;
        let job = self.ended(id).await;
        assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    }

    /// Waits until the job says that it waits and that nobody records.
    async fn stands_still(&self, id: RestoreJobId) -> String {
        until(&self.bench, "the restore says that it waits", || async {
            let progress = self.progress(id).await;
            progress.warning.contains("stood still").then_some(progress.warning)
        })
        .await
    }
}

async fn taken(bench: &Bench, deployment_id: DeploymentId) -> Snapshot {
    let snapshot_type = SnapshotType::OnDemand;
    let new = NewSnapshot { deployment_id, snapshot_type, description: None, retention_days: Some(1) };
    let id = bench.catalog.snapshots().request(new, wall_clock()).await.unwrap().id;
    until(bench, "the snapshot is taken", || async {
        let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        (snapshot.state == SnapshotState::Completed).then_some(snapshot)
    })
    .await
}

/// Where the last slice ends.
async fn recorded(bench: &Bench) -> Option<Timestamp> {
    let end = current(bench).await?.end.time;
    Some(Timestamp { time: end.seconds, increment: end.increment })
}

/// Bytes of entries in the oplog that no slice has.
async fn unrecorded(bench: &Bench) -> u64 {
    let Some(before) = recorded(bench).await else { return 0 };
    let pipeline = [
        doc! { "$match": { "ts": { "$gt": before } } },
        doc! { "$project": { "ts": 1, "bytes": { "$bsonSize": "$$ROOT" } } },
    ];
    let oplog = bench.client.database("local").collection::<Document>("oplog.rs");
    let found: Vec<Document> = oplog.aggregate(pipeline).await.unwrap().try_collect().await.unwrap();
    // The server takes a while for them, and what is recorded meanwhile is not behind.
    let Some(after) = recorded(bench).await else { return 0 };
    let behind = found.iter().filter(|entry| entry.get_timestamp("ts").unwrap() > after);
    behind.map(|entry| number(entry.get("bytes").unwrap()).unsigned_abs()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_waits_for_a_slow_recording_and_the_timeline_goes_on() {
    let paced = Paced::start().await;
    let bench = &paced.bench;
    let before = caught_up(bench).await;
    let (undo, data_before) = (majority_now(bench).await, data(&bench.client).await);

    paced.slow.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let id = paced.request().await;
    let (mut warning, mut middle, mut behind_max) = (None, None, 0);
    while paced.job(id).await.finished_at.is_none() {
        let progress = paced.progress(id).await;
        if !progress.warning.is_empty() {
            warning = Some(progress.warning);
        }
        if middle.is_none() && progress.bytes_done > progress.bytes_total / 2 && progress.phase == "load" {
            middle = Some(majority_now(bench).await);
        }
        behind_max = behind_max.max(unrecorded(bench).await);
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        // To count what is not recorded is work for the server.
        tokio::time::sleep((begun.elapsed() / 20).max(Duration::from_millis(250))).await;
    }
    let job = paced.job(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let (took, oplog) = (begun.elapsed(), u64::from(oplog_mb()) << 20);
    eprintln!(
        "{} MB through an oplog of {} MB in {} s; at most {} MB of it were not recorded",
        data_bytes() / 1_000_000,
        oplog / 1_000_000,
        took.as_secs(),
        behind_max / 1_000_000
    );
    paced.slow.store(false, Ordering::SeqCst);
    let after = caught_up(bench).await;
    assert_eq!((after.id, after.ended), (before.id, None), "one timeline all along");
    assert!(warning.as_ref().is_some_and(|text| text.contains("continuous backup is behind")), "{warning:?}");
    assert!(behind_max < oplog / 4 * 3, "{behind_max} of {oplog} bytes were not recorded");
    let large = bench.client.database("app").collection::<Document>("large");
    let count = large.estimated_document_count().await.unwrap();
    assert_eq!(count, paced.large.documents);

    // What was in the middle of it is not what is being loaded: that is not in its place yet.
    let elsewhere = Server::start(Options::version("6.0.5")).await.unwrap();
    let other = register(bench, "elsewhere", &elsewhere.uri()).await;
    paced.back_to(middle.expect("a time in the middle of the load"), other).await;
    oracle::assert_same(&data_before, &data(&elsewhere.client().await.unwrap()).await);
    // And the restore is undone by another one.
    paced.back_to(undo, bench.deployment).await;
    oracle::assert_same(&data_before, &data(&bench.client).await);
    let after = caught_up(bench).await;
    assert_eq!((after.id, after.ended), (before.id, None), "one timeline all along");
    paced.worker.stop().await;
    paced.keeper.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recording_that_stands_still_is_waited_for_until_it_is_given_up() {
    let mut paced = Paced::start().await;
    caught_up(&paced.bench).await;
    paced.keeper.take().unwrap().stop().await;
    let bench = &paced.bench;
    let (before, data_before) = (current(bench).await.unwrap(), data(&bench.client).await);

    let id = paced.request().await;
    let warning = paced.stands_still(id).await;
    assert!(warning.contains("`ebbtide cluster update source --pit off`"), "{warning}");
    let work = |id: RestoreJobId| async move {
        bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap()
    };
    assert_eq!(work(id).await.attempts, 1, "its lease ran out while it waited");
    let done = paced.progress(id).await.bytes_done;
    assert!(done < data_bytes() / 2, "{done} bytes are loaded");
    bench.catalog.restores().request_cancel(id, wall_clock()).await.unwrap().unwrap();
    let job = paced.ended(id).await;
    assert_eq!(job.state, RestoreState::Cancelled, "{:?}", job.error);
    assert_no_staging(&bench.client).await;
    oracle::assert_same(&data_before, &data(&bench.client).await);
    assert_eq!(current(bench).await, Some(before), "nobody records");

    let id = paced.request().await;
    paced.stands_still(id).await;
    switch(bench, false).await;
    let job = paced.ended(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_eq!(work(id).await.attempts, 1);
    paced.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rewind_waits_as_well_behind_the_fence() {
    let paced = Paced::start().await;
    let bench = &paced.bench;
    let big = bench.client.database("app").collection::<Document>("big");
    let (count, half) = (u64::from(oplog_mb()) * 24, i64::from(oplog_mb()) * 20);
    let mut left = documents(count, DOCUMENT_BYTES, |n| Bson::Int64(n as i64)).peekable();
    while left.peek().is_some() {
        big.insert_many(left.by_ref().take(50)).await.unwrap();
        caught_up(bench).await;
    }
    let (at, data_before) = (majority_now(bench).await, data(&bench.client).await);
    big.delete_many(doc! { "_id": { "$lt": half } }).await.unwrap();
    let before = caught_up(bench).await;

    paced.slow.store(true, Ordering::SeqCst);
    let (begun, mut warning) = (Instant::now(), String::new());
    let (_, base) = bench.catalog.timelines().base_for(bench.deployment, at).await.unwrap().unwrap();
    let delivery = Delivery::PointInTime { target: bench.deployment, at: at.into() };
    let new = NewRestore { snapshot_id: base.id, delivery, options: json!({ "rewind": "only" }) };
    let id = bench.catalog.restores().request(new, wall_clock()).await.unwrap().id;
    while paced.job(id).await.finished_at.is_none() {
        let told = paced.progress(id).await.warning;
        if told.contains("continuous backup is behind") {
            warning = told;
        }
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let job = paced.job(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_eq!(job.receipt.unwrap()["rewind"]["documents"]["inserted"], half);
    assert!(warning.contains("others are kept out meanwhile"), "{warning:?}");
    paced.slow.store(false, Ordering::SeqCst);
    let after = caught_up(bench).await;
    assert_eq!((after.id, after.ended), (before.id, None), "one timeline all along");
    oracle::assert_same(&data_before, &data(&bench.client).await);
    paced.worker.stop().await;
    paced.keeper.unwrap().stop().await;
}
