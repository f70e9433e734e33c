//! Captures to start and to stop, and what they hold beside what the deployment's oplog held.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use catalog::{Snapshot, Timeline};
use futures::TryStreamExt as _;
use model::{ClusterTime, ContinuousBackup, snapshot::SnapshotState};
use testbed::Options;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault::{ObjectName, Slice};

use crate::support::{
    Bench, documents,
    engine::{Engine, Settings},
};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// An engine that runs until it is stopped.
pub struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub fn start(engine: Engine) -> Self {
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        Self { task: tokio::spawn(async move { engine.run(until).await }), shutdown }
    }

    /// As a signal does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` does, as far as one process can: whatever it was about to do is not done.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// The vault is away until the guard is dropped: a file lies where its directory of slices was.
pub struct VaultAway {
    place: std::path::PathBuf,
    aside: std::path::PathBuf,
}

impl VaultAway {
    pub fn of(bench: &Bench) -> Self {
        let (place, aside) =
            (bench.dir.path().join("vault/v1/slices"), bench.dir.path().join("slices-aside"));
        std::fs::rename(&place, &aside).unwrap();
        std::fs::write(&place, b"").unwrap();
        Self { place, aside }
    }
}

impl Drop for VaultAway {
    fn drop(&mut self) {
        std::fs::remove_file(&self.place).unwrap();
        std::fs::rename(&self.aside, &self.place).unwrap();
    }
}

pub async fn captured_bench(options: Options) -> Bench {
    let bench = Bench::start(options).await;
    bench.fill("app", "things", documents(500, 100, |n| Bson::Int64(n as i64))).await;
    switch(&bench, true).await;
    bench
}

pub async fn switch(bench: &Bench, on: bool) {
    let wanted = ContinuousBackup { pit_enabled: on, ..ContinuousBackup::default() };
    bench.catalog.timelines().set_continuous_backup(bench.deployment, wanted).await.unwrap();
}

pub fn settings(bench: &Bench) -> Settings {
    // Leases of killed captures run out soon.
    Settings { lease_ms: 3_000, spool_dir: bench.dir.path().join("spool"), ..bench.settings() }
}

pub async fn until<T, F: Future<Output = Option<T>>>(
    bench: &Bench,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => {
            let capture = bench.catalog.timelines().capture(bench.deployment).await.unwrap();
            panic!("waited for in vain: {what}; {capture:?}; {:?}", current(bench).await)
        }
    }
}

pub async fn current(bench: &Bench) -> Option<Timeline> {
    bench.catalog.timelines().current(bench.deployment).await.unwrap()
}

/// Waits until everything up to now is in the vault. A timeline may begin later than now: until one has begun it is not
/// waited for anything on it.
pub async fn caught_up(bench: &Bench) -> Timeline {
    until(bench, "a timeline begins", || current(bench)).await;
    let now = majority_now(bench).await;
    until(bench, "capture catches up", || async {
        current(bench).await.filter(|timeline| timeline.durable.time >= now)
    })
    .await
}

/// Waits until something of the open timeline can be restored.
pub async fn based(bench: &Bench) -> Timeline {
    until(bench, "the timeline gets its base", || async {
        let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
        ranges.into_iter().map(|(timeline, _)| timeline).find(|timeline| timeline.ended.is_none())
    })
    .await
}

/// A snapshot that the engine that runs makes of the record.
pub async fn folded(bench: &Bench) -> Snapshot {
    let id = bench.request().await;
    let snapshot = until(bench, "the snapshot ends", || async {
        let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        (!matches!(snapshot.state, SnapshotState::Queued | SnapshotState::InProgress)).then_some(snapshot)
    })
    .await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    assert!(snapshot.notes["folded"].is_object(), "it was read: {}", snapshot.notes["notFolded"]);
    snapshot
}

/// How capture says that it is.
pub async fn shown(bench: &Bench) -> serde_json::Value {
    let capture = bench.catalog.timelines().capture(bench.deployment).await.unwrap();
    capture.map(|capture| capture.status).unwrap_or_default()
}

/// Waits until everything up to now is recorded, in the vault or not; which time that is.
pub async fn recorded(bench: &Bench) -> ClusterTime {
    let now = majority_now(bench).await;
    until(bench, "the slice is recorded as waiting", || async {
        current(bench).await.filter(|timeline| timeline.end.time >= now)
    })
    .await;
    now
}

pub async fn majority_now(bench: &Bench) -> ClusterTime {
    let note = doc! { "appendOplogNote": 1, "data": { "msg": "test" }, "writeConcern": { "w": "majority" } };
    let reply = bench.server.admin(note).await.unwrap();
    let time = reply.get_timestamp("operationTime").unwrap();
    ClusterTime { seconds: time.time, increment: time.increment }
}

pub async fn slices(bench: &Bench, timeline: &Timeline) -> Vec<catalog::Slice> {
    let timelines = bench.catalog.timelines();
    timelines.slices(timeline.id, timeline.start.time, timeline.durable.time).await.unwrap()
}

/// The entries that the vault has of a timeline, its chain checked.
pub async fn captured(bench: &Bench, timeline: &Timeline) -> Vec<Vec<u8>> {
    let mut entries = vec![];
    let mut before: Option<Slice> = None;
    for row in slices(bench, timeline).await {
        let name: ObjectName = row.name.parse().unwrap();
        let slice = Slice::open(&bench.vault, &name).await.unwrap();
        match &before {
            Some(before) => slice.follows(before.header(), &before.name()).unwrap(),
            None => assert_eq!(slice.header().after, timeline.start),
        }
        for block in 0..slice.blocks().len() {
            let bytes = slice.read_block(block).await.unwrap();
            entries.extend(history::raw::documents(&bytes).map(|entry| entry.unwrap().to_vec()));
        }
        before = Some(slice);
    }
    entries
}

/// The same out of the deployment.
pub async fn oplog(bench: &Bench, after: ClusterTime, to: ClusterTime) -> Vec<Vec<u8>> {
    let time = |time: ClusterTime| Timestamp { time: time.seconds, increment: time.increment };
    let filter = doc! { "ts": { "$gt": time(after), "$lte": time(to) } };
    let oplog = bench.client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let entries: Vec<_> = oplog.find(filter).await.unwrap().try_collect().await.unwrap();
    entries.into_iter().map(RawDocumentBuf::into_bytes).collect()
}

pub async fn assert_whole(bench: &Bench, timeline: &Timeline) {
    let (ours, theirs) =
        (captured(bench, timeline).await, oplog(bench, timeline.start.time, timeline.durable.time).await);
    assert_eq!(ours.len(), theirs.len(), "another number of entries");
    assert!(ours == theirs, "entries differ");
}

/// Writes until it is stopped; how much it wrote.
pub fn writer(bench: &Bench, stop: &CancellationToken) -> JoinHandle<i64> {
    let (collection, stop) = (bench.client.database("app").collection::<Document>("written"), stop.clone());
    tokio::spawn(async move {
        let mut n = 0;
        while !stop.is_cancelled() {
            collection.insert_one(doc! { "_id": n, "text": "x".repeat(200) }).await.unwrap();
            collection.update_one(doc! { "_id": n / 2 }, doc! { "$inc": { "times": 1 } }).await.unwrap();
            n += 1;
        }
        n
    })
}
