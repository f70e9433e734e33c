//! Capture: what the vault holds of the oplog is what the deployment's oplog held, entry for entry.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use catalog::{Catalog, NewDeployment, Page, Timeline};
use futures::TryStreamExt as _;
use model::{ClusterTime, ContinuousBackup, timeline::TimelineEnd};
use support::{
    Bench, documents,
    engine::{Engine, Settings, engine::wall_clock},
};
use testbed::Options;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault::{ObjectName, Slice};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// An engine that runs until it is stopped.
struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    fn start(engine: Engine) -> Self {
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        Self { task: tokio::spawn(async move { engine.run(until).await }), shutdown }
    }

    /// As a signal does.
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` does, as far as one process can: whatever it was about to do is not done.
    fn kill(self) {
        self.task.abort();
    }
}

/// The vault is away until the guard is dropped: a file lies where its directory of slices was.
struct VaultAway {
    place: std::path::PathBuf,
    aside: std::path::PathBuf,
}

impl VaultAway {
    fn of(bench: &Bench) -> Self {
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

async fn captured_bench(options: Options) -> Bench {
    let bench = Bench::start(options).await;
    bench.fill("app", "things", documents(500, 100, |n| Bson::Int64(n as i64))).await;
    switch(&bench, true).await;
    bench
}

async fn switch(bench: &Bench, on: bool) {
    let wanted = ContinuousBackup { pit_enabled: on, ..ContinuousBackup::default() };
    bench.catalog.timelines().set_continuous_backup(bench.deployment, wanted).await.unwrap();
}

fn settings(bench: &Bench) -> Settings {
    // Leases of killed captures run out soon.
    Settings { lease_ms: 3_000, spool_dir: bench.dir.path().join("spool"), ..bench.settings() }
}

async fn until<T, F: Future<Output = Option<T>>>(
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

async fn current(bench: &Bench) -> Option<Timeline> {
    bench.catalog.timelines().current(bench.deployment).await.unwrap()
}

/// Waits until everything up to now is in the vault. A timeline may begin later than now: until one has begun it is not
/// waited for anything on it.
async fn caught_up(bench: &Bench) -> Timeline {
    until(bench, "a timeline begins", || current(bench)).await;
    let now = majority_now(bench).await;
    until(bench, "capture catches up", || async {
        current(bench).await.filter(|timeline| timeline.durable.time >= now)
    })
    .await
}

/// Waits until everything up to now is recorded, in the vault or not; which time that is.
async fn recorded(bench: &Bench) -> ClusterTime {
    let now = majority_now(bench).await;
    until(bench, "the slice is recorded as waiting", || async {
        current(bench).await.filter(|timeline| timeline.end.time >= now)
    })
    .await;
    now
}

async fn majority_now(bench: &Bench) -> ClusterTime {
    let note = doc! { "appendOplogNote": 1, "data": { "msg": "test" }, "writeConcern": { "w": "majority" } };
    let reply = bench.server.admin(note).await.unwrap();
    let time = reply.get_timestamp("operationTime").unwrap();
    ClusterTime { seconds: time.time, increment: time.increment }
}

async fn slices(bench: &Bench, timeline: &Timeline) -> Vec<catalog::Slice> {
    let timelines = bench.catalog.timelines();
    timelines.slices(timeline.id, timeline.start.time, timeline.durable.time).await.unwrap()
}

/// The entries that the vault has of a timeline, its chain checked.
async fn captured(bench: &Bench, timeline: &Timeline) -> Vec<Vec<u8>> {
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
async fn oplog(bench: &Bench, after: ClusterTime, to: ClusterTime) -> Vec<Vec<u8>> {
    let time = |time: ClusterTime| Timestamp { time: time.seconds, increment: time.increment };
    let filter = doc! { "ts": { "$gt": time(after), "$lte": time(to) } };
    let oplog = bench.client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let entries: Vec<_> = oplog.find(filter).await.unwrap().try_collect().await.unwrap();
    entries.into_iter().map(RawDocumentBuf::into_bytes).collect()
}

async fn assert_whole(bench: &Bench, timeline: &Timeline) {
    let (ours, theirs) =
        (captured(bench, timeline).await, oplog(bench, timeline.start.time, timeline.durable.time).await);
    assert_eq!(ours.len(), theirs.len(), "another number of entries");
    assert!(ours == theirs, "entries differ");
}

/// Writes until it is stopped; how much it wrote.
fn writer(bench: &Bench, stop: &CancellationToken) -> JoinHandle<i64> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_entry_is_captured_once_whatever_happens_to_the_process() {
    let bench = captured_bench(Options::default()).await;
    let stop = CancellationToken::new();
    let writing = writer(&bench, &stop);
    for round in 0..4 {
        let running = Running::start(bench.engine(settings(&bench)));
        caught_up(&bench).await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        if round % 2 == 0 { running.kill() } else { running.stop().await }
    }
    stop.cancel();
    assert!(writing.await.unwrap() > 10);
    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
    let all = bench.catalog.timelines().list(bench.deployment, Page::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "one timeline all along: {all:?}");
    let slices = slices(&bench, &timeline).await;
    assert!(slices.len() > 3);
    assert!(slices.len() < 60, "a slice is closed when it is due, and not with each batch: {}", slices.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slices_wait_on_disk_while_the_vault_is_away_and_survive_a_crash_there() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let now = recorded(&bench).await;
    let timeline = current(&bench).await.unwrap();
    assert!(timeline.durable.time < now, "the vault has what it cannot have");
    assert!(!bench.catalog.timelines().spooled(timeline.id).await.unwrap().is_empty());
    running.kill();

    let running = Running::start(bench.engine(settings(&bench)));
    drop(away);
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(bench.catalog.timelines().spooled(timeline.id).await.unwrap(), []);
    assert_whole(&bench, &timeline).await;
    let left: Vec<_> = std::fs::read_dir(bench.dir.path().join("spool").join(bench.deployment.to_string()))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "the spool holds what the vault has: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_only_a_lost_disk_had_is_read_from_the_deployment_again() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    recorded(&bench).await;
    running.kill();
    std::fs::remove_dir_all(bench.dir.path().join("spool")).unwrap();
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_ends_on_a_lost_disk_is_left_alone() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    recorded(&bench).await;
    switch(&bench, false).await;
    let timelines = bench.catalog.timelines();
    until(&bench, "the end of the timeline", || async {
        timelines.current(bench.deployment).await.unwrap().is_none().then_some(())
    })
    .await;
    running.kill();
    std::fs::remove_dir_all(bench.dir.path().join("spool")).unwrap();
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    // Long enough to be claimed again and again, if it were.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let lease = until(&bench, "the lease", || async {
        timelines.claim(bench.deployment, "test", wall_clock(), 1).await.unwrap()
    })
    .await;
    assert!(lease.epoch <= 6, "it was claimed and given back again and again: {}", lease.epoch);
    // Whoever has the disk may still bring it; and who switches it on again does not wait.
    timelines.release(&lease, wall_clock()).await.unwrap();
    switch(&bench, true).await;
    caught_up(&bench).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_oplog_that_rolled_over_ends_the_timeline_and_a_new_one_begins_with_a_base() {
    let bench = captured_bench(Options { oplog_mb: Some(1), ..Options::default() }).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let first = caught_up(&bench).await;
    running.stop().await;
    let oldest = || async {
        let oplog = bench.client.database("local").collection::<Document>("oplog.rs");
        let entry = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap().unwrap();
        let time = entry.get_timestamp("ts").unwrap();
        ClusterTime { seconds: time.time, increment: time.increment }
    };
    let mut n = 0;
    while oldest().await <= first.end.time {
        bench.fill("app", "much", documents(500, 4_000, |at| Bson::Int64((n * 500 + at) as i64))).await;
        n += 1;
    }
    let running = Running::start(bench.engine(settings(&bench)));
    let second = until(&bench, "a new timeline begins", || async {
        current(&bench).await.filter(|timeline| timeline.id != first.id)
    })
    .await;
    let based = until(&bench, "the new timeline gets its base", || async {
        let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
        ranges.into_iter().find(|(timeline, _)| timeline.id == second.id)
    })
    .await;
    running.stop().await;
    assert!(based.1.from > second.start.time);
    let ended = bench.catalog.timelines().get(first.id).await.unwrap().unwrap();
    let end = ended.ended.expect("it has ended");
    assert_eq!(end.reason, TimelineEnd::RolledOver);
    assert!(!end.detail.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn capture_ends_when_it_is_switched_off_and_begins_anew_when_it_is_switched_on() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let first = caught_up(&bench).await;
    switch(&bench, false).await;
    let ended = until(&bench, "the timeline ends", || async {
        bench.catalog.timelines().get(first.id).await.unwrap().unwrap().ended
    })
    .await;
    assert_eq!(ended.reason, TimelineEnd::SwitchedOff);
    switch(&bench, true).await;
    let second = caught_up(&bench).await;
    running.stop().await;
    assert_ne!(second.id, first.id);
    assert_whole(&bench, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_make_one_record_and_the_other_goes_on_when_one_dies() {
    let bench = captured_bench(Options::default()).await;
    let named = |name: &str| Settings { worker_name: name.to_owned(), ..settings(&bench) };
    let one = Running::start(bench.engine(named("one")));
    caught_up(&bench).await;
    let two = Running::start(bench.engine(named("two")));
    let stop = CancellationToken::new();
    let writing = writer(&bench, &stop);
    caught_up(&bench).await;
    one.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    writing.await.unwrap();
    let timeline = caught_up(&bench).await;
    two.stop().await;
    assert_whole(&bench, &timeline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_idle_deployment_advances_too() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    // The primary writes a note of its own every ten seconds.
    until(&bench, "the record goes on by itself", || async {
        current(&bench).await.filter(|timeline| timeline.durable.time > before.durable.time)
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuilt_catalog_goes_on_with_the_timeline() {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    until(&bench, "the timeline gets its base", || async {
        bench.catalog.timelines().ranges(bench.deployment).await.unwrap().pop()
    })
    .await;
    running.stop().await;
    let before = bench.catalog.timelines().get(before.id).await.unwrap().unwrap();

    let other = Catalog::open(bench.dir.path().join("other.sqlite").to_str().unwrap()).await.unwrap();
    let rebuilt = support::engine::rebuild::rebuild(&bench.vault, &other, wall_clock()).await.unwrap();
    assert_eq!((rebuilt.timelines, rebuilt.snapshots, rebuilt.unreadable.len()), (1, 1, 0));
    let after = other.timelines().get(before.id).await.unwrap().unwrap();
    assert_eq!(
        (after.start, after.durable, after.last_slice),
        (before.start, before.durable, before.last_slice)
    );
    assert_eq!(after.ended, None);
    let again = support::engine::rebuild::rebuild(&bench.vault, &other, wall_clock()).await.unwrap();
    assert_eq!((again.timelines, again.snapshots), (0, 0));

    // The deployment is added again, and its record goes on where it was.
    let row = bench.catalog.deployments().get(bench.deployment).await.unwrap().unwrap();
    let new = NewDeployment {
        project_id: row.project_id,
        name: row.name,
        kind: row.kind,
        uri_sealed: row.uri_sealed,
        options: row.options,
        facts: row.facts,
        continuous: None,
    };
    assert_eq!(other.deployments().add(new, wall_clock()).await.unwrap().id, bench.deployment);
    let bench = Bench { catalog: other, ..bench };
    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_eq!(timeline.id, before.id);
    assert_whole(&bench, &timeline).await;
}

/// Lets two slices wait in the spool, does something to the last one's file, and lets capture go on.
async fn after_harm_to_the_spool(harm: impl Fn(&std::path::Path)) {
    let bench = captured_bench(Options::default()).await;
    let running = Running::start(bench.engine(settings(&bench)));
    caught_up(&bench).await;
    let away = VaultAway::of(&bench);
    for name in ["one", "two"] {
        bench.fill("app", name, documents(50, 100, |n| Bson::Int64(n as i64))).await;
        recorded(&bench).await;
    }
    running.kill();
    let waiting = bench.catalog.timelines().spooled(current(&bench).await.unwrap().id).await.unwrap();
    let (first, last) = (waiting.first().unwrap(), waiting.last().unwrap());
    assert_ne!(first.name, last.name);
    let hex = last.name.strip_prefix("slice/").unwrap();
    harm(&bench.dir.path().join("spool").join(bench.deployment.to_string()).join(hex));
    drop(away);

    let running = Running::start(bench.engine(settings(&bench)));
    let timeline = caught_up(&bench).await;
    running.stop().await;
    assert_whole(&bench, &timeline).await;
    let kept = slices(&bench, &timeline).await.into_iter().any(|slice| slice.name == first.name);
    assert!(kept, "what was good in the spool was thrown away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_before_a_lost_slice_is_kept() {
    after_harm_to_the_spool(|file| std::fs::remove_file(file).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slice_that_was_damaged_while_it_waited_is_read_from_the_oplog_again() {
    after_harm_to_the_spool(|file| {
        let mut bytes = std::fs::read(file).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        std::fs::write(file, bytes).unwrap();
    })
    .await;
}
