//! A restore makes the target what the source was at the time of the snapshot: judged by the server itself.
#![allow(clippy::unwrap_used)]

mod restore_support;
mod support;

use bson::doc;
use restore_support::{assert_no_staging, damage, data, register, restore, server};
use serde_json::json;
use support::Bench;
use testbed::{Options, data::Set, oracle};

async fn onto_itself(version: &str, options: serde_json::Value) {
    let server = server(Options::version(version), &Set::ALL).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let before = data(&bench.client).await;
    let users = oracle::state(&bench.client).await.unwrap().users;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    assert!(!oracle::diff(&before, &data(&bench.client).await).is_empty());

    let job = restore(&bench, &snapshot, bench.deployment, options).await;
    oracle::assert_same(&before, &data(&bench.client).await);
    assert_no_staging(&bench.client).await;
    assert_eq!(users, oracle::state(&bench.client).await.unwrap().users);

    let receipt = job.receipt.unwrap();
    let lines = receipt["perCollection"].as_array().unwrap();
    assert!(lines.len() > 20 && lines.iter().all(|line| line["ok"] == true), "{receipt:#}");
    assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
    assert_eq!(receipt["parkedTtl"], json!([]), "nothing had expired");
    assert!(receipt["fence"]["reason"].is_string(), "there is none without authentication");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn onto_itself_on_6_0() {
    onto_itself("6.0.5", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn onto_itself_on_5_0() {
    onto_itself("5.0.4", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_place() {
    onto_itself("6.0.5", json!({"inPlace": true})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn into_another_deployment_of_a_higher_version() {
    let sets: Vec<_> = Set::ALL.into_iter().filter(|set| *set != Set::Principals).collect();
    let source = server(Options::version("5.0.4"), &sets).await;
    let uri = source.uri();
    let bench = Bench::over(source, &uri).await;
    let snapshot = bench.snapshot().await;
    let other = server(Options::version("6.0.5"), &[Set::Views, Set::TimeSeries, Set::Principals]).await;
    let client = other.client().await.unwrap();
    client.database("admin").collection("mine").insert_one(doc! {"_id": 1}).await.unwrap();
    let users = oracle::state(&client).await.unwrap().users;
    let target = register(&bench, "other", &other.uri()).await;

    restore(&bench, &snapshot, target, json!({})).await;
    oracle::assert_same(&data(&bench.client).await, &data(&client).await);
    assert_eq!(users, oracle::state(&client).await.unwrap().users, "users stay unless asked for");
    assert_no_staging(&client).await;
}
