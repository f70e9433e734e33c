//! Clocks that jump: a deployment whose cluster time is days ahead of its clock and of ours, as after a clock that was
//! wrong and was put right. Cluster time never goes back, so that is how it stays until the clocks have come after it.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Bson, Document, doc};
use catalog::{Page, SnapshotFilter};
use model::{ClusterTime, restore::RestoreState, timeline::PointInTime};
use mongodb::ClusterTime as Gossip;
use restore_support::captured::{Captured, pause};
use serde_json::json;
use support::{Bench, documents, engine::engine::wall_clock};
use testbed::Options;

const DAY: u32 = 86_400;

/// Tells the deployment that others have seen a cluster time so much later than its own, as members with a wrong clock do.
/// Without access control there is no signature to check.
async fn jump(bench: &Bench, seconds: u32) {
    let hello = bench.server.admin(doc! { "hello": 1 }).await.unwrap();
    let now = hello.get_timestamp("operationTime").unwrap();
    let later = bson::Timestamp { time: now.time + seconds, increment: 1 };
    let hash = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 20] };
    let signature = doc! { "hash": hash, "keyId": 0_i64 };
    let gossip: Gossip =
        bson::deserialize_from_document(doc! { "clusterTime": later, "signature": signature }).unwrap();
    let mut session = bench.client.start_session().await.unwrap();
    session.advance_cluster_time(&gossip);
    bench.client.database("admin").run_command(doc! { "ping": 1 }).session(&mut session).await.unwrap();
}

/// Waits until capture has looked after the base so many times more.
async fn looks(bench: &Bench, times: usize) {
    let begun = std::time::Instant::now();
    let window = || async {
        let capture = bench.catalog.timelines().capture(bench.deployment).await.unwrap().unwrap();
        capture.status["oplogWindowSeconds"].as_u64()
    };
    for _ in 0..times {
        let before = window().await;
        // Ahead of its clock a cluster time stands still, but for what moves it.
        jump(bench, 60).await;
        bench.server.admin(doc! { "appendOplogNote": 1, "data": {} }).await.unwrap();
        while window().await == before {
            pause(begun).await;
        }
    }
}

async fn ids(bench: &Bench) -> Vec<i64> {
    let things = bench.client.database("app").collection::<Document>("things");
    let ids = things.distinct("_id", doc! {}).await.unwrap();
    ids.iter().map(support::number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_time_that_is_days_ahead_changes_nothing() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    jump(&bench, 3 * DAY).await;
    let captured = Captured::over(bench, None).await;
    let bench = &captured.bench;
    let timelines = bench.catalog.timelines();
    let ours = wall_clock().seconds();
    assert!(
        i64::from(captured.now().await.seconds) > ours + i64::from(2 * DAY),
        "the cluster time did not jump"
    );

    // A base that is there is not taken again and again.
    looks(bench, 2).await;
    let all =
        bench.catalog.snapshots().list(SnapshotFilter::of(bench.deployment), Page::default()).await.unwrap();
    assert_eq!(all.items.len(), 1, "one base is enough");

    // Once more, in the middle of the record.
    bench.fill("app", "things", documents(1, 100, |_| Bson::Int64(1_000))).await;
    let before = captured.now().await;
    jump(bench, 5 * DAY).await;
    bench.fill("app", "things", documents(1, 100, |_| Bson::Int64(2_000))).await;
    let after = captured.now().await;
    assert!(after.seconds > before.seconds + 4 * DAY);
    bench.fill("app", "things", documents(1, 100, |_| Bson::Int64(3_000))).await;
    let last = captured.now().await;
    let begun = std::time::Instant::now();
    let current = loop {
        let current = timelines.current(bench.deployment).await.unwrap().unwrap();
        if current.durable.time >= last {
            break current;
        }
        pause(begun).await;
    };
    let range = timelines.ranges(bench.deployment).await.unwrap().pop().unwrap().1;
    assert!(range.contains(before) && range.contains(last), "{range:?}");
    let window = bench
        .catalog
        .deployments()
        .get(bench.deployment)
        .await
        .unwrap()
        .unwrap()
        .continuous
        .restore_window_days;
    assert!(
        current.window_begins(window, wall_clock()) < range.from,
        "the window is shorter than it has to be"
    );
    assert_eq!(timelines.expired(bench.deployment, wall_clock(), 1_000).await.unwrap(), []);

    // Every point of it can be gone back to: an operation on either side of the jump, and a second that never was.
    let never = ClusterTime { seconds: before.seconds + DAY, increment: 0 };
    for (point, wanted) in [
        (PointInTime::Operation(after), &[1_000, 2_000][..]),
        (PointInTime::Second(never.seconds), &[1_000][..]),
        (PointInTime::Operation(before), &[1_000][..]),
        (PointInTime::Operation(last), &[1_000, 2_000, 3_000][..]),
    ] {
        let job = captured.restore(point, bench.deployment, json!({})).await;
        assert_eq!(job.state, RestoreState::Finished, "{point}: {:?}", job.error);
        let expected: Vec<i64> = (0..100).chain(wanted.iter().copied()).collect();
        assert_eq!(ids(bench).await, expected, "{point}");
    }
    captured.stop().await;
}
