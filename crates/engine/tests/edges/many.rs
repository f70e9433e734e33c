//! Many collections: nothing is done per collection that should be done once.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Document, doc};
use restore_support::{assert_no_staging, data, restore};
use serde_json::json;
use support::Bench;
use testbed::{Options, oracle};

/// How many collections; ten thousand take long, and a server that may open 50,000 files.
const COLLECTIONS: &str = "EBBTIDE_TEST_COLLECTIONS";
const COLLECTIONS_DEFAULT: usize = 200;
/// Made at a time.
const TOGETHER: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_collections_are_taken_and_come_back() {
    let count = std::env::var(COLLECTIONS).ok().map_or(COLLECTIONS_DEFAULT, |text| text.parse().unwrap());
    let bench = Bench::start(Options::default()).await;
    let database = bench.client.database("tenants");
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(TOGETHER) {
        let made = batch.iter().map(|number| {
            let collection = database.collection::<Document>(&format!("tenant{number:05}"));
            async move { collection.insert_one(doc! { "_id": *number as i64, "text": "x".repeat(100) }).await }
        });
        for made in futures::future::join_all(made).await {
            made.unwrap();
        }
    }
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    assert_eq!(snapshot.collections, count as u64);
    bench.assert_verifies(&snapshot).await;
    database.drop().await.unwrap();
    let job = restore(&bench, &snapshot, bench.deployment, json!({})).await;
    assert_eq!(job.receipt.unwrap()["collections"], count);
    oracle::assert_same(&before, &data(&bench.client).await);
    assert_no_staging(&bench.client).await;
}
