//! Snapshots of a captured deployment: folded out of the vault, equal to what reading would have given.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bson::{Bson, Document, doc};
use catalog::{Page, Snapshot, SnapshotFilter};
use futures::TryStreamExt as _;
use model::{id::Id, snapshot::SnapshotState};
use restore_support::captured::{Captured, pause};
use support::{
    Bench, documents,
    engine::{
        engine::{Probe, wall_clock},
        rebuild::rebuild,
    },
};
use testbed::Options;
use vault::{ManifestHeader, ManifestWriter, NoAnnounce};

/// A captured deployment with two collections in it.
struct Working(Captured);

impl Deref for Working {
    type Target = Captured;

    fn deref(&self) -> &Captured {
        &self.0
    }
}

impl Working {
    async fn start(options: Options) -> Self {
        Self::over(Bench::start(options).await, None).await
    }

    async fn over(bench: Bench, probe: Option<Probe>) -> Self {
        bench.fill("app", "things", documents(20_000, 300, |n| Bson::Int64(n as i64))).await;
        bench.fill("app", "others", documents(100, 300, |n| Bson::String(format!("{n:03}")))).await;
        Self(Captured::over(bench, probe).await)
    }

    /// The snapshot that capture asks for by itself.
    async fn base(&self) -> Snapshot {
        let begun = std::time::Instant::now();
        loop {
            let timelines = self.bench.catalog.timelines();
            let ranges = timelines.ranges(self.bench.deployment).await.unwrap();
            if let Some((timeline, range)) = ranges.first() {
                let (_, base) = timelines.base_for(self.bench.deployment, range.to).await.unwrap().unwrap();
                assert!(timeline.start.time <= range.from);
                return base;
            }
            pause(begun).await;
        }
    }

    /// Asks for a snapshot and waits for it.
    async fn snapshot(&self) -> Snapshot {
        let id = self.bench.request().await;
        let begun = std::time::Instant::now();
        loop {
            let snapshot = self.bench.catalog.snapshots().get(id).await.unwrap().unwrap();
            match snapshot.state {
                SnapshotState::Queued | SnapshotState::InProgress => {}
                _ => return snapshot,
            }
            pause(begun).await;
        }
    }

    async fn folded(&self) -> Snapshot {
        let snapshot = self.snapshot().await;
        assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
        assert!(snapshot.notes["folded"].is_object(), "it was read: {}", snapshot.notes["notFolded"]);
        snapshot
    }

