//! A first snapshot of a captured deployment whose history never lasts for reading everything: what was read at different
//! times is folded to one, and is what the deployment held then.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use catalog::{Page, Snapshot, SnapshotFilter};
use futures::TryStreamExt;
use history::{Cut, Cutter, SortKey};
use model::snapshot::SnapshotState;
use mongodb::Client;
use restore_support::captured::{Captured, pause};
use support::{
    Bench, documents,
    engine::{Settings, engine::Probe},
};
use testbed::{
    Options,
    load::{Load, LoadOptions},
};

const WINDOW: &str = "minSnapshotHistoryWindowInSeconds";

/// A deployment that forgets after seconds, under load.
async fn forgetful(window: &str) -> (Bench, Load) {
    let options =
        Options::default().set_parameter(WINDOW, window).set_parameter("ttlMonitorEnabled", "false");
    let bench = Bench::start(options).await;
    let options =
        LoadOptions { database: "app".to_owned(), collection: "busy".to_owned(), ..LoadOptions::default() };
    let load = Load::start(&bench.client, &options);
    (bench, load)
}

/// One collection after the other, so that the test knows what comes when.
fn settings(bench: &Bench) -> Settings {
    Settings { raise_history_window: false, readers: 1, ..bench.settings() }
}

/// Returns when everything that was read up to now is of a time that the server has forgotten.
async fn forgotten(client: &Client) {
    let admin = client.database("admin");
    let reply = admin.run_command(doc! { "appendOplogNote": 1, "data": { "now": 1 } }).await.unwrap();
    let now: Timestamp = reply.get_timestamp("operationTime").unwrap();
    let begun = Instant::now();
    let concern = doc! { "level": "snapshot", "atClusterTime": now };
    loop {
        let find = doc! { "find": "busy", "limit": 1, "readConcern": concern.clone() };
        match client.database("app").run_command(find).await {
            Ok(_) => pause(begun).await,
            Err(error) => {
                let code = match *error.kind {
                    mongodb::error::ErrorKind::Command(command) => command.code,
                    other => panic!("{other}"),
                };
                assert_eq!(code, 239, "SnapshotTooOld");
                return;
            }
        }
    }
}

async fn remember(client: &Client) {
    client.database("admin").run_command(doc! { "setParameter": 1, WINDOW: 3600 }).await.unwrap();
}

/// Where the segments of a collection begin, from one of them on, as it is now.
async fn starts(client: &Client, collection: &str, from: Bson) -> Vec<Bson> {
    let collection = client.database("app").collection::<RawDocumentBuf>(collection);
    let mut cursor = collection.find(doc! { "_id": { "$gte": from } }).sort(doc! { "_id": 1 }).await.unwrap();
    let (mut cutter, mut starts) = (Cutter::new(), vec![]);
    while let Some(document) = cursor.try_next().await.unwrap() {
        let key = SortKey::of_document(document.as_bytes()).unwrap();
        let id = || Bson::try_from(document.get("_id").unwrap().unwrap()).unwrap();
        if cutter.offer(key.as_bytes(), document.as_bytes().len()) != Cut::Stay || starts.is_empty() {
            starts.push(id());
        }
    }
    starts
}

/// The newest snapshot, once it has ended.
async fn ended(bench: &Bench) -> Snapshot {
    let begun = Instant::now();
    loop {
        let of = SnapshotFilter::of(bench.deployment);
        let newest = bench.catalog.snapshots().list(of, Page::default()).await.unwrap().items;
        match newest.into_iter().next() {
            Some(snapshot)
                if !matches!(snapshot.state, SnapshotState::Queued | SnapshotState::InProgress) =>
            {
                return snapshot;
            }
            _ => pause(begun).await,
        }
    }
}

/// The times at which the pieces of a snapshot were read.
fn times(snapshot: &Snapshot) -> usize {
    assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
    snapshot.notes["pieces"]["times"].as_array().map_or(0, Vec::len)
}

