//! A restore makes the target what the source was at the time of the snapshot: judged by the server itself.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::{Document, doc};
use futures::TryStreamExt;
use restore_support::{assert_no_staging, damage, data, register, restore, server};
use serde_json::json;
use support::Bench;
use testbed::{Options, Server, data::Set, oracle};

/// What users see of the time series: the measurements and not the buckets.
async fn measurements(client: &mongodb::Client) -> Vec<Document> {
    let mut seen = vec![];
    for name in ["weather", "bare", "expiring"] {
        let series = client.database("timeseries").collection::<Document>(name);
        let mut found: Vec<Document> = series.find(doc! {}).await.unwrap().try_collect().await.unwrap();
        found.sort_by_key(|measured| measured.get_i64("n").unwrap());
        seen.extend(found);
    }
    seen
}

async fn onto_itself(version: &str, options: serde_json::Value) {
    let server = server(Options::version(version), &Set::ALL).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let before = data(&bench.client).await;
    let measured = measurements(&bench.client).await;
    assert_eq!(measured.len(), 3 * 300);
    let users = oracle::state(&bench.client).await.unwrap().users;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    assert!(!oracle::diff(&before, &data(&bench.client).await).is_empty());

    let job = restore(&bench, &snapshot, bench.deployment, options).await;
    oracle::assert_same(&before, &data(&bench.client).await);
    assert!(measured == measurements(&bench.client).await, "the series show other measurements");
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
    let (mut wanted, mut found) = (data(&bench.client).await, data(&client).await);
    for database in wanted.databases.values_mut().chain(found.databases.values_mut()) {
        // How a version words the view below a time series is its own business; the options are compared.
        database.hashes.remove("system.views");
    }
    oracle::assert_same(&wanted, &found);
    assert_eq!(users, oracle::state(&client).await.unwrap().users, "users stay unless asked for");
    assert_no_staging(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn expired_documents_stay_until_somebody_says_otherwise() {
    for version in ["6.0.5", "5.0.4", "6.0.27"] {
        let server =
            Server::start(Options::version(version).set_parameter("ttlMonitorSleepSecs", "1")).await.unwrap();
        let client = server.client().await.unwrap();
        let admin = client.database("admin");
        let ttl = |on: bool| admin.run_command(doc! {"setParameter": 1, "ttlMonitorEnabled": on});
        ttl(false).await.unwrap();
        let old = bson::DateTime::from_millis(1_600_000_000_000);
        let app = client.database("app");
        app.collection("expired").insert_many((0..50).map(|n| doc! {"_id": n, "at": old})).await.unwrap();
        app.collection("fresh").insert_one(doc! {"at": bson::DateTime::now()}).await.unwrap();
        for (name, seconds) in [("expired", 60), ("fresh", 1_000_000)] {
            let index = doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": seconds};
            app.run_command(doc! {"createIndexes": name, "indexes": [index]}).await.unwrap();
        }
        let series =
            doc! {"create": "series", "timeseries": {"timeField": "at"}, "expireAfterSeconds": 60_i64};
        app.run_command(series).await.unwrap();
        app.collection("series").insert_many((0..50).map(|n| doc! {"n": n, "at": old})).await.unwrap();
        let mut expired = vec!["app.expired", "app.system.buckets.series"];
        if version.starts_with('6') {
            let clustered = doc! { "key": { "_id": 1 }, "unique": true };
            let aged = doc! {
                "create": "aged", "clusteredIndex": clustered, "collation": { "locale": "de" }, "expireAfterSeconds": 60_i64,
            };
            app.run_command(aged).await.unwrap();
            let id = |n| bson::DateTime::from_millis(old.timestamp_millis() + n);
            app.collection("aged").insert_many((0..50).map(|n| doc! {"_id": id(n)})).await.unwrap();
            expired.insert(0, "app.aged");
        }
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        let before = data(&client).await;
        let snapshot = bench.snapshot().await;
        app.drop().await.unwrap();
        ttl(true).await.unwrap();

        let job = restore(&bench, &snapshot, bench.deployment, json!({})).await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let after = data(&client).await;
        assert_ne!(before, after, "the lifetimes are put aside");
        oracle::assert_same(&before.clone().without_ttl(), &after.without_ttl());
        let receipt = job.receipt.unwrap();
        let all = receipt["parkedTtl"].as_array().unwrap();
        let parked: Vec<_> = all.iter().map(|p| p["ns"].as_str().unwrap()).collect();
        assert_eq!(parked, expired, "{receipt:#}");
        let definitions = |mut state: oracle::State| {
            for database in state.databases.values_mut() {
                database.hashes.clear();
            }
            state
        };

        // The commands of the receipt, as they stand there, are all that is to be done.
        for parked in all {
            let line = parked["command"].as_str().unwrap();
            let command = line.strip_prefix("db.getSiblingDB(\"app\").runCommand(").unwrap();
            let command: serde_json::Value =
                serde_json::from_str(command.strip_suffix(')').unwrap()).unwrap();
            let Ok(bson::Bson::Document(command)) = bson::Bson::try_from(command) else { panic!("{line}") };
            app.run_command(command).await.unwrap();
        }
        oracle::assert_same(&definitions(before.clone()), &definitions(data(&client).await));

        let job = restore(&bench, &snapshot, bench.deployment, json!({"parkTtl": false})).await;
        assert_eq!(job.receipt.unwrap()["parkedTtl"], json!([]));
        oracle::assert_same(&definitions(before), &definitions(data(&client).await));
        for name in ["expired", "aged"] {
            while app.collection::<Document>(name).count_documents(doc! {}).await.unwrap() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_and_roles_come_back_when_asked_for() {
    let server = server(Options::version("6.0.5"), &[Set::Principals]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let before = oracle::state(&bench.client).await.unwrap();
    let snapshot = bench.snapshot().await;
    let name = before.users.keys().next().unwrap().split_once('.').unwrap();
    bench.client.database(name.0).run_command(doc! {"dropUser": name.1}).await.unwrap();
    assert!(!oracle::diff(&before, &oracle::state(&bench.client).await.unwrap()).is_empty());
    let job = restore(&bench, &snapshot, bench.deployment, json!({"withUsers": true})).await;
    oracle::assert_same(&before, &oracle::state(&bench.client).await.unwrap());
    assert!(job.receipt.unwrap()["users"]["users"].as_u64().unwrap() > 0);
}
