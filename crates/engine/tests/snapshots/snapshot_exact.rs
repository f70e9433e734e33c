//! A snapshot is the source at one cluster time, whatever is written meanwhile.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::time::Duration;

use bson::{Bson, doc, oid::ObjectId};
use mongo::{
    privileges::{self, Purpose},
    read::Order,
};
use support::{
    Bench, documents,
    engine::engine::{Settings, Tuning},
    scatter,
};
use testbed::{
    Options, Server,
    load::{Load, LoadOptions},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exact_under_write_load() {
    for version in ["6.0.5", "5.0.4"] {
        let bench = Bench::start(Options::version(version)).await;
        bench.fill("app", "still", documents(5_000, 500, |n| Bson::Int64(n as i64))).await;
        let options = LoadOptions {
            database: "app".to_owned(),
            collection: "busy".to_owned(),
            ..LoadOptions::default()
        };
        let load = Load::start(&bench.client, &options);
        load.wait_for(500).await;
        let snapshot = bench.snapshot().await;
        load.wait_for(100).await;
        let written = load.stop().await.unwrap();
        assert!(written > 600);
        for namespace in ["app.busy", "app.still"] {
            bench.assert_exact(&snapshot, namespace).await;
        }
        bench.assert_verifies(&snapshot).await;
    }
}

/// Ids of all types that an `_id` may have, so that type brackets matter.
fn mixed(n: u64) -> Bson {
    let spread = scatter(n);
    match n % 9 {
        0 => Bson::Int32(n as i32),
        1 => Bson::Double(n as f64 + 0.5),
        2 => Bson::Int64((n as i64) << 33),
        3 => Bson::String(format!("s{spread:x}")),
        4 => Bson::ObjectId(ObjectId::from_bytes({
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&spread.to_be_bytes());
            bytes
        })),
        5 => Bson::Document(doc! { "a": spread as i64, "b": n as i32 }),
        6 => Bson::DateTime(bson::DateTime::from_millis(spread as i64 >> 20)),
        7 => Bson::Binary(bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: spread.to_be_bytes().to_vec(),
        }),
        _ => Bson::Timestamp(bson::Timestamp { time: spread as u32, increment: n as u32 }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_reading_orders_give_identical_segments() {
    for (version, count, segments_min) in [("6.0.5", 15_000, 3), ("5.0.4", 8_000, 2)] {
        let bench = Bench::start(Options::version(version)).await;
        // Large enough for several strong cuts, since those are what parallel readers meet at.
        bench.fill("app", "increasing", documents(count, 4_000, |n| Bson::Int64(n as i64))).await;
        bench
            .fill("app", "random", documents(count, 4_000, |n| Bson::String(format!("{:016x}", scatter(n)))))
            .await;
        bench.fill("app", "mixed", documents(count, 4_000, mixed)).await;
        bench
            .fill(
                "app",
                "edges",
                [doc! { "_id": Bson::MinKey }, doc! { "_id": Bson::MaxKey }, doc! { "_id": Bson::Null }],
            )
            .await;
        let tune = |order, split_bytes, readers| Settings {
            tuning: Tuning { order: Some(order), split_bytes: Some(split_bytes) },
            readers,
            ..bench.settings()
        };
        let mut all = vec![];
        for settings in [
            tune(Order::SortedRanges, u64::MAX, 1),
            tune(Order::SortedRanges, 0, 3),
            tune(Order::NaturalThenSort, u64::MAX, 1),
            tune(Order::NaturalThenSort, 0, 3),
            tune(Order::NaturalNearlySorted { window_bytes: 1 << 20 }, u64::MAX, 3),
        ] {
            let snapshot = bench.snapshot_with(settings, None).await;
            let mut segments = vec![];
            for namespace in ["app.increasing", "app.random", "app.mixed", "app.edges"] {
                let entries = bench.segments(&snapshot, namespace).await;
                segments.push(
                    entries
                        .into_iter()
                        .map(|e| (e.name, e.first_key, e.last_key, e.documents))
                        .collect::<Vec<_>>(),
                );
            }
            assert!(
                segments[0].len() >= segments_min,
                "too few segments to prove anything: {}",
                segments[0].len()
            );
            bench.assert_exact(&snapshot, "app.mixed").await;
            bench.assert_exact(&snapshot, "app.edges").await;
            bench.assert_verifies(&snapshot).await;
            all.push(segments);
        }
        for (number, other) in all.iter().enumerate().skip(1) {
            assert!(*other == all[0], "reading in way {number} gave other segments than one sorted reader");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unchanged_data_is_stored_once() {
    let bench = Bench::start(Options::default()).await;
    bench
        .fill("app", "things", documents(30_000, 2_000, |n| Bson::String(format!("{:x}", scatter(n)))))
        .await;
    let first = bench.snapshot().await;
    let second = bench.snapshot().await;
    assert!(first.added_bytes > 1_000_000, "{}", first.added_bytes);
    assert!(
        second.added_bytes * 100 < first.added_bytes,
        "the second snapshot added {} bytes to {}",
        second.added_bytes,
        first.added_bytes
    );
    assert_eq!(second.documents, 30_000);
    let names = |entries: Vec<vault::SegmentEntry>| entries.into_iter().map(|e| e.name).collect::<Vec<_>>();
    assert_eq!(
        names(bench.segments(&first, "app.things").await),
        names(bench.segments(&second, "app.things").await)
    );
    // One changed document costs one segment.
    bench
        .client
        .database("app")
        .collection::<bson::Document>("things")
        .update_one(doc! { "n": 7 }, doc! { "$set": { "n": -7 } })
        .await
        .unwrap();
    let third = bench.snapshot().await;
    bench.assert_exact(&third, "app.things").await;
    let before: std::collections::HashSet<_> =
        names(bench.segments(&first, "app.things").await).into_iter().collect();
    let after = names(bench.segments(&third, "app.things").await);
    assert_eq!(
        after.iter().filter(|name| !before.contains(name)).count(),
        1,
        "one changed document makes one new segment"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_short_history_window_is_raised_and_put_back() {
    let options = Options::default().set_parameter("minSnapshotHistoryWindowInSeconds", "3");
    let bench = Bench::start(options).await;
    bench.fill("app", "slow", documents(20_000, 1_000, |n| Bson::Int64(n as i64))).await;
    let load = Load::start(
        &bench.client,
        &LoadOptions { database: "app".to_owned(), collection: "busy".to_owned(), ..LoadOptions::default() },
    );
    load.wait_for(200).await;
    // The moment after the time was fixed lasts longer than the window; but only once.
    let slept = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let probe = support::probe({
        let slept = slept.clone();
        move |moment, _| {
            let slept = slept.clone();
            async move {
                if moment == "snapshot.pinned" {
                    slept.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(8)).await;
                }
            }
        }
    });
    let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
    assert_eq!(
        slept.load(std::sync::atomic::Ordering::SeqCst),
        2,
        "the first attempt was meant to find its history gone"
    );
    assert_eq!(bench.window().await, 3, "the window was not put back");
    load.stop().await.unwrap();
    bench.assert_verifies(&snapshot).await;
    assert_eq!(bench.documents(&snapshot, "app.slow").await.len(), 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_window_that_may_not_be_raised_fails_the_snapshot_by_name() {
    let options = Options::default().set_parameter("minSnapshotHistoryWindowInSeconds", "3");
    let bench = Bench::start(options).await;
    let settings = Settings { raise_history_window: false, ..bench.settings() };
    fails_by_its_window(&bench, settings).await;
}

/// The documented role, but for the privilege that is optional.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_that_may_not_raise_the_window_fails_the_snapshot_by_name() {
    for version in ["6.0.5", "5.0.4"] {
        let options =
            Options::version(version).with_auth().set_parameter("minSnapshotHistoryWindowInSeconds", "3");
        let server = Server::start(options).await.unwrap();
        let number = if version.starts_with('6') { (6, 0, 5) } else { (5, 0, 4) };
        let mut role = privileges::role_definition(Purpose::Backup, number);
        let mut taken = 0;
        for privilege in role.get_array_mut("privileges").unwrap() {
            let actions = privilege.as_document_mut().unwrap().get_array_mut("actions").unwrap();
            let before = actions.len();
            actions.retain(|action| action.as_str() != Some("setParameter"));
            taken += before - actions.len();
        }
        assert_eq!(taken, 1);
        server.admin(role).await.unwrap();
        let user = doc! { "createUser": "backup", "pwd": "p", "roles": [Purpose::Backup.role()] };
        server.admin(user).await.unwrap();
        let uri = server.uri_for("backup", "p");
        let bench = Bench::over(server, &uri).await;
        fails_by_its_window(&bench, bench.settings()).await;
    }
}

/// A snapshot that begins to read when its history is gone, under load.
async fn fails_by_its_window(bench: &Bench, settings: Settings) {
    bench.fill("app", "slow", documents(1_000, 1_000, |n| Bson::Int64(n as i64))).await;
    let load = Load::start(
        &bench.client,
        &LoadOptions { database: "app".to_owned(), collection: "busy".to_owned(), ..LoadOptions::default() },
    );
    load.wait_for(200).await;
    let probe = support::probe(|moment, _| async move {
        if moment == "snapshot.pinned" {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
    });
    // Nothing is left to be undone either: `try_snapshot` looks.
    let snapshot = bench.try_snapshot(settings, Some(probe)).await;
    load.stop().await.unwrap();
    assert_eq!(snapshot.state, model::snapshot::SnapshotState::Failed);
    let error = snapshot.error.unwrap();
    assert!(
        error.contains("the history of admin.system.users")
            && error.contains("raise minSnapshotHistoryWindowInSeconds yourself")
            && error.contains("setParameter")
            && error.contains("or switch continuous backup on"),
        "{error}"
    );
    assert_eq!(bench.window().await, 3);
}
