//! A restore that does not reach its cut-over leaves the target as it was.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bson::doc;
use ebbtide_engine::engine::wall_clock;
use model::restore::{CancelRefusal, RestoreState};
use restore_support::{assert_no_staging, damage, data, register, request, restore, run, server};
use serde_json::json;
use support::{Bench, probe};
use testbed::{Options, Server, data::Set, oracle};

const SETS: [Set; 6] = [Set::Indexes, Set::Views, Set::Bulk, Set::TimeSeries, Set::Ids, Set::Capped];

async fn bench() -> Bench {
    let server = server(Options::version("6.0.5"), &SETS).await;
    let uri = server.uri();
    Bench::over(server, &uri).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_in_the_middle_of_the_load() {
    let bench = bench().await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let damaged = data(&bench.client).await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let cancelling = {
        let catalog = bench.catalog.clone();
        probe(move |moment, _| {
            let catalog = catalog.clone();
            async move {
                if moment == "restore.collection-loaded" {
                    let asked = catalog.restores().request_cancel(id, wall_clock()).await.unwrap();
                    assert_eq!(
                        asked,
                        Ok(RestoreState::Cancelling),
                        "not cancelled while a worker may still write"
                    );
                }
            }
        })
    };
    let job = run(&bench, id, bench.settings(), Some(cancelling)).await;
    assert_eq!(job.state, RestoreState::Cancelled, "{:?}", job.error);
    assert_no_staging(&bench.client).await;
    oracle::assert_same(&damaged, &data(&bench.client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_at_the_last_moment_and_then_too_late() {
    let bench = bench().await;
    let wanted = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let damaged = data(&bench.client).await;
    let cancel_at = |at: &'static str, id| {
        let catalog = bench.catalog.clone();
        let refused = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&refused);
        let probe = probe(move |moment, _| {
            let (catalog, seen) = (catalog.clone(), Arc::clone(&seen));
            async move {
                if moment == at {
                    let asked = catalog.restores().request_cancel(id, wall_clock()).await.unwrap();
                    seen.store(asked == Err(CancelRefusal::TooLate), Ordering::SeqCst);
                }
            }
        });
        (probe, refused)
    };
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let (probe, refused) = cancel_at("restore.staged", id);
    let job = run(&bench, id, bench.settings(), Some(probe)).await;
    assert_eq!(job.state, RestoreState::Cancelled, "{:?}", job.error);
    assert!(!refused.load(Ordering::SeqCst));
    assert_no_staging(&bench.client).await;
    oracle::assert_same(&damaged, &data(&bench.client).await);

    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let (probe, refused) = cancel_at("restore.fenced", id);
    let job = run(&bench, id, bench.settings(), Some(probe)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert!(refused.load(Ordering::SeqCst), "the cut-over had begun");
    oracle::assert_same(&wanted, &data(&bench.client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_end_well_is_refused_before_anything_is_written() {
    let bench = bench().await;
    let snapshot = bench.snapshot().await;
    let older = server(Options::version("5.0.4"), &[Set::Views]).await;
    let client = older.client().await.unwrap();
    let before = data(&client).await;
    let target = register(&bench, "older", &older.uri()).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let job = run(&bench, id, bench.settings(), None).await;
    let error = job.error.unwrap();
    assert!(error.contains("upgrade the target") && error.contains("nothing was changed"), "{error}");
    oracle::assert_same(&before, &data(&client).await);

    let lower = Server::start(Options::version("6.0.5")).await.unwrap();
    lower.admin(doc! {"setFeatureCompatibilityVersion": "5.0"}).await.unwrap();
    let target = register(&bench, "lower", &lower.uri()).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
    assert!(error.contains("setFeatureCompatibilityVersion 6.0"), "{error}");

    let alone = Server::start(Options::version("6.0.5").members(0)).await.unwrap();
    let target = register(&bench, "alone", &alone.uri()).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
    assert!(error.contains("standalone") || error.contains("replica set"), "{error}");

    let cased = Server::start(Options::version("6.0.5")).await.unwrap();
    let client = cased.client().await.unwrap();
    client.database("BULK").collection("x").insert_one(doc! {}).await.unwrap();
    let target = register(&bench, "cased", &cased.uri()).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
    assert!(error.contains("BULK"), "{error}");
    restore(&bench, &snapshot, target, json!({"inPlace": true})).await;
    oracle::assert_same(&data(&bench.client).await, &data(&client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_stored_functions_than_fit_into_memory_are_refused() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    let functions = (0..70).map(|n| doc! {"_id": n, "value": "x".repeat(1 << 20)});
    for function in functions {
        bench.fill("app", "system.js", [function]).await;
    }
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
    assert!(error.contains("app.system.js") && error.contains("download"), "{error}");
    oracle::assert_same(&before, &data(&bench.client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flipped_bit_is_found_before_the_target_is_touched() {
    let bench = bench().await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let damaged = data(&bench.client).await;
    let collections = bench.collections(&snapshot).await;
    let series = collections.keys().find(|name| name.contains(".system.buckets.")).unwrap();
    // What is staged, what is loaded inside the cut-over, and everything when nothing is staged.
    for (namespace, options) in
        [("bulk.random", json!({})), (series.as_str(), json!({})), ("bulk.random", json!({"inPlace": true}))]
    {
        let segment = bench.segments(&snapshot, namespace).await.remove(0);
        let file = bench.dir.path().join("vault").join(segment.name.path());
        flip_a_bit(&file);
        let id = request(&bench, &snapshot, bench.deployment, options).await;
        let job = run(&bench, id, bench.settings(), None).await;
        assert_eq!(job.state, RestoreState::Failed);
        let error = job.error.unwrap();
        assert!(error.contains(&segment.name.hex()), "{error}");
        assert_no_staging(&bench.client).await;
        oracle::assert_same(&damaged, &data(&bench.client).await);
        flip_a_bit(&file);
    }
}

fn flip_a_bit(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}
