//! DDL under the read never makes a wrong snapshot: it is read again, or the snapshot fails and says why.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bson::{Bson, Document, doc};
use model::snapshot::SnapshotState;
use support::{Bench, documents, engine::engine::Probe};
use testbed::Options;

/// Does `act` once, at the first `snapshot.pinned`: after the time was fixed, before anything is read.
fn once_after_pin<F>(act: impl Fn() -> F + Send + Sync + 'static) -> (Probe, Arc<AtomicU32>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let act = Arc::new(act);
    let probe = support::probe(move |moment, _| {
        let first = moment == "snapshot.pinned" && counted.fetch_add(1, Ordering::SeqCst) == 0;
        let act = Arc::clone(&act);
        async move {
            if first {
                act().await;
            }
        }
    });
    (probe, attempts)
}

async fn run_on(bench: &Bench, db: &'static str, command: Document) -> (Probe, Arc<AtomicU32>) {
    let client = bench.client.clone();
    once_after_pin(move || {
        let (client, command) = (client.clone(), command.clone());
        async move {
            client.database(db).run_command(command).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drop_rename_and_recreate_during_the_read_are_read_again() {
    for version in ["6.0.5", "5.0.4"] {
        let bench = Bench::start(Options::version(version)).await;
        for name in ["dropped", "renamed", "recreated", "still"] {
            bench.fill("app", name, documents(500, 200, |n| Bson::Int64(n as i64))).await;
        }
        // Dropped after the pin: reading at the pinned time gives nothing, without an error.
        let (probe, attempts) = run_on(&bench, "app", doc! { "drop": "dropped" }).await;
        let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 2, "{version}: the drop was not noticed");
        let collections = bench.collections(&snapshot).await;
        assert!(
            !collections.contains_key("app.dropped"),
            "{version}: it was dropped before the time of the second attempt"
        );
        assert_eq!(collections["app.still"].documents, 500);

        let rename = doc! { "renameCollection": "app.renamed", "to": "app.moved" };
        let (probe, attempts) = run_on(&bench, "admin", rename).await;
        let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 2, "{version}: the rename was not noticed");
        let collections = bench.collections(&snapshot).await;
        assert_eq!(collections["app.moved"].documents, 500);
        assert!(!collections.contains_key("app.renamed"));

        let client = bench.client.clone();
        let (probe, attempts) = once_after_pin(move || {
            let client = client.clone();
            async move {
                let collection = client.database("app").collection::<Document>("recreated");
                collection.drop().await.unwrap();
                collection.insert_one(doc! { "_id": "new" }).await.unwrap();
            }
        });
        let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 2, "{version}: the recreation was not noticed");
        bench.assert_exact(&snapshot, "app.recreated").await;
        assert_eq!(bench.documents(&snapshot, "app.recreated").await, [support::raw(&doc! { "_id": "new" })]);
        bench.assert_verifies(&snapshot).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_dropped_during_the_read_is_gone_from_the_snapshot() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("doomed", "one", documents(10, 100, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "still", documents(10, 100, |n| Bson::Int64(n as i64))).await;
    let (probe, attempts) = run_on(&bench, "doomed", doc! { "dropDatabase": 1 }).await;
    let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
    let collections = bench.collections(&snapshot).await;
    assert_eq!(collections.keys().collect::<Vec<_>>(), ["app.still"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn index_ddl_and_col_mod_during_the_read_cost_nothing() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(500, 200, |n| Bson::Int64(n as i64))).await;
    let index = doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] };
    let (probe, attempts) = run_on(&bench, "app", index).await;
    let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    bench.assert_exact(&snapshot, "app.things").await;
    let entry = &bench.collections(&snapshot).await["app.things"];
    assert!(
        !entry.meta.indexes.iter().any(|spec| names(spec, "n_1")),
        "an index made after the time is not part of it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_collection_that_is_dropped_every_time_fails_the_snapshot_by_name() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "still", documents(10, 100, |n| Bson::Int64(n as i64))).await;
    let client = bench.client.clone();
    client.database("app").collection("victim").insert_one(doc! { "_id": 1 }).await.unwrap();
    let probe = support::probe(move |moment, _| {
        let client = client.clone();
        async move {
            if moment == "snapshot.pinned" {
                let victim = client.database("app").collection::<Document>("victim");
                victim.drop().await.unwrap();
                victim.insert_one(doc! { "_id": 1 }).await.unwrap();
            }
        }
    });
    let snapshot = bench.try_snapshot(bench.settings(), Some(probe)).await;
    assert_eq!(snapshot.state, SnapshotState::Failed);
    assert!(snapshot.manifest.is_none());
    let error = snapshot.error.unwrap();
    assert!(
        error.contains("app.victim") && error.contains("8 attempts") && error.contains("catalog changes"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_runs_out_every_second_is_survived() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "source", documents(2_000, 200, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "large", documents(20_000, 2_000, |n| Bson::Int64(n as i64))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let replacing = tokio::spawn({
        let (client, stop) = (bench.client.clone(), Arc::clone(&stop));
        async move {
            let mut rounds = 0;
            while !stop.load(Ordering::SeqCst) {
                let pipeline = [doc! { "$set": { "round": rounds } }, doc! { "$out": "report" }];
                client.database("app").collection::<Document>("source").aggregate(pipeline).await.unwrap();
                rounds += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            rounds
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let snapshot = bench.snapshot().await;
    stop.store(true, Ordering::SeqCst);
    let rounds = replacing.await.unwrap();
    assert!(rounds >= 1);
    let report = bench.documents(&snapshot, "app.report").await;
    assert_eq!(report.len(), 2_000, "a whole round, never a part of one");
    let in_round =
        |document: &[u8]| Document::from_reader(document).unwrap().get("round").map(support::number);
    let first = in_round(&report[0]);
    assert!(
        report.iter().all(|document| in_round(document) == first),
        "documents of two rounds in one snapshot"
    );
    bench.assert_exact(&snapshot, "app.large").await;
    bench.assert_verifies(&snapshot).await;
}

fn names(spec: &[u8], name: &str) -> bool {
    Document::from_reader(spec).unwrap().get_str("name").ok() == Some(name)
}

async fn fail_point(bench: &Bench, name: &str, mode: Bson) {
    bench.server.admin(doc! { "configureFailPoint": name, "mode": mode }).await.unwrap();
}

/// Starts an index build that hangs until [`release`] is called.
async fn hanging_build(
    bench: &Bench,
    unique: bool,
) -> tokio::task::JoinHandle<Result<Document, mongodb::error::Error>> {
    fail_point(bench, "hangAfterStartingIndexBuild", "alwaysOn".into()).await;
    let database = bench.client.database("app");
    let index = doc! { "createIndexes": "things", "indexes": [{ "key": { "half": 1 }, "name": "late", "unique": unique }] };
    let building = tokio::spawn(async move { database.run_command(index).await });
    loop {
        let list = doc! { "listIndexes": "things", "includeBuildUUIDs": true };
        let reply = bench.client.database("app").run_command(list).await.unwrap();
        if format!("{reply}").contains("buildUUID") {
            return building;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_belongs_to_the_snapshot_only_once_it_is_built() {
    for version in ["6.0.5", "5.0.4"] {
        let bench = Bench::start(Options::version(version).set_parameter("enableTestCommands", "1")).await;
        let halves = (0..2_000_i64).map(|n| doc! { "_id": n, "half": n / 2 });
        bench.fill("app", "things", halves).await;

        // A build that commits after the snapshot.
        let building = hanging_build(&bench, false).await;
        let during = bench.snapshot().await;
        fail_point(&bench, "hangAfterStartingIndexBuild", "off".into()).await;
        building.await.unwrap().unwrap();
        let after = bench.snapshot().await;
        let has = async |snapshot| {
            bench.collections(snapshot).await["app.things"]
                .meta
                .indexes
                .iter()
                .any(|spec| names(spec, "late"))
        };
        assert!(!has(&during).await, "{version}: a build in progress was taken for an index");
        assert!(has(&after).await, "{version}: the finished index is missing");
        bench.assert_exact(&during, "app.things").await;

        // A unique build that fails after the snapshot, since every value is there twice.
        bench
            .client
            .database("app")
            .run_command(doc! { "dropIndexes": "things", "index": "late" })
            .await
            .unwrap();
        let building = hanging_build(&bench, true).await;
        let during = bench.snapshot().await;
        fail_point(&bench, "hangAfterStartingIndexBuild", "off".into()).await;
        building.await.unwrap().unwrap_err();
        assert!(!has(&during).await, "{version}: a unique index that never came to be");
    }
}
