//! Following the oplog of a deployment that is written to, that is idle, and whose primary changes.

use std::time::Duration;

use bson::{Document, doc};
use history::samples::Random;
use mongo::{ClusterTime, Deployment, Error, oplog, oplog::Tail, time};
use testbed::{
    Options, Server,
    load::{Load, LoadOptions},
};

use super::{
    record::{Record, WAIT},
    support::{connect, connected, fill, on_each_version},
};

on_each_version!(
    nothing_is_missing_or_twice_wherever_it_is_opened_again,
    a_long_oplog_comes_in_batches_of_a_mebibyte,
    an_idle_server_gives_nothing_and_then_its_heartbeat,
    a_step_down_is_noticed_and_gone_on_from,
);

async fn nothing_is_missing_or_twice_wherever_it_is_opened_again(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    fill(&client, "app.before", 50, 10).await;
    let start = oplog::start(&deployment).await.unwrap();
    assert_eq!(start.oldest_open, None);
    let mut record = Record::new(start.after);
    let options = LoadOptions { writers: 3, pause: Duration::ZERO, ..LoadOptions::default() };
    let load = Load::start(&client, &options);
    let mut random = Random::new(7);
    let mut abandoned = 0;
    for round in 0..40 {
        let mut tail = Tail::open(&deployment, record.position()).await.unwrap();
        assert_eq!(tail.position(), record.position());
        for _ in 0..random.below(6) {
            let batch = tail.next(WAIT).await.unwrap();
            record.keep(&batch);
            assert_eq!(batch.last().unwrap_or(record.position()), tail.position());
            assert!(
                batch.committed().unwrap() >= tail.position().time,
                "what is not committed must not be given"
            );
            if random.chance(50) {
                tail.recycle(batch);
            }
        }
        match round % 5 {
            0 => fill(&client, &format!("app.large{round}"), 12, 1 << 20).await,
            1 => fill(&client, &format!("app.many{round}"), 3000, 10).await,
            2 => client.database("app").collection::<Document>("before").drop().await.unwrap(),
            // Left in the middle of a request, after which it must not go on as if nothing were lost.
            3 => {
                if tokio::time::timeout(Duration::from_micros(300), tail.next(WAIT)).await.is_err() {
                    let error = tail.next(WAIT).await.unwrap_err();
                    assert!(error.is_transient() && tail.position() == record.position(), "{error}");
                    abandoned += 1;
                }
            }
            _ => tail.close().await.unwrap(),
        }
    }
    assert!(load.stop().await.unwrap() > 0);
    assert!(abandoned > 0, "every request was faster");
    let end = time::majority_now(&deployment).await.unwrap();
    let mut tail = Tail::open(&deployment, record.position()).await.unwrap();
    record.follow(&mut tail, end).await.unwrap();
    record.assert_is_the_oplog(&client).await;
    assert!(record.entries.len() > 24_000, "hardly anything was written: {}", record.entries.len());

    // And from any entry of it the rest is the rest. The server's own entries may have come later.
    let entries = record.until(end);
    for _ in 0..20 {
        let cut = random.below(entries.len());
        let after = oplog::position_of(&entries[cut]).unwrap();
        let mut again = Record::new(after);
        let mut tail = Tail::open(&deployment, after).await.unwrap();
        again.follow(&mut tail, end).await.unwrap();
        assert!(again.until(end) == &entries[cut + 1..], "from {after}");
        tail.close().await.unwrap();
    }
}

async fn a_long_oplog_comes_in_batches_of_a_mebibyte(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let start = oplog::start(&deployment).await.unwrap();
    fill(&client, "app.x", 20_000, 1000).await;
    let end = time::majority_now(&deployment).await.unwrap();
    let mut tail = Tail::open(&deployment, start.after).await.unwrap();
    let mut record = Record::new(start.after);
    let mut sizes = Vec::new();
    while record.position().time < end {
        let batch = tail.next(WAIT).await.unwrap();
        record.keep(&batch);
        assert_eq!(batch.bytes(), batch.entries().map(|(_, entry)| entry.len()).sum::<usize>());
        assert_eq!(batch.len(), batch.entries().count());
        sizes.push(batch.bytes());
        tail.recycle(batch);
    }
    record.assert_is_the_oplog(&client).await;
    // The first is small, because nothing is known yet, and the last is what is left.
    let whole = &sizes[1..sizes.len() - 2];
    assert!(whole.len() >= 15, "{sizes:?}");
    assert!(whole.iter().all(|bytes| (900_000..1_200_000).contains(bytes)), "{sizes:?}");
}

