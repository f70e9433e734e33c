//! A restore to a point in time makes the target what the source was then: judged by the server itself.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bson::{Bson, Document, doc};
use catalog::{Page, SnapshotFilter};
use ebbtide_engine::engine::Probe;
use model::{ClusterTime, restore::RestoreState, snapshot::SnapshotState, timeline::PointInTime};
use restore_support::{
    assert_no_staging,
    captured::{Captured, pause},
    damage, data, register, request, server,
};
use serde_json::json;
use support::{Bench, documents, probe};
use testbed::{Options, data::Set, oracle};
use tokio::sync::Semaphore;

/// A deployment with data of all kinds, captured and with its base.
async fn captured(version: &str) -> Captured {
    let server = server(Options::version(version), &Set::ALL).await;
    let uri = server.uri();
    Captured::over(Bench::over(server, &uri).await, None).await
}

/// What people do, of every kind.
async fn work(client: &mongodb::Client) {
    let app = client.database("work");
    let things = app.collection::<Document>("things");
    things.insert_many((0..500).map(|n| doc! { "_id": n, "n": n, "list": [n, n + 1] })).await.unwrap();
    things
        .update_many(doc! { "n": { "$lt": 100 } }, doc! { "$push": { "list": 7 }, "$inc": { "n": 1000 } })
        .await
        .unwrap();
    things.delete_many(doc! { "_id": { "$mod": [9, 1] } }).await.unwrap();
    app.run_command(
        doc! { "createIndexes": "things", "indexes": [{ "key": { "n": -1 }, "name": "n", "unique": false }] },
    )
    .await
    .unwrap();
    app.run_command(doc! { "create": "ring", "capped": true, "size": 4096, "max": 10 }).await.unwrap();
    app.collection::<Document>("ring").insert_many((0..25).map(|n| doc! { "_id": n })).await.unwrap();
    app.run_command(doc! { "create": "series", "timeseries": { "timeField": "t", "metaField": "m" } })
        .await
        .unwrap();
    let points = (0..50).map(|n| doc! { "t": bson::DateTime::from_millis(n * 1000), "m": n % 3, "v": n });
    app.collection::<Document>("series").insert_many(points).await.unwrap();
    app.run_command(doc! { "create": "view", "viewOn": "things", "pipeline": [{ "$match": { "n": 5 } }] })
        .await
        .unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for n in 0..20 {
        things.insert_one(doc! { "_id": format!("t{n}") }).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
}

async fn to_a_point(version: &str) {
    let captured = captured(version).await;
    let bench = &captured.bench;
    work(&bench.client).await;
    let before = data(&bench.client).await;
    let at = captured.now().await;
    damage(&bench.client).await;
    bench.client.database("work").collection::<Document>("things").drop().await.unwrap();
    bench
        .client
        .database("work")
        .collection::<Document>("ring")
        .insert_one(doc! { "_id": "late" })
        .await
        .unwrap();
    assert!(!oracle::diff(&before, &data(&bench.client).await).is_empty());

    let other = server(Options::version(version), &[Set::Views]).await;
    let client = other.client().await.unwrap();
    let target = register(bench, "other", &other.uri()).await;
    let job = captured.restore(PointInTime::Operation(at), target, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&before, &data(&client).await);
    assert_no_staging(&client).await;
    assert_eq!(job.receipt.unwrap()["pointInTime"], at.to_string());

    // Onto itself; and what was there before that is restorable afterwards.
    let damaged = data(&bench.client).await;
    let undo = captured.now().await;
    let job = captured.restore(PointInTime::Operation(at), bench.deployment, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&before, &data(&bench.client).await);
    let job = captured.restore(PointInTime::Operation(undo), bench.deployment, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&damaged, &data(&bench.client).await);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn into_another_deployment_and_onto_itself_and_back_on_6_0() {
    to_a_point("6.0.5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn into_another_deployment_and_onto_itself_and_back_on_5_0() {
    to_a_point("5.0.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_operation_that_is_named_is_in_the_state_and_the_next_one_is_not() {
    let captured = captured("6.0.5").await;
    let bench = &captured.bench;
    let steps = bench.client.database("app").collection::<Document>("steps");
    steps.insert_many((0..10).map(|n| doc! { "_id": n })).await.unwrap();
    captured.now().await;
    // Several inserts in one second, each with a time of its own.
    let oplog = bench.client.database("local").collection::<Document>("oplog.rs");
    let entry = oplog.find_one(doc! { "ns": "app.steps", "o._id": 4 }).await.unwrap().unwrap();
    let time = entry.get_timestamp("ts").unwrap();
    let other = server(Options::version("6.0.5"), &[]).await;
    let client = other.client().await.unwrap();
    let target = register(bench, "other", &other.uri()).await;
    let restored = client.database("app").collection::<Document>("steps");
    let operation = ClusterTime { seconds: time.time, increment: time.increment };
    let job = captured.restore(PointInTime::Operation(operation), target, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_eq!(restored.count_documents(doc! {}).await.unwrap(), 5);
    // The beginning of that second is before all of them, and before the collection.
    let job = captured.restore(PointInTime::Second(time.time), target, json!({})).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_eq!(restored.count_documents(doc! {}).await.unwrap(), 0);
    captured.stop().await;
}

/// What it has loaded under staging names is in no snapshot, so nothing after its renames could be folded from one.
/// A snapshot that the running engine takes.
async fn taken(captured: &Captured) -> catalog::Snapshot {
    let (id, begun) = (captured.bench.request().await, Instant::now());
    loop {
        let snapshot = captured.bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        if !matches!(snapshot.state, SnapshotState::Queued | SnapshotState::InProgress) {
            assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
            break snapshot;
        }
        pause(begun).await;
    }
}

/// Holds the first restore that has staged something until the gate gets a permit; tells when it has.
fn held_when_staged() -> (Probe, Arc<Semaphore>, Arc<AtomicBool>) {
    let (gate, staged) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let held = {
        let (gate, staged) = (Arc::clone(&gate), Arc::clone(&staged));
        probe(move |moment, _| {
            let (gate, staged) = (Arc::clone(&gate), Arc::clone(&staged));
            async move {
                if moment == "restore.staged" && !staged.swap(true, Ordering::SeqCst) {
                    gate.acquire().await.unwrap().forget();
                }
            }
        })
    };
    (held, gate, staged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_base_is_taken_amid_a_restore() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let snapshot = bench.snapshot().await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let (held, gate, staged) = held_when_staged();
    let settings = bench.settings();
    let captured = Captured::begin(bench, settings, Some(held)).await;
    let (catalog, deployment, begun) = (&captured.bench.catalog, captured.bench.deployment, Instant::now());
    captured.now().await;
    // By then it was looked whether there is a base.
    while !staged.load(Ordering::SeqCst)
        || catalog
            .timelines()
            .current(deployment)
            .await
            .unwrap()
            .is_none_or(|timeline| timeline.durable == timeline.start)
    {
        pause(begun).await;
    }
    let snapshots = catalog.snapshots().list(SnapshotFilter::of(deployment), Page::default()).await.unwrap();
    assert_eq!(snapshots.items.len(), 1, "a base is taken amid a restore");
    gate.add_permits(1);
    let job = captured.ended(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    while catalog.timelines().ranges(deployment).await.unwrap().is_empty() {
        pause(begun).await;
    }
    let at = captured.now().await;
    let job = captured.restore(at, deployment, json!({ "rewind": "off" })).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_asked_for_amid_a_restore_is_no_base() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let (held, gate, staged) = held_when_staged();
    let captured = Captured::over(bench, Some(held)).await;
    let (catalog, deployment, begun) = (&captured.bench.catalog, captured.bench.deployment, Instant::now());
    let base = catalog.snapshots().list(SnapshotFilter::of(deployment), Page::default()).await.unwrap().items;
    let id = request(&captured.bench, &base[0], deployment, json!({ "rewind": "off" })).await;
    while !staged.load(Ordering::SeqCst) {
        pause(begun).await;
    }
    let amid = taken(&captured).await;
    assert!(amid.amid_restore, "{}", amid.notes);
    gate.add_permits(1);
    let job = captured.ended(id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);

    let things =
        captured.bench.server.client().await.unwrap().database("app").collection::<Document>("things");
    things.insert_one(doc! { "_id": "later" }).await.unwrap();
    let at = captured.now().await;
    things.delete_many(doc! {}).await.unwrap();
    let job = captured.restore(at, deployment, json!({ "rewind": "off" })).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert_eq!(job.snapshot_id, base[0].id);
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 201);

    let after = taken(&captured).await;
    assert!(!after.amid_restore, "what an ended restore left is in nobody's way");
    captured.stop().await;
}
