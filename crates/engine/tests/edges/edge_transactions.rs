//! Transactions around a snapshot: each is in it whole, or not at all.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use bson::{Bson, Document, doc};
use mongodb::{Client, ClientSession, Database};
use restore_support::restore;
use serde_json::json;
use support::{Bench, number};
use testbed::Options;

/// Larger than one entry of the oplog can be.
const LARGE_DOCUMENTS: i64 = 20;
const LARGE_BYTES: usize = 1_000_000;

async fn count(bench: &Bench, snapshot: &catalog::Snapshot, namespace: &str) -> usize {
    bench.documents(snapshot, namespace).await.len()
}

async fn session(client: &Client) -> ClientSession {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    session
}

/// What is put into three collections, one of which is new. What goes into one of them is large.
fn large_documents() -> Vec<(&'static str, Document)> {
    let all_with = |id: i64| {
        [("app.one", LARGE_BYTES), ("app.two", 0), ("app.made_in_it", 0)]
            .map(|(namespace, bytes)| (namespace, doc! { "_id": id, "text": "x".repeat(bytes) }))
    };
    (100..100 + LARGE_DOCUMENTS).flat_map(all_with).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn open_large_and_schema_changing_ones() {
    for version in ["6.0.5", "5.0.4"] {
        let bench = Bench::start(Options::version(version)).await;
        for name in ["one", "two"] {
            bench.fill("app", name, [doc! { "_id": -1_i64 }]).await;
        }
        let database = bench.client.database("app");
        let (one, two) = (database.collection::<Document>("one"), database.collection::<Document>("two"));

        // Open while the snapshot is taken, committed after it.
        let mut open = session(&bench.client).await;
        one.insert_one(doc! { "_id": 1_i64 }).session(&mut open).await.unwrap();
        two.insert_one(doc! { "_id": 1_i64 }).session(&mut open).await.unwrap();
        let during = bench.snapshot().await;
        open.commit_transaction().await.unwrap();
        assert_eq!(
            (count(&bench, &during, "app.one").await, count(&bench, &during, "app.two").await),
            (1, 1)
        );
        // What drivers keep for their retries is the server's, and stays out.
        let collections = bench.collections(&during).await;
        assert!(
            collections.keys().all(|name| !name.starts_with("config.") && !name.starts_with("local.")),
            "{:?}",
            collections.keys()
        );

        // Larger than an entry of the oplog, with a new collection in it, between the time and the read.
        let attempts = Arc::new(AtomicU32::new(0));
        let probe = support::probe({
            let (client, attempts) = (bench.client.clone(), Arc::clone(&attempts));
            move |moment, _| {
                let (client, attempts) = (client.clone(), Arc::clone(&attempts));
                async move {
                    if moment != "snapshot.pinned" || attempts.fetch_add(1, Ordering::SeqCst) > 0 {
                        return;
                    }
                    support::put_in_one(&client, &large_documents()).await;
                }
            }
        });
        let before = bench.snapshot_with(bench.settings(), Some(probe)).await;
        assert_eq!(attempts.load(Ordering::SeqCst), 1, "{version}: it disturbed no read");
        assert_eq!(
            (count(&bench, &before, "app.one").await, count(&bench, &before, "app.two").await),
            (2, 2)
        );
        assert!(!bench.collections(&before).await.contains_key("app.made_in_it"), "made after the time");
        let after = bench.snapshot().await;
        for (namespace, expected) in [("app.one", 22), ("app.two", 22), ("app.made_in_it", 20)] {
            assert_eq!(count(&bench, &after, namespace).await, expected, "{version}: {namespace}");
        }
        bench.assert_verifies(&after).await;
    }
}

/// Moves money between two collections, and swaps the unique values of two documents.
async fn transfer(bank: &Database, session: &mut ClientSession, round: u32) -> mongodb::error::Result<()> {
    let (left, right) = (bank.collection::<Document>("left"), bank.collection::<Document>("right"));
    let unique = bank.collection::<Document>("unique");
    session.start_transaction().await?;
    let one = doc! { "_id": round % 10 };
    left.update_one(one.clone(), doc! { "$inc": { "money": -1 } }).session(&mut *session).await?;
    right.update_one(one, doc! { "$inc": { "money": 1 } }).session(&mut *session).await?;
    // 1 and 2 swap, by way of a third value.
    for (id, value) in [(1, -1), (2, 1 + round as i32 % 2), (1, 2 - round as i32 % 2)] {
        let set = doc! { "$set": { "value": value } };
        unique.update_one(doc! { "_id": id }, set).session(&mut *session).await?;
    }
    session.commit_transaction().await
}

/// Transfers for ever; how many there were.
async fn transfers(client: Client, stop: Arc<AtomicBool>) -> u32 {
    let bank = client.database("bank");
    let mut session = client.start_session().await.unwrap();
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        match transfer(&bank, &mut session, rounds).await {
            Ok(()) => rounds += 1,
            Err(error) => support::before_another_try(&mut session, &error).await,
        }
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sums_hold_and_unique_values_stay_unique() {
    let bench = Bench::start(Options::default()).await;
    for name in ["left", "right"] {
        bench.fill("bank", name, (0..10).map(|n: u32| doc! { "_id": n, "money": 1000 })).await;
    }
    bench.fill("bank", "unique", [doc! { "_id": 1, "value": 1 }, doc! { "_id": 2, "value": 2 }]).await;
    let bank = bench.client.database("bank");
    let index = doc! { "key": { "value": 1 }, "name": "value", "unique": true };
    bank.run_command(doc! { "createIndexes": "unique", "indexes": [index] }).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(transfers(bench.client.clone(), Arc::clone(&stop)));
    let mut snapshots = vec![];
    for _ in 0..3 {
        snapshots.push(bench.snapshot().await);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writing.await.unwrap() > 3);
    let sum = |documents: Vec<Vec<u8>>| -> i64 {
        let money =
            |raw: &Vec<u8>| number(Document::from_reader(raw.as_slice()).unwrap().get("money").unwrap());
        documents.iter().map(money).sum()
    };
    for snapshot in &snapshots {
        let left = sum(bench.documents(snapshot, "bank.left").await);
        let right = sum(bench.documents(snapshot, "bank.right").await);
        assert_eq!(left + right, 20_000, "a half of a transfer");
        bench.assert_exact(snapshot, "bank.unique").await;
    }
    for snapshot in &snapshots {
        // Both values are there, so the unique index can be built.
        restore(&bench, snapshot, bench.deployment, json!({})).await;
        let values: Vec<Bson> =
            bank.collection::<Document>("unique").distinct("value", doc! {}).await.unwrap();
        assert_eq!(values, [Bson::Int32(1), Bson::Int32(2)]);
    }
}