async fn an_idle_server_gives_nothing_and_then_its_heartbeat(version: &str) {
    let options = Options::version(version).set_parameter("periodicNoopIntervalSecs", "1");
    let server = Server::start(options).await.unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    let start = oplog::start(&deployment).await.unwrap();
    let mut tail = Tail::open(&deployment, start.after).await.unwrap();
    let mut record = Record::new(start.after);
    let (mut empty, mut heartbeats) = (0, 0);
    while empty == 0 || heartbeats < 3 {
        let batch = tail.next(Duration::from_millis(50)).await.unwrap();
        empty += usize::from(batch.is_empty());
        for (_, entry) in batch.entries() {
            let entry = bson::RawDocument::from_bytes(entry).unwrap();
            let message = entry.get_document("o").unwrap().get_str("msg").unwrap_or_default();
            heartbeats += usize::from(entry.get_str("op").unwrap() == "n" && message == "periodic noop");
        }
        record.keep(&batch);
    }
    record.assert_is_the_oplog(&server.client().await.unwrap()).await;
}

async fn a_step_down_is_noticed_and_gone_on_from(version: &str) {
    let server = Server::start(Options::version(version).members(3)).await.unwrap();
    let client = server.client().await.unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    let start = oplog::start(&deployment).await.unwrap();
    let mut record = Record::new(start.after);
    let mut end = start.after.time;
    for idle in [false, false, true] {
        record.follow_on(&deployment, end).await;
        // Without one nothing comes any more that could tell.
        let load = (!idle).then(|| Load::start(&client, &LoadOptions::default()));
        let mut tail = Tail::open(&deployment, record.position()).await.unwrap();
        let followed = tail.host().to_owned();
        let stepped_down = server.step_down(60).await.unwrap();
        assert_eq!(server.host_port_of(stepped_down), followed);
        let error = record.until_it_fails(&mut tail).await;
        assert!(matches!(error, Error::NotPrimary { .. }) && error.is_transient(), "{error}");
        assert_eq!(tail.position(), record.position());
        server.primary().await.unwrap();
        // So that somebody can be elected the next time.
        let index = server.index_of(&followed).unwrap();
        let thaw = doc! { "replSetFreeze": 0 };
        server.direct_client(index).await.unwrap().database("admin").run_command(thaw).await.unwrap();
        if let Some(load) = load {
            load.wait_for(50).await;
            load.stop().await.unwrap();
        }
        end = settled(&deployment).await;
    }
    record.follow_on(&deployment, end).await;
    assert!(record.position().term > start.after.term);
    record.assert_is_the_oplog(&client).await;
}

/// A time that is now, however long the election takes.
async fn settled(deployment: &Deployment) -> ClusterTime {
    loop {
        match time::majority_now(deployment).await {
            Ok(now) => return now,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_cursor_that_was_killed_is_lost_and_the_record_is_not() {
    let (_server, client, deployment) = connected("6.0.5").await;
    let start = oplog::start(&deployment).await.unwrap();
    let mut record = Record::new(start.after);
    let mut tail = Tail::open(&deployment, start.after).await.unwrap();
    fill(&client, "app.x", 10, 10).await;
    let first = tail.next(WAIT).await.unwrap();
    assert!(!first.is_empty());
    record.keep(&first);
    let idle = doc! {
        "aggregate": 1, "cursor": {},
        "pipeline": [{ "$currentOp": { "idleCursors": true } }, { "$match": { "type": "idleCursor", "ns": "local.oplog.rs" } }],
    };
    let shown = deployment.run_admin(idle).await.unwrap();
    let cursors = shown.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let ids: Vec<i64> = cursors
        .iter()
        .map(|cursor| cursor.as_document().unwrap().get_document("cursor").unwrap())
        .map(|cursor| cursor.get_i64("cursorId").unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "{shown}");
    deployment.run("local", doc! { "killCursors": "oplog.rs", "cursors": ids }).await.unwrap();
    let error = record.until_it_fails(&mut tail).await;
    assert!(matches!(error, Error::CursorLost { .. }) && error.is_transient(), "{error}");
    assert!(tail.next(WAIT).await.is_err() && tail.position() == record.position());
    let end = time::majority_now(&deployment).await.unwrap();
    record.follow_on(&deployment, end).await;
    record.assert_is_the_oplog(&client).await;
}