/// Asserts that a snapshot is what the deployment held at its time, in all that can be read at one, and counts its documents right.
async fn assert_all_exact(bench: &Bench, snapshot: &Snapshot) {
    let mut counted = 0;
    for (namespace, entry) in bench.collections(snapshot).await {
        assert_eq!(entry.meta.as_of, snapshot.cluster_time.unwrap(), "{namespace} is as of another time");
        if entry.meta.uuid.is_none() {
            continue;
        }
        counted += bench.documents(snapshot, &namespace).await.len() as u64;
        if entry.meta.kind != vault::CollectionKind::Capped {
            bench.assert_exact(snapshot, &namespace).await;
        }
    }
    assert_eq!(counted, snapshot.documents, "its documents are counted wrongly");
    bench.assert_verifies(snapshot).await;
}

/// What is done to the deployment between the pieces.
struct Between {
    client: Client,
    stage: AtomicU32,
    kept: AtomicU32,
    is_swapped: AtomicBool,
    /// The first document of the second segment of the collection that is read in pieces.
    second: OnceLock<Bson>,
}

impl Between {
    fn probe(client: Client) -> Probe {
        let between = Arc::new(Self {
            client,
            stage: AtomicU32::new(0),
            kept: AtomicU32::new(0),
            is_swapped: AtomicBool::new(false),
            second: OnceLock::new(),
        });
        support::probe(move |moment, about| {
            let between = Arc::clone(&between);
            async move { between.at(moment, &about).await }
        })
    }

    async fn at(&self, moment: &str, about: &str) {
        match (self.stage.load(Ordering::SeqCst), moment, about) {
            // The largest one is read first, whichever way.
            (0, "snapshot.collection-read", "app.large") => {
                self.next();
                self.before_the_second().await;
                forgotten(&self.client).await;
            }
            (1, "snapshot.segment-kept", "app.ranged") if self.is_second() => {
                self.next();
                self.before_the_third().await;
                forgotten(&self.client).await;
            }
            (2, "snapshot.segment-kept", "app.ranged") if self.is_second() => {
                self.next();
                self.before_the_fourth().await;
                forgotten(&self.client).await;
            }
            // Behind the listing that they are read by: the first is refused then, the others read back empty.
            (3, "snapshot.pinned", _) if !self.is_swapped.swap(true, Ordering::SeqCst) => {
                for (from, to) in [("swapped", "swept"), ("moved", "taken"), ("sorted", "ordered")] {
                    let (from, to) = (format!("app.{from}"), format!("app.{to}"));
                    self.run("admin", doc! { "renameCollection": from, "to": to }).await;
                }
                self.insert("swapped", doc! { "_id": "another" }).await;
            }
            (3, "snapshot.collection-read", "app.ordered") => {
                self.next();
                remember(&self.client).await;
                let back = doc! { "renameCollection": "app.ebbtide.staging.1.2", "to": "app.back" };
                self.run("admin", back).await;
                self.change("ordered", doc! { "_id": { "$mod": [83, 0] } }, 4).await;
            }
            _ => {}
        }
    }

    fn next(&self) {
        self.kept.store(0, Ordering::SeqCst);
        self.stage.fetch_add(1, Ordering::SeqCst);
    }

    fn is_second(&self) -> bool {
        self.kept.fetch_add(1, Ordering::SeqCst) == 1
    }

    async fn run(&self, database: &str, command: Document) {
        self.client.database(database).run_command(command).await.unwrap();
    }

    async fn insert(&self, collection: &str, document: Document) {
        self.client.database("app").collection::<Document>(collection).insert_one(document).await.unwrap();
    }

    /// Gives documents another content of the same length.
    async fn change(&self, collection: &str, filter: Document, n: i64) {
        let collection = self.client.database("app").collection::<Document>(collection);
        let done = collection.update_many(filter, doc! { "$set": { "n": n } }).await.unwrap();
        assert!(done.modified_count > 0);
    }

