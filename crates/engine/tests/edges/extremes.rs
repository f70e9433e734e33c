//! Data at the limits of what a server takes.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Binary, Bson, doc, spec::BinarySubtype};
use ebbtide_engine::{Settings, engine::Tuning};
use mongo::read::Order;
use restore_support::{data, restore};
use serde_json::json;
use support::Bench;
use testbed::{Options, oracle};

/// An `_id` of so many bytes that begins like all others.
fn long_id(n: u8, bytes: usize) -> Bson {
    let mut long = vec![7; bytes];
    *long.last_mut().unwrap() = n;
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: long })
}

/// The list of a range's segments holds two keys of each, so keys of megabytes must not pile up in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ids_of_megabytes() {
    let bench = Bench::start(Options { cache_gb: 1.0, ..Options::default() }).await;
    for n in 0..60 {
        bench.fill("app", "long", [doc! { "_id": long_id(n, 1_500_000) }]).await;
    }
    bench.fill("app", "longest", [doc! { "_id": long_id(1, 8_000_000) }, doc! { "_id": 1, "x": "y" }]).await;
    let forced =
        |order| Settings { tuning: Tuning { split_bytes: Some(1), order: Some(order) }, ..bench.settings() };
    let mut taken = vec![];
    let windowed = Order::NaturalNearlySorted { window_bytes: 16 << 20 };
    for order in [Order::SortedRanges, Order::NaturalThenSort, windowed] {
        let snapshot = bench.snapshot_with(forced(order), None).await;
        bench.assert_exact(&snapshot, "app.long").await;
        bench.assert_exact(&snapshot, "app.longest").await;
        bench.assert_verifies(&snapshot).await;
        let names = bench.segments(&snapshot, "app.long").await.into_iter().map(|entry| entry.name);
        taken.push((names.collect::<Vec<_>>(), snapshot));
    }
    for other in &taken[1..] {
        assert_eq!(taken[0].0, other.0, "all ways give the same segments");
    }
    let before = data(&bench.client).await;
    bench.client.database("app").drop().await.unwrap();
    restore(&bench, &taken[0].1, bench.deployment, json!({})).await;
    oracle::assert_same(&before, &data(&bench.client).await);
}

/// A collection of nothing but the largest documents, some with what the server would change on insert.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn documents_of_sixteen_megabytes() {
    let bench = Bench::start(Options { cache_gb: 1.0, ..Options::default() }).await;
    let zero = Bson::Timestamp(bson::Timestamp { time: 0, increment: 0 });
    for n in 0..6 {
        // Nearly as large as a server takes.
        let filler = "x".repeat(16_700_000);
        let document =
            doc! { "_id": n, "filler": filler, "t": if n % 2 == 0 { Bson::Int64(1) } else { zero.clone() } };
        bench.fill("app", "large", [document]).await;
    }
    // The server has put its time in the place of the zeros; they come back by an update.
    let large = bench.client.database("app").collection::<bson::Document>("large");
    large.update_many(doc! { "_id": { "$mod": [2, 1] } }, doc! { "$set": { "t": zero } }).await.unwrap();
    let windowed = Order::NaturalNearlySorted { window_bytes: 16 << 20 };
    let tuning = Tuning { order: Some(windowed), ..Tuning::default() };
    let through_a_window = bench.snapshot_with(Settings { tuning, ..bench.settings() }, None).await;
    bench.assert_exact(&through_a_window, "app.large").await;
    let snapshot = bench.snapshot().await;
    bench.assert_exact(&snapshot, "app.large").await;
    let before = data(&bench.client).await;
    large.drop().await.unwrap();
    restore(&bench, &snapshot, bench.deployment, json!({})).await;
    oracle::assert_same(&before, &data(&bench.client).await);
}
