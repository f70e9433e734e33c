//! A cancel is answered soon, however long what it cancels would have taken.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use bson::{Document, doc};
use support::{Ebbtide, text};
use testbed::{Options, Server, oracle};

/// Far less than the job would take, far more than a busy machine needs.
const SOON: Duration = Duration::from_secs(30);
/// How long each insert takes: a cancel waits for those under way.
const INSERT_TAKES_MS: i32 = 8_000;
/// So many that the job takes minutes, however many of them are loaded at once.
const COLLECTIONS: i32 = 60;

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < support::PATIENCE, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_a_slow_target_is_cancelled_soon() {
    let server = Server::start(Options::default().set_parameter("enableTestCommands", "1")).await.unwrap();
    let client = server.client().await.unwrap();
    let shop = client.database("shop");
    for n in 0..COLLECTIONS {
        shop.collection::<Document>(&format!("c{n}")).insert_one(doc! { "_id": n }).await.unwrap();
    }
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    shop.collection::<Document>("c7").drop().await.unwrap();
    let damaged = oracle::state(&client).await.unwrap();

    let data = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": INSERT_TAKES_MS };
    server
        .admin(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data })
        .await
        .unwrap();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
    let job = text(&ebbtide.cli(&start), "id");
    let waiting = doc! { "currentOp": 1, "command.insert": { "$exists": true } };
    wait_until("an insert", async || {
        let reply = client.database("admin").run_command(waiting.clone()).await.unwrap();
        !reply.get_array("inprog").unwrap().is_empty()
    })
    .await;

    let asked = Instant::now();
    ebbtide.cli(&["restore", "cancel", "main", &job]);
    wait_until("the end of the job", async || {
        let state = text(&ebbtide.cli(&["restore", "show", "main", &job]), "state");
        assert!(matches!(state.as_str(), "cancelling" | "cancelled"), "{state}");
        state == "cancelled"
    })
    .await;
    assert!(asked.elapsed() < SOON, "a cancel took {:?}", asked.elapsed());
    oracle::assert_same(&damaged, &oracle::state(&client).await.unwrap());
}