    async fn delete(&self, collection: &str, filter: Document) {
        let collection = self.client.database("app").collection::<Document>(collection);
        assert!(collection.delete_many(filter).await.unwrap().deleted_count > 0);
    }

    /// The largest collection is read, and no other.
    async fn before_the_second(&self) {
        self.change("large", doc! { "_id": { "$gte": 50 } }, 1).await;
        self.insert("large", doc! { "_id": 2.5 }).await;
        self.change("ranged", doc! { "_id": { "$mod": [89, 0] } }, 1).await;
        self.change("small", doc! {}, 1).await;
        self.delete("emptied", doc! {}).await;
        self.run("admin", doc! { "renameCollection": "app.back", "to": "app.ebbtide.staging.1.2" }).await;
    }

    /// Of the large one some segments are read, two at least.
    async fn before_the_third(&self) {
        let starts = starts(&self.client, "ranged", Bson::MinKey).await;
        assert!(starts.len() >= 7, "only {} segments", starts.len());
        let second = self.second.get_or_init(|| starts[1].clone());
        // Reading cannot go on where it ended: that document has gone. The first segment is left.
        self.delete("ranged", doc! { "_id": { "$in": &starts[2..] } }).await;
        self.change("ranged", doc! { "_id": { "$mod": [97, 5] } }, 2).await;
        self.delete("ranged", doc! { "_id": { "$mod": [101, 7], "$ne": second } }).await;
        for n in 0..40 {
            self.insert("ranged", doc! { "_id": f64::from(n * 100) + 0.5, "n": n }).await;
        }
        self.delete("large", doc! { "_id": 7 }).await;
        self.insert("emptied", doc! { "_id": "again" }).await;
        self.run("app", doc! { "drop": "dropped" }).await;
        self.run("admin", doc! { "renameCollection": "app.renamed", "to": "app.moved" }).await;
        self.insert("created", doc! { "_id": 1, "since": 2 }).await;
        self.insert("capped", doc! { "_id": "third" }).await;
        self.run("app", doc! { "create": "seen", "viewOn": "small", "pipeline": [] }).await;
        let index = doc! { "key": { "n": 1 }, "name": "n_1" };
        self.run("app", doc! { "createIndexes": "ranged", "indexes": [index] }).await;
        self.run("app", doc! { "collMod": "small", "validator": { "n": { "$exists": true } } }).await;
        self.run("app", doc! { "createUser": "ann", "pwd": "p", "roles": [] }).await;
    }

