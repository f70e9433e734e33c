//! A restore over a deployment whose names mean something else by now, and names that are hard to write.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Document, doc};
use mongodb::Database;
use restore_support::{data, restore};
use serde_json::json;
use support::Bench;
use testbed::{Options, oracle};

const KINDS: [&str; 5] = ["plain", "view", "series", "capped", "clustered"];

/// Makes `name` one of the kinds, with something in it.
async fn make(database: &Database, name: &str, kind: &str) {
    let create = match kind {
        "plain" => doc! { "create": name },
        "view" => doc! { "create": name, "viewOn": "base", "pipeline": [{ "$match": { "a": 1 } }] },
        "series" => doc! { "create": name, "timeseries": { "timeField": "t", "metaField": "m" } },
        "capped" => doc! { "create": name, "capped": true, "size": 100_000 },
        _ => doc! { "create": name, "clusteredIndex": { "key": { "_id": 1 }, "unique": true } },
    };
    database.run_command(create).await.unwrap();
    if kind == "view" {
        return;
    }
    let documents =
        (0..20).map(|n| doc! { "t": bson::DateTime::from_millis(n * 1000), "m": n % 3, "kind": kind });
    database.collection::<Document>(name).insert_many(documents).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_kind_over_each_other_kind() {
    for version in ["6.0.5", "5.0.4"] {
        // 5.0 has no clustered collections of users.
        let kinds = if version == "5.0.4" { &KINDS[..4] } else { &KINDS[..] };
        let bench = Bench::start(Options::version(version)).await;
        let database = bench.client.database("app");
        make(&database, "base", "plain").await;
        let pairs = || kinds.iter().flat_map(|was| kinds.iter().map(move |is| (*was, *is)));
        for (was, is) in pairs() {
            make(&database, &format!("{was}_to_{is}"), was).await;
        }
        let before = data(&bench.client).await;
        let snapshot = bench.snapshot().await;
        for options in [json!({}), json!({ "inPlace": true })] {
            for (was, is) in pairs() {
                let name = format!("{was}_to_{is}");
                database.collection::<Document>(&name).drop().await.unwrap();
                make(&database, &name, is).await;
            }
            restore(&bench, &snapshot, bench.deployment, options).await;
            oracle::assert_same(&before, &data(&bench.client).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_of_every_sort() {
    let bench = Bench::start(Options::default()).await;
    let long_database = "d".repeat(63);
    let names = [
        ("app", "with space"),
        ("app", "per%cent%2Fslash/back\\quote\"'`"),
        ("app", "ends.with.dots.."),
        ("app", "line\nbreak\ttab"),
        ("app", "日本語 😀"),
        ("app", "*?<>|:"),
        ("app", "UPPER"),
        ("app", "upper"),
        ("app", "ebbtide.staging"),
        ("app", "ebbtide.stagings.x"),
        ("app", "xebbtide.staging.1"),
        ("app", &"c".repeat(255 - "app.".len())),
        (&long_database, &"l".repeat(255 - 64)),
        ("Odd-db_&+=é", "x"),
    ];
    for (db, name) in names {
        let collection = bench.client.database(db).collection::<Document>(name);
        collection.insert_many([doc! { "_id": 1, "in": name }, doc! { "_id": 2 }]).await.unwrap();
        let index =
            doc! { "createIndexes": name, "indexes": [{ "key": { "in": 1 }, "name": format!("of {name}") }] };
        bench.client.database(db).run_command(index).await.unwrap();
    }
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    assert_eq!(bench.collections(&snapshot).await.len(), names.len());
    for (db, _) in names {
        bench.client.database(db).drop().await.unwrap();
    }
    restore(&bench, &snapshot, bench.deployment, json!({})).await;
    oracle::assert_same(&before, &data(&bench.client).await);
}

/// A name like those of our own staging collections is not backed up, which is told, and is never taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_collection_that_looks_like_ours_is_left_alone() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "orders", [doc! { "_id": 1 }]).await;
    for name in ["ebbtide.staging.mine", "ebbtide.staging.5f4007f327a3bd7b6f4103c5.1f"] {
        bench.fill("app", name, [doc! { "_id": 1 }]).await;
    }
    let snapshot = bench.snapshot().await;
    let excluded = snapshot.notes["excluded"].to_string();
    assert!(excluded.contains("app.ebbtide.staging.mine"), "{excluded}");
    for options in [json!({}), json!({ "inPlace": true })] {
        bench.fill("app", "orders", [doc! { "n": 2 }]).await;
        restore(&bench, &snapshot, bench.deployment, options).await;
        let app = bench.client.database("app");
        let mut names = app.list_collection_names().await.unwrap();
        names.sort();
        let kept = ["ebbtide.staging.5f4007f327a3bd7b6f4103c5.1f", "ebbtide.staging.mine", "orders"];
        assert_eq!(names, kept);
        assert_eq!(app.collection::<Document>("orders").count_documents(doc! {}).await.unwrap(), 1);
    }
}
