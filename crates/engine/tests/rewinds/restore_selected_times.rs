//! Chosen collections as they were at a point in time, and the transactions that this tears.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Document, doc};
use catalog::{Delivery, NewRestore, RestoreJob};
use model::{ClusterTime, restore::RestoreState};
use restore_support::{
    assert_no_staging, captured::Captured, data, put, register, server, without_stored_views,
};
use serde_json::{Value, json};
use testbed::{Options, data::Set, oracle};

/// Puts documents of this size into each of these in one transaction.
async fn put_together(client: &mongodb::Client, names: &[&str], ids: &[String], bytes: usize) {
    let mut documents = vec![];
    for name in names {
        for id in ids {
            documents.push((*name, doc! {"_id": id, "text": "x".repeat(bytes)}));
        }
    }
    support::put_in_one(client, &documents).await;
}

async fn together(client: &mongodb::Client, names: &[&str], id: &str) {
    put_together(client, names, &[id.to_owned()], 10).await;
}

/// A transaction of more than 16 MB, which takes several entries of the oplog.
async fn large_together(client: &mongodb::Client, names: &[&str], id: &str) {
    put_together(client, names, &[1, 2].map(|n| format!("{id} {n}")), 5 << 20).await;
}

async fn captured(version: &str) -> Captured {
    let server = server(Options::version(version), &[Set::TimeSeries, Set::Capped, Set::Views]).await;
    let client = server.client().await.unwrap();
    for (db, name) in [("shop", "orders"), ("shop", "items"), ("bank", "ledger")] {
        let documents = (0..100).map(|n| doc! {"_id": n, "n": n});
        client.database(db).collection::<Document>(name).insert_many(documents).await.unwrap();
    }
    Captured::start(server).await
}

fn finished(job: RestoreJob) -> Value {
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    job.receipt.unwrap()
}

/// After a point in time: three transactions that a restore of the orders tears, and some that it does not.
async fn transactions(client: &mongodb::Client) {
    together(client, &["shop.orders", "bank.ledger"], "torn 1").await;
    together(client, &["shop.orders"], "all of it is undone").await;
    together(client, &["bank.ledger", "shop.items"], "none of it is undone").await;
    together(client, &["bank.ledger", "shop.items", "shop.orders"], "torn 2").await;
    large_together(client, &["shop.orders", "bank.ledger"], "torn 3").await;
    // One that is not committed tears nothing.
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for (db, name) in [("shop", "orders"), ("bank", "ledger")] {
        let collection = client.database(db).collection::<Document>(name);
        collection.insert_one(doc! {"_id": "never"}).session(&mut session).await.unwrap();
    }
    session.abort_transaction().await.unwrap();
}