    /// Some more of it are read.
    async fn before_the_fourth(&self) {
        let starts = starts(&self.client, "ranged", self.second.get().unwrap().clone()).await;
        // Nor there: the cut may not be one any more. One more segment is left.
        let collection = self.client.database("app").collection::<Document>("ranged");
        let (these, longer) = (doc! { "_id": { "$in": &starts[2..] } }, doc! { "$set": { "longer": "x" } });
        assert!(collection.update_many(these, longer).await.unwrap().modified_count > 2);
        self.change("ranged", doc! { "_id": { "$mod": [103, 11] } }, 3).await;
        self.delete("ranged", doc! { "_id": { "$mod": [107, 13] } }).await;
        self.run("admin", doc! { "renameCollection": "app.ranged", "to": "app.sorted" }).await;
        self.change("small", doc! {}, 3).await;
        self.run("admin", doc! { "renameCollection": "app.large", "to": "app.last" }).await;
        self.insert("last", doc! { "_id": 4.5 }).await;
        self.insert("created", doc! { "_id": 2, "since": 3 }).await;
        self.insert("capped", doc! { "_id": "fourth" }).await;
        self.change("collated", doc! { "_id": "b" }, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_read_at_different_times_is_folded_to_one() {
    let (bench, load) = forgetful("3").await;
    bench.fill("app", "large", documents(115, 1_000_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "ranged", documents(5_400, 20_000, |n| Bson::Double(n as f64))).await;
    for name in ["small", "emptied", "dropped", "renamed", "back", "swapped"] {
        bench.fill("app", name, documents(300, 200, |n| Bson::Int64(n as i64))).await;
    }
    let app = bench.client.database("app");
    app.run_command(doc! { "create": "capped", "capped": true, "size": 100_000 }).await.unwrap();
    bench.fill("app", "capped", documents(20, 100, |n| Bson::Int64(n as i64))).await;
    let collation = doc! { "locale": "en", "strength": 2 };
    app.run_command(doc! { "create": "collated", "collation": collation }).await.unwrap();
    bench.fill("app", "collated", ["b", "C", "a"].map(|id| doc! { "_id": id, "n": 0_i64 })).await;

    let (settings, probe) = (settings(&bench), Between::probe(bench.client.clone()));
    let captured = Captured::begin(bench, settings, Some(probe)).await;
    let bench = &captured.bench;
    let snapshot = ended(bench).await;
    assert!(times(&snapshot) >= 4, "{:?}: {}", snapshot.error, snapshot.notes);
    load.stop().await.unwrap();

    let collections = bench.collections(&snapshot).await;
    let names: Vec<_> = collections.keys().map(String::as_str).collect();
    let expected = [
        "app.back",
        "app.busy",
        "app.capped",
        "app.collated",
        "app.created",
        "app.emptied",
        "app.last",
        "app.ordered",
        "app.seen",
        "app.small",
        "app.swapped",
        "app.swept",
        "app.taken",
    ];
    assert_eq!(
        names.iter().filter(|name| **name != "app.system.views").copied().collect::<Vec<_>>(),
        expected
    );
    assert_all_exact(bench, &snapshot).await;
    let mut capped = app.collection::<RawDocumentBuf>("capped").find(doc! {}).await.unwrap();
    let mut inserted = vec![];
    while let Some(document) = capped.try_next().await.unwrap() {
        inserted.push(document.into_bytes());
    }
    assert!(bench.documents(&snapshot, "app.capped").await == inserted, "the capped collection differs");
    let users = bench.manifest(&snapshot).await.principals().await.unwrap().unwrap().users;
    assert_eq!(users.len(), 1);
    // What could not be read on, and was there again in the end, is all that was read at the last time.
    assert_eq!(
        snapshot.notes["reread"]["collections"],
        serde_json::json!(["app.back"]),
        "{}",
        snapshot.notes
    );
    let of_times: BTreeSet<_> =
        bench.segments(&snapshot, "app.ordered").await.iter().map(|entry| entry.as_of).collect();
    let of_times: Vec<_> = of_times.iter().map(|at| serde_json::json!(at)).collect();
    let read = snapshot.notes["pieces"]["times"].as_array().unwrap();
    let earlier = read.iter().filter(|at| of_times.contains(at)).count();
    assert!(earlier >= 2, "of {read:?} only {of_times:?} was kept");

    // The next one is folded from it.
    let ordered = app.collection::<Document>("ordered");
    ordered
        .update_many(doc! { "_id": { "$mod": [109, 17] } }, doc! { "$set": { "n": 9_i64 } })
        .await
        .unwrap();
    ordered.delete_many(doc! { "_id": { "$gte": 5_350 } }).await.unwrap();
    bench.request().await;
    let next = ended(bench).await;
    assert!(next.id != snapshot.id && next.notes["folded"].is_object(), "{:?}: {}", next.error, next.notes);
    assert!(next.notes["reread"].is_null(), "{}", next.notes);
    assert_all_exact(bench, &next).await;
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_has_changed_everywhere_is_read_anew() {
    let (bench, load) = forgetful("3").await;
    bench.fill("app", "first", documents(1_600, 20_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "ranged", documents(1_300, 20_000, |n| Bson::Int64(n as i64))).await;
    let (client, stage) = (bench.client.clone(), Arc::new(AtomicU32::new(0)));
    let probe = support::probe(move |moment, about| {
        let (client, stage) = (client.clone(), Arc::clone(&stage));
        async move {
            let is_at = |n: u32, wanted: &str, of: &str| {
                moment == wanted
                    && about == of
                    && stage.compare_exchange(n, n + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if is_at(0, "snapshot.collection-read", "app.first") {
                forgotten(&client).await;
            } else if is_at(1, "snapshot.segment-kept", "app.ranged") {
                let ranged = client.database("app").collection::<Document>("ranged");
                ranged.update_many(doc! {}, doc! { "$set": { "longer": "x" } }).await.unwrap();
                forgotten(&client).await;
            } else if is_at(2, "snapshot.collection-read", "app.ranged") {
                remember(&client).await;
            }
        }
    });
    let settings = settings(&bench);
    let captured = Captured::begin(bench, settings, Some(probe)).await;
    let snapshot = ended(&captured.bench).await;
    assert!(times(&snapshot) >= 3, "{}", snapshot.notes);
    load.stop().await.unwrap();
    assert_all_exact(&captured.bench, &snapshot).await;
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_history_that_never_lasts_fails_the_snapshot_by_name() {
    let (bench, load) = forgetful("1").await;
    bench.fill("app", "read", documents(100, 20_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "unread", documents(100, 200, |n| Bson::Int64(n as i64))).await;
    let (client, has_begun) = (bench.client.clone(), Arc::new(AtomicBool::new(false)));
    let probe = support::probe(move |moment, about| {
        let (client, has_begun) = (client.clone(), Arc::clone(&has_begun));
        async move {
            if moment == "snapshot.collection-read" && about == "app.read" {
                has_begun.store(true, Ordering::SeqCst);
                forgotten(&client).await;
            } else if moment == "snapshot.pinned" && has_begun.load(Ordering::SeqCst) {
                forgotten(&client).await;
            }
        }
    });
    let settings = settings(&bench);
    let captured = Captured::begin(bench, settings, Some(probe)).await;
    let snapshot = ended(&captured.bench).await;
    load.stop().await.unwrap();
    assert_eq!(snapshot.state, SnapshotState::Failed);
    let error = snapshot.error.unwrap();
    assert!(
        error.contains("SnapshotTooOld")
            && error.contains("in 8 attempts nothing more could be read")
            && error.contains("raise minSnapshotHistoryWindowInSeconds"),
        "{error}"
    );
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_takes_over_reads_anew() {
    let (bench, load) = forgetful("3").await;
    bench.fill("app", "first", documents(1_600, 20_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "ranged", documents(1_300, 20_000, |n| Bson::Int64(n as i64))).await;
    let (client, reached) = (bench.client.clone(), Arc::new(tokio::sync::Notify::new()));
    let told = Arc::clone(&reached);
    let probe = support::probe(move |moment, about| {
        let (client, told) = (client.clone(), Arc::clone(&told));
        async move {
            if moment == "snapshot.collection-read" && about == "app.first" {
                forgotten(&client).await;
            } else if moment == "snapshot.segment-kept" && about == "app.ranged" {
                told.notify_one();
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
        }
    });
    let first = settings(&bench);
    let captured = Captured::begin(bench, first, Some(probe)).await;
    tokio::time::timeout(Duration::from_secs(240), reached.notified()).await.expect("a piece is read");
    let bench = captured.stop_and_keep().await;
    remember(&bench.client).await;
    bench
        .client
        .database("app")
        .collection::<Document>("ranged")
        .delete_many(doc! { "_id": 7 })
        .await
        .unwrap();
    let second = settings(&bench);
    let captured = Captured::begin(bench, second, None).await;
    let snapshot = ended(&captured.bench).await;
    assert_eq!(times(&snapshot), 0);
    load.stop().await.unwrap();
    for namespace in ["app.first", "app.ranged"] {
        captured.bench.assert_exact(&snapshot, namespace).await;
    }
    captured.bench.assert_verifies(&snapshot).await;
    captured.stop().await;
}
