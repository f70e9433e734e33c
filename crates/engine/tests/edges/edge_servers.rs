//! What servers do to a job: unclean ends, oplogs that roll over, members that are hidden and lag behind.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Bson, Document, doc};
use restore_support::{data, register, request, restore, run};
use serde_json::json;
use support::{Bench, documents};
use testbed::{Options, Server, data::Set, oracle};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counts_after_an_unclean_end_decide_nothing() {
    let bench = Bench::start(Options::default()).await;
    let things = bench.client.database("app").collection::<Document>("things");
    bench.fill("app", "things", documents(3_000, 100, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "emptied", documents(500, 100, |n| Bson::Int64(n as i64))).await;
    bench.server.admin(doc! { "fsync": 1 }).await.unwrap();
    // After the checkpoint, so that the counts on disk are those of before.
    things.delete_many(doc! { "n": { "$lt": 1000 } }).await.unwrap();
    bench.fill("app", "emptied", documents(700, 100, |n| Bson::Int64(1000 + n as i64))).await;
    bench.fill("app", "new", documents(900, 100, |n| Bson::Int64(n as i64))).await;
    bench.server.kill(0).await.unwrap();
    bench.server.restart(0).await.unwrap();
    bench.server.wait_for_members().await.unwrap();
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    for (namespace, expected) in [("app.things", 2_000), ("app.emptied", 1_200), ("app.new", 900)] {
        bench.assert_exact(&snapshot, namespace).await;
        assert_eq!(bench.collections(&snapshot).await[namespace].documents, expected, "{namespace}");
    }
    bench.client.database("app").drop().await.unwrap();
    restore(&bench, &snapshot, bench.deployment, json!({})).await;
    oracle::assert_same(&before, &data(&bench.client).await);
}

/// First entry of the oplog.
async fn oldest(client: &mongodb::Client) -> bson::Timestamp {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap().unwrap();
    first.get_timestamp("ts").unwrap()
}

/// The oplog between the time of a snapshot and its end is gone: nobody can tell what happened, so it is read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_oplog_that_rolls_over_under_the_read() {
    let every_second = vec!["--syncdelay".to_owned(), "1".to_owned()];
    let options = Options { oplog_mb: Some(1), arguments: every_second, ..Options::default() };
    let bench = Bench::start(options).await;
    bench.fill("app", "still", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    let attempts = Arc::new(AtomicU32::new(0));
    let probe = support::probe({
        let (client, attempts) = (bench.client.clone(), Arc::clone(&attempts));
        move |moment, _| {
            let (client, attempts) = (client.clone(), Arc::clone(&attempts));
            async move {
                if moment != "snapshot.pinned" || attempts.fetch_add(1, Ordering::SeqCst) > 0 {
                    return;
                }
                let noise = client.database("noise").collection::<Document>("x");
                noise.insert_one(doc! { "_id": 0 }).await.unwrap();
                let last = client.database("local").collection::<Document>("oplog.rs");
                let last = last.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
                let now = last.get_timestamp("ts").unwrap();
                while oldest(&client).await <= now {
                    let text = "y".repeat(1000);
                    noise.insert_many((0..2000).map(|_| doc! { "text": &text })).await.unwrap();
                    noise.delete_many(doc! {}).await.unwrap();
                }
            }
        }
    });
    let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 2, "the first attempt cannot be proved");
    bench.assert_exact(&snapshot, "app.still").await;
    bench.assert_verifies(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hidden_member_that_lags_by_an_hour_holds_nobody_up() {
    let server = Server::start(Options::default().members(3)).await.unwrap();
    let primary = server.primary().await.unwrap();
    let late = (primary + 1) % 3;
    let mut config = server.admin(doc! { "replSetGetConfig": 1 }).await.unwrap();
    let config = config.get_document_mut("config").unwrap();
    let version = config.get_i32("version").unwrap() + 1;
    config.insert("version", version);
    let member = config.get_array_mut("members").unwrap()[late].as_document_mut().unwrap();
    member.extend(doc! { "priority": 0, "hidden": true, "secondaryDelaySecs": 3600_i64 });
    server.admin(doc! { "replSetReconfig": config.clone() }).await.unwrap();

    let (uri, of_late) = (server.uri(), server.uri_of_member(late));
    let bench = Bench::over(server, &uri).await;
    bench.fill("app", "things", documents(2_000, 200, |n| Bson::Int64(n as i64))).await;
    let index = doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n" }], "commitQuorum": 2 };
    bench.client.database("app").run_command(index).await.unwrap();
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    bench.client.database("app").drop().await.unwrap();
    restore(&bench, &snapshot, bench.deployment, json!({})).await;
    oracle::assert_same(&before, &data(&bench.client).await);

    // A connection string that leads to that member alone: no job hangs on it, and the reason is told.
    let target = register(&bench, "late", &of_late).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let job = run(&bench, id, bench.settings(), None).await;
    let error = job.error.unwrap();
    assert!(error.contains("primary"), "{error}");
}

/// A primary, a secondary and an arbiter: a majority is both that hold data.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_set_with_an_arbiter_is_backed_up_and_restored() {
    for version in ["6.0.5", "5.0.4"] {
        let server = Server::start(Options::version(version).with_arbiter()).await.unwrap();
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        testbed::data::load(&bench.client, 7, &[Set::Views, Set::TimeSeries, Set::Indexes]).await.unwrap();
        let before = data(&bench.client).await;
        let snapshot = bench.snapshot().await;
        bench.assert_verifies(&snapshot).await;
        bench.client.database("indexes").drop().await.unwrap();
        restore(&bench, &snapshot, bench.deployment, json!({})).await;
        oracle::assert_same(&before, &data(&bench.client).await);

        let secondary = 1 - bench.server.primary().await.unwrap();
        bench.server.stop(secondary).await.unwrap();
        let down = bench.server.host_port_of(secondary);
        let deadline = Instant::now() + Duration::from_secs(60);
        // Until its fellows have noticed.
        while Instant::now() < deadline {
            let status = bench.server.admin(doc! { "replSetGetStatus": 1 }).await.unwrap();
            let members = status.get_array("members").unwrap();
            let is_down = |member: &Bson| {
                let member = member.as_document().unwrap();
                member.get_str("name").unwrap() == down && member.get_f64("health").unwrap() == 0.0
            };
            if members.iter().any(is_down) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
        let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
        assert!(error.contains("no majority") && error.contains(&down), "{error}");
    }
}