async fn back_to_a_point(version: &str) {
    let captured = captured(version).await;
    let bench = &captured.bench;
    let client = &bench.client;
    together(client, &["shop.orders", "bank.ledger"], "before").await;
    let shop = client.database("shop");
    shop.collection::<Document>("orders")
        .update_many(doc! {}, doc! {"$set": {"state": "good"}})
        .await
        .unwrap();
    let index = doc! {"key": {"state": 1}, "name": "by state"};
    shop.run_command(doc! {"createIndexes": "orders", "indexes": [index]}).await.unwrap();
    let before = data(client).await;
    let at = captured.now().await;

    transactions(client).await;
    shop.collection::<Document>("orders")
        .update_many(doc! {}, doc! {"$set": {"state": "bad"}})
        .await
        .unwrap();
    client.database("made_since").collection::<Document>("x").insert_one(doc! {"_id": 1}).await.unwrap();
    // What no fold knows exactly is in the way of what it happened to, and of nothing else.
    let operation = doc! {
        "op": "i", "ns": "bank.ledger", "o": {"_id": "x", "t": bson::Timestamp {time: 0, increment: 0}},
    };
    bench.server.admin(doc! {"applyOps": [operation]}).await.unwrap();

    // Beside what is there: nothing is undone.
    let mut expected = data(client).await;
    put(&mut expected, "shop.orders_old", &before, "shop.orders");
    let aside = json!({"selection": {
        "namespaces": ["shop.orders"], "renames": [{"from": "shop.orders", "to": "shop.orders_old"}],
    }});
    let receipt = finished(captured.restore(at, bench.deployment, aside).await);
    oracle::assert_same(&expected, &data(client).await);
    assert_eq!(receipt["pointInTime"], at.to_string());
    assert_eq!(receipt["tornTransactions"]["state"], "none", "{receipt:#}");
    assert_eq!(receipt["warnings"], json!([]));

    // In its own place.
    put(&mut expected, "shop.orders", &before, "shop.orders");
    let orders = json!({"selection": {"namespaces": ["shop.orders"]}});
    let receipt = finished(captured.restore(at, bench.deployment, orders.clone()).await);
    oracle::assert_same(&expected, &data(client).await);
    assert_no_staging(client).await;
    let torn = &receipt["tornTransactions"];
    assert_eq!((&torn["state"], &torn["count"]), (&json!("told"), &json!(3)), "{receipt:#}");
    assert_eq!(torn["after"], at.to_string());
    let sides: Vec<_> =
        torn["first"].as_array().unwrap().iter().map(|one| (&one["undone"], &one["kept"])).collect();
    let (orders_alone, ledger) = (json!(["shop.orders"]), json!(["bank.ledger"]));
    let both = json!(["bank.ledger", "shop.items"]);
    assert_eq!(sides, [(&orders_alone, &ledger), (&orders_alone, &both), (&orders_alone, &ledger)]);

    // What is selected together is torn from nothing.
    let at = captured.now().await;
    together(client, &["shop.orders", "shop.items"], "together").await;
    together(client, &["shop.orders", "made_since.x"], "torn").await;
    let shop = json!({"selection": {"namespaces": ["shop"]}});
    let receipt = finished(captured.restore(at, bench.deployment, shop).await);
    assert_eq!(receipt["tornTransactions"]["count"], 1, "{receipt:#}");
    let kept = &receipt["tornTransactions"]["first"][0]["kept"];
    assert_eq!(kept, &json!(["made_since.x"]));

    // The same state in another deployment, where nothing was torn.
    let other = server(Options::version(version), &[]).await;
    let target = register(bench, "other", &other.uri()).await;
    let receipt = finished(captured.restore(at, target, orders).await);
    assert_eq!(receipt["tornTransactions"]["state"], "none", "{receipt:#}");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn back_to_a_point_in_time_on_6_0() {
    back_to_a_point("6.0.5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn back_to_a_point_in_time_on_5_0() {
    back_to_a_point("5.0.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_kind_of_collection_at_a_point_in_time_under_other_names() {
    let captured = captured("6.0.5").await;
    let bench = &captured.bench;
    let client = &bench.client;
    let points = (0..50).map(|n| doc! {"at": bson::DateTime::from_millis(n * 1000), "n": n});
    client.database("timeseries").collection::<Document>("bare").insert_many(points).await.unwrap();
    let view = doc! {"create": "made since", "viewOn": "base", "pipeline": []};
    client.database("views").run_command(view).await.unwrap();
    client.database("capped").collection::<Document>("by_size").insert_one(doc! {"_id": "in"}).await.unwrap();
    let before = data(client).await;
    let at = captured.now().await;
    for db in ["timeseries", "views", "capped"] {
        client.database(db).drop().await.unwrap();
    }
    let mut expected = data(client).await;
    let renames: Vec<Value> = ["timeseries", "views", "capped"]
        .iter()
        .map(|db| json!({"from": format!("{db}.*"), "to": format!("rescued.{db}_*")}))
        .collect();
    for db in ["timeseries", "views", "capped"] {
        for name in before.databases[db].collections.keys().filter(|name| *name != "system.views") {
            let to = match name.strip_prefix("system.buckets.") {
                Some(series) => format!("rescued.system.buckets.{db}_{series}"),
                None => format!("rescued.{db}_{name}"),
            };
            put(&mut expected, &to, &before, &format!("{db}.{name}"));
        }
    }
    let namespaces = ["timeseries", "views", "capped"];
    let options = json!({"selection": {"namespaces": namespaces, "renames": renames}});
    let receipt = finished(captured.restore(at, bench.deployment, options).await);
    oracle::assert_same(&without_stored_views(expected), &without_stored_views(data(client).await));
    let warnings = receipt["warnings"].as_array().unwrap();
    assert!(
        warnings.iter().any(|text| text.as_str().unwrap().contains("views are not rewritten")),
        "{warnings:#?}"
    );
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_tears_transactions_too() {
    let captured = captured("6.0.5").await;
    let bench = &captured.bench;
    let timelines = bench.catalog.timelines();
    let from = timelines.ranges(bench.deployment).await.unwrap()[0].1.from;
    let (_, snapshot) = timelines.base_for(bench.deployment, from).await.unwrap().unwrap();
    transactions(&bench.client).await;
    let ask = |selection: Value, target| NewRestore {
        snapshot_id: snapshot.id,
        delivery: Delivery::Automated { target },
        options: json!({ "selection": selection }),
    };
    let orders = json!({"namespaces": ["shop.orders"]});
    let receipt = finished(captured.run(ask(orders.clone(), bench.deployment)).await);
    assert_eq!(receipt["tornTransactions"]["count"], 3, "{receipt:#}");
    assert_eq!(receipt["tornTransactions"]["after"], snapshot.cluster_time.unwrap().to_string());
    // The same servers under another name.
    let again = register(bench, "again", &bench.server.uri()).await;
    let receipt = finished(captured.run(ask(orders.clone(), again)).await);
    assert_eq!(receipt["tornTransactions"]["count"], 3, "{receipt:#}");

    // Where the record ends before the cut-over, nobody can tell.
    let off = model::ContinuousBackup::default();
    timelines.set_continuous_backup(bench.deployment, off).await.unwrap();
    let begun = std::time::Instant::now();
    while timelines.current(bench.deployment).await.unwrap().is_some() {
        assert!(begun.elapsed().as_secs() < 120, "it hangs");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let receipt = finished(captured.run(ask(orders, bench.deployment)).await);
    assert_eq!(receipt["tornTransactions"]["state"], "unknown", "{receipt:#}");
    captured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_folded_stops_only_who_wants_it() {
    let captured = captured("6.0.5").await;
    let bench = &captured.bench;
    let operation = doc! {
        "op": "i", "ns": "bank.ledger", "o": {"_id": "x", "t": bson::Timestamp {time: 0, increment: 0}},
    };
    bench.server.admin(doc! {"applyOps": [operation]}).await.unwrap();
    let at: ClusterTime = captured.now().await;
    for (namespaces, wanted) in [
        (json!(["bank"]), RestoreState::Failed),
        (json!(["shop", "bank.ledger"]), RestoreState::Failed),
        (json!(["shop"]), RestoreState::Finished),
    ] {
        let options = json!({"selection": {"namespaces": namespaces}});
        let job = captured.restore(at, bench.deployment, options).await;
        assert_eq!(job.state, wanted, "{namespaces}: {:?}", job.error);
        if wanted == RestoreState::Failed {
            assert!(job.error.unwrap().contains("bank.ledger"));
        }
    }
    let before = data(&bench.client).await;
    let options = json!({"selection": {"namespaces": ["shop.later"]}});
    let job = captured.restore(at, bench.deployment, options).await;
    assert_eq!(job.state, RestoreState::Failed);
    let error = job.error.unwrap();
    assert!(error.contains("nothing is called shop.later") && error.contains(&at.to_string()), "{error}");
    oracle::assert_same(&before, &data(&bench.client).await);
    captured.stop().await;
}
