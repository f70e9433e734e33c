//! What people see of a job while it runs, and of a snapshot afterwards.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use bson::{Document, doc};
use serde_json::Value;
use support::{Ebbtide, PATIENCE, text};
use testbed::{Options, Server};

const DOCUMENTS: u64 = 100_000;
/// The server waits so long at each insert: however fast the machine is, the load is seen in the middle.
const INSERT_TAKES_MS: i32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_tells_how_far_it_is() {
    let server = Server::start(Options::default().set_parameter("enableTestCommands", "1")).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    let orders = shop.collection::<Document>("orders");
    for batch in 0..DOCUMENTS as i64 / 1_000 {
        let row = |n: i64| doc! { "_id": batch * 1_000 + n, "n": n, "text": format!("{n:01500}") };
        orders.insert_many((0..1_000).map(row)).await.unwrap();
    }
    shop.collection("small").insert_one(doc! { "_id": 1 }).await.unwrap();
    let index = doc! { "createIndexes": "orders", "indexes": [{ "key": { "n": 1 }, "name": "n" }] };
    shop.run_command(index).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let data = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": INSERT_TAKES_MS };
    server
        .admin(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data })
        .await
        .unwrap();
    let job =
        text(&ebbtide.cli(&["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"]), "id");

    let began = Instant::now();
    let mut seen: Vec<Value> = vec![];
    let last = loop {
        let shown = ebbtide.cli(&["restore", "show", "main", &job]);
        if shown["progress"].is_object() && seen.last() != Some(&shown["progress"]) {
            seen.push(shown["progress"].clone());
        }
        if !matches!(shown["state"].as_str().unwrap(), "queued" | "running" | "cutOver") {
            break shown;
        }
        assert!(began.elapsed() < PATIENCE, "{shown:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(last["state"], "finished", "{last:#}");
    let number = |progress: &Value, name: &str| progress[name].as_u64().unwrap_or(0);
    let in_the_middle = seen.iter().find(|progress| {
        progress["phase"] == "load"
            && number(progress, "bytesPerSecond") > 0
            && (1..number(progress, "bytesTotal")).contains(&number(progress, "bytesDone"))
    });
    let middle = in_the_middle.unwrap_or_else(|| panic!("nothing was told in the middle: {seen:#?}"));
    assert!(middle["secondsLeft"].is_u64(), "{middle}");
    assert_eq!(number(middle, "documentsTotal"), DOCUMENTS + 1);
    assert!((1..=DOCUMENTS).contains(&number(middle, "documentsDone")), "{middle}");
    assert_eq!(number(middle, "collectionsTotal"), 2);
    let end = seen.last().unwrap();
    assert_eq!(number(end, "collectionsDone"), 2, "{end}");
    assert_eq!(number(end, "bytesDone"), number(end, "bytesTotal"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_tells_its_own_time() {
    let server = Server::start(Options::default()).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    shop.run_command(doc! { "create": "log", "capped": true, "size": 4096 }).await.unwrap();
    shop.collection("log").insert_one(doc! { "_id": 1 }).await.unwrap();
    shop.collection("orders").insert_one(doc! { "_id": 1 }).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let shown = ebbtide.cli(&["snapshot", "show", "main", &snapshot]);
    let capped = shown["notes"]["capped"].as_array().unwrap();
    assert_eq!((capped.len(), &capped[0]["namespace"]), (1, &"shop.log".into()), "{shown:#}");
    let time = |of: &Value| (of["seconds"].as_u64().unwrap(), of["increment"].as_u64().unwrap());
    assert!(time(&capped[0]["asOf"]) >= time(&shown["clusterTime"]), "{shown:#}");
    let for_people = ebbtide.try_text(&["snapshot", "show", "main", &snapshot]);
    let for_people = String::from_utf8(for_people.stdout).unwrap();
    assert!(for_people.contains("shop.log") && for_people.contains("asOf"), "{for_people}");
}