    /// How often anybody read the documents of a collection, by the server's own count.
    async fn reads(&self, namespace: &str) -> i64 {
        let top = self.bench.server.admin(doc! { "top": 1 }).await.unwrap();
        let of = top.get_document("totals").unwrap().get_document(namespace).unwrap();
        ["queries", "getmore"]
            .iter()
            .map(|kind| support::number(of.get_document(kind).unwrap().get("count").unwrap()))
            .sum()
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_of_a_captured_deployment_has_the_last_write_and_reads_no_document() {
    let working = Working::start(Options::default()).await;
    let bench = &working.bench;
    let things = bench.client.database("app").collection::<Document>("things");
    let first = working.base().await;
    let reads = working.reads("app.things").await;
    things.update_many(doc! { "_id": { "$mod": [97, 3] } }, doc! { "$set": { "late": true } }).await.unwrap();
    things.delete_many(doc! { "_id": { "$gte": 19_900 } }).await.unwrap();
    let written_reads = working.reads("app.things").await;
    things.insert_one(doc! { "_id": -1, "last": true }).await.unwrap();
    let snapshot = working.folded().await;
    assert_eq!(working.reads("app.things").await, written_reads, "documents were read");
    assert!(written_reads >= reads);
    bench.assert_exact(&snapshot, "app.things").await;
    bench.assert_exact(&snapshot, "app.others").await;
    bench.assert_verifies(&snapshot).await;
    let taken = bench.documents(&snapshot, "app.things").await;
    assert!(taken.contains(&support::raw(&doc! { "_id": -1, "last": true })), "the last write is missing");

    // Each snapshot is whole in itself.
    bench.catalog.snapshots().delete(first.id, wall_clock()).await.unwrap();
    bench.assert_verifies(&snapshot).await;
    let again = working.folded().await;
    bench.assert_exact(&again, "app.things").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn definitions_come_of_the_record_as_they_are_listed() {
    for version in ["6.0.5", "5.0.4"] {
        let working = Working::start(Options::version(version)).await;
        let bench = &working.bench;
        let app = bench.client.database("app");
        let run = |command: Document| {
            let app = app.clone();
            async move { app.run_command(command).await.unwrap() }
        };
        run(doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] }).await;
        run(doc! { "create": "last", "capped": true, "size": 100_000, "max": 50 }).await;
        run(doc! { "create": "seen", "viewOn": "things", "pipeline": [{ "$match": { "n": 1 } }] }).await;
        run(doc! { "create": "measured", "timeseries": { "timeField": "t", "metaField": "m" } }).await;
        bench.fill("app", "last", documents(80, 100, |n| Bson::Int64(n as i64))).await;
        let point = |n: i64| doc! { "t": bson::DateTime::from_millis(n * 1000), "m": n % 3, "v": n };
        bench.fill("app", "measured", (0..50).map(point)).await;
        bench.server.admin(doc! { "renameCollection": "app.others", "to": "app.renamed" }).await.unwrap();
        run(doc! { "collMod": "things", "validator": { "n": { "$exists": true } }, "validationLevel": "moderate" })
            .await;
        run(doc! { "drop": "last" }).await;
        run(doc! { "create": "last", "capped": true, "size": 50_000 }).await;
        bench.fill("app", "last", documents(30, 100, |n| Bson::Int64(n as i64))).await;
        let snapshot = working.folded().await;
        for namespace in ["app.things", "app.renamed", "app.system.buckets.measured"] {
            bench.assert_exact(&snapshot, namespace).await;
        }
        let last = bench.documents(&snapshot, "app.last").await;
        let expected: Vec<_> =
            documents(30, 100, |n| Bson::Int64(n as i64)).map(|document| support::raw(&document)).collect();
        assert!(last == expected, "{version}: the capped collection is another one");
        bench.assert_verifies(&snapshot).await;
        working.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_folded_is_read_and_the_snapshot_says_why() {
    let working = Working::start(Options::default()).await;
    let bench = &working.bench;
    // An operation of a user's `applyOps` with a time that the server does not log: no fold knows it.
    let operation = doc! {
        "op": "i", "ns": "app.things", "o": { "_id": "x", "t": bson::Timestamp { time: 0, increment: 0 } },
    };
    bench.server.admin(doc! { "applyOps": [operation] }).await.unwrap();
    let (things, others) = (working.reads("app.things").await, working.reads("app.others").await);
    let snapshot = working.folded().await;
    let reread = &snapshot.notes["reread"];
    assert_eq!(reread["collections"], serde_json::json!(["app.things"]));
    assert!(reread["reason"].as_str().unwrap().contains("app.things since "), "{reread}");
    // Nothing else was read.
    assert!(working.reads("app.things").await > things);
    assert_eq!(working.reads("app.others").await, others);
    bench.assert_exact(&snapshot, "app.things").await;
    bench.assert_exact(&snapshot, "app.others").await;
    bench.assert_verifies(&snapshot).await;
    // From there on it is folded again.
    bench.client.database("app").collection("things").insert_one(doc! { "_id": "y" }).await.unwrap();
    let next = working.folded().await;
    assert_eq!(next.notes.get("reread"), None);
    bench.assert_exact(&next, "app.things").await;
    working.stop().await;
}

/// Below the feature compatibility version 5.0 the oplog has no word of what a capped collection loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capped_collection_is_read_where_its_losses_are_not_logged() {
    let working = Working::start(Options::version("5.0.4")).await;
    let bench = &working.bench;
    let app = bench.client.database("app");
    app.run_command(doc! { "create": "ring", "capped": true, "size": 4096, "max": 3 }).await.unwrap();
    let ring = app.collection::<Document>("ring");
    ring.insert_one(doc! { "_id": 0 }).await.unwrap();
    working.base().await;
    let logged = working.folded().await;
    assert!(logged.notes["reread"].is_null(), "{}", logged.notes);
    let in_force = |version: &str| doc! { "setFeatureCompatibilityVersion": version };
    bench.server.admin(in_force("4.4")).await.unwrap();
    let insert = |from: i32| ring.insert_many((from..from + 10).map(|n| doc! { "_id": n }));
    insert(1).await.unwrap();
    let lowered = working.folded().await;
    // What the base says of it counts as well.
    insert(11).await.unwrap();
    let below = working.folded().await;
    bench.server.admin(in_force("5.0")).await.unwrap();
    insert(21).await.unwrap();
    let raised = working.folded().await;
    insert(31).await.unwrap();
    let above = working.folded().await;
    for (snapshot, last, is_read) in
        [(lowered, 10, true), (below, 20, true), (raised, 30, false), (above, 40, false)]
    {
        let wanted: Vec<_> = (last - 2..=last).map(|n| support::raw(&doc! { "_id": n })).collect();
        assert_eq!(bench.documents(&snapshot, "app.ring").await, wanted, "{}", snapshot.notes);
        let why = snapshot.notes["reread"]["reason"].as_str().unwrap_or_default();
        assert_eq!(why.contains("it is capped, and below"), is_read, "{}", snapshot.notes);
    }
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_can_be_neither_folded_nor_read_alone_has_everything_read() {
    let server = testbed::Server::start(Options::default()).await.unwrap();
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let (client, armed) = (bench.client.clone(), Arc::new(AtomicBool::new(false)));
    let at_once = Arc::clone(&armed);
    let dropping = support::probe(move |moment, namespace| {
        // Behind the read of what cannot be folded.
        let now = moment == "snapshot.collection-read" && namespace == "app.things";
        let now = now && at_once.swap(false, Ordering::SeqCst);
        let client = client.clone();
        async move {
            if now {
                client.database("app").collection::<Document>("things").drop().await.unwrap();
            }
        }
    });
    let working = Working::over(bench, Some(dropping)).await;
    let bench = &working.bench;
    let operation = doc! {
        "op": "i", "ns": "app.things", "o": { "_id": "x", "t": bson::Timestamp { time: 0, increment: 0 } },
    };
    bench.server.admin(doc! { "applyOps": [operation] }).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    let snapshot = working.snapshot().await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    let reason = snapshot.notes["notFolded"].as_str().expect("a reason");
    assert!(reason.contains("app.things since ") && reason.contains("it was dropped"), "{reason}");
    assert!(!bench.collections(&snapshot).await.contains_key("app.things"));
    bench.assert_exact(&snapshot, "app.others").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_slice_costs_one_reading_of_the_deployment_and_no_more() {
    let working = Working::start(Options::default()).await;
    let bench = &working.bench;
    let things = bench.client.database("app").collection::<Document>("things");
    things.insert_one(doc! { "_id": "before" }).await.unwrap();
    working.folded().await;
    // What follows the last snapshot in the record.
    things.insert_one(doc! { "_id": "after" }).await.unwrap();
    let timelines = bench.catalog.timelines();
    let known = timelines.current(bench.deployment).await.unwrap().unwrap().next_sequence;
    let begun = std::time::Instant::now();
    let damaged = loop {
        let timeline = timelines.current(bench.deployment).await.unwrap().unwrap();
        let last = timeline.durable.time;
        if timeline.durable_sequence > known {
            break timelines.slices(timeline.id, last, last).await.unwrap().pop().unwrap();
        }
        pause(begun).await;
    };
    let hex = damaged.name.strip_prefix("slice/").unwrap();
    let file = bench.dir.path().join("vault/v1/slices").join(&hex[..2]).join(hex);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let snapshot = working.snapshot().await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    let reason = snapshot.notes["notFolded"].as_str().expect("a reason");
    assert!(reason.contains("damaged"), "{reason}");
    bench.assert_exact(&snapshot, "app.things").await;
    things.insert_one(doc! { "_id": "later" }).await.unwrap();
    let next = working.folded().await;
    bench.assert_exact(&next, "app.things").await;
    working.stop().await;
}

/// A snapshot as a version of Ebbtide took it whose folds were wrong, in the place of this one.
async fn as_taken_by_an_earlier_version(bench: &Bench, snapshot: &Snapshot) {
    let manifest = bench.manifest(snapshot).await;
    let header =
        ManifestHeader { snapshot_id: Id::from_parts(1, [9; 8]), fold_rules: 1, ..manifest.header().clone() };
    let mut writer = ManifestWriter::new(&bench.vault, header, Arc::new(NoAnnounce));
    for entry in manifest.collections().try_collect::<Vec<_>>().await.unwrap() {
        writer.begin_collection(entry.meta.clone()).unwrap();
        for segment in manifest.segments(&entry).try_collect::<Vec<_>>().await.unwrap() {
            writer.push_segment(&segment).await.unwrap();
        }
        writer.end_collection().await.unwrap();
    }
    writer.set_principals(&manifest.principals().await.unwrap().unwrap()).await.unwrap();
    writer.finish(wall_clock()).await.unwrap();
    assert_eq!(rebuild(&bench.vault, &bench.catalog, wall_clock()).await.unwrap().snapshots, 1);
    bench.catalog.snapshots().delete(snapshot.id, wall_clock()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_folded_from_what_an_earlier_version_may_have_folded_wrongly() {
    let working = Working::start(Options::default()).await;
    let bench = &working.bench;
    as_taken_by_an_earlier_version(bench, &working.base().await).await;
    let things = bench.client.database("app").collection::<Document>("things");
    things.insert_one(doc! { "_id": "after" }).await.unwrap();
    let begun = wall_clock();
    let snapshot = working.snapshot().await;
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    // Capture may have asked for a base by itself in the meantime.
    let all = bench
        .catalog
        .snapshots()
        .list(SnapshotFilter::of(bench.deployment), Page::default())
        .await
        .unwrap()
        .items;
    let first = all.iter().filter(|s| s.requested_at >= begun).min_by_key(|s| s.cluster_time).unwrap();
    let reason = first.notes["notFolded"].as_str().expect("a reason");
    assert!(reason.contains("could bring deleted documents back"), "{reason}");
    bench.assert_exact(first, "app.things").await;
    // And once only.
    things.insert_one(doc! { "_id": "later" }).await.unwrap();
    let next = working.folded().await;
    bench.assert_exact(&next, "app.things").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_goes_soon_does_not_stand_in_for_a_base() {
    let working = Working::start(Options::default()).await;
    let bench = &working.bench;
    let base = working.base().await;
    // It is kept for a day; the window is seven.
    let short = working.folded().await;
    bench.catalog.snapshots().delete(base.id, wall_clock()).await.unwrap();
    let begun = std::time::Instant::now();
    loop {
        let all = bench
            .catalog
            .snapshots()
            .list(catalog::SnapshotFilter::of(bench.deployment), catalog::Page::default())
            .await
            .unwrap();
        let another = all.items.iter().find(|one| one.id != short.id && one.id != base.id);
        if another.is_some_and(|one| one.expires_at > short.expires_at) {
            break;
        }
        pause(begun).await;
    }
    working.stop().await;
}
