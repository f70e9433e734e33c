//! Where a record cannot go on, and why.

use bson::{rawdoc, spec::BinarySubtype};
use mongo::{
    ClusterTime, Error,
    oplog::{self, Position, Tail},
    time,
};
use testbed::{Options, Server};

use super::{
    record::{Record, WAIT},
    support::{connect, connected, fill, on_each_version, said},
};

on_each_version!(
    an_entry_that_is_not_there_was_rolled_back,
    entries_that_are_gone_are_told_at_open_and_under_an_open_tail,
);

async fn an_entry_that_is_not_there_was_rolled_back(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    fill(&client, "app.x", 10, 10).await;
    let after = oplog::start(&deployment).await.unwrap().after;
    let window = oplog::window(&deployment).await.unwrap();
    assert!(window.oldest.time < after.time && window.newest.time >= after.time);
    fill(&client, "app.y", 10, 10).await;
    let at = |time: u32, increment: u32, term: i64| Position { time: ClusterTime { time, increment }, term };
    let ClusterTime { time, increment } = after.time;
    for absent in [
        Position { term: after.term + 1, ..after },
        Position { term: after.term - 1, ..after },
        Position { term: -1, ..after },
        // Between two entries: the first second of a deployment has but a few.
        at(window.oldest.time.time, 100_000, window.oldest.term),
        // Later than anything that was written, by a little and by a lot.
        at(time + 3600, 1, after.term),
        at(u32::MAX, increment, after.term),
    ] {
        let (error, text) = said(Tail::open(&deployment, absent).await);
        assert!(
            matches!(error, Error::RolledBack { after, .. } if after == absent) && !error.is_transient(),
            "{text}"
        );
        assert!(text.contains(&absent.to_string()), "{text}");
    }
    // None of them is in the way of the one that is there, nor is the first entry of all.
    for there in [after, window.oldest] {
        let mut record = Record::new(there);
        let end = time::majority_now(&deployment).await.unwrap();
        let mut tail = Tail::open(&deployment, there).await.unwrap();
        record.follow(&mut tail, end).await.unwrap();
        record.assert_is_the_oplog(&client).await;
    }
}

async fn entries_that_are_gone_are_told_at_open_and_under_an_open_tail(version: &str) {
    // The server truncates in its own time, and never behind its last checkpoint.
    let arguments = vec!["--syncdelay".to_owned(), "1".to_owned()];
    let options = Options { oplog_mb: Some(1), arguments, ..Options::version(version) };
    let server = Server::start(options).await.unwrap();
    let client = server.client().await.unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    let after = oplog::start(&deployment).await.unwrap().after;
    let mut tail = Tail::open(&deployment, after).await.unwrap();
    let window = oplog::window(&deployment).await.unwrap();
    assert_eq!(window.bytes_max, 1 << 20);
    assert!(window.percent_behind(after.time) < 50, "{window:?}");
    // What has to come next, whatever comes.
    fill(&client, "app.first", 1, 10).await;
    let next = tail.next(WAIT).await.unwrap();
    let mut tail_at_start = Tail::open(&deployment, after).await.unwrap();
    let gone = loop {
        fill(&client, "app.x", 2000, 1000).await;
        client.database("app").collection::<bson::Document>("x").drop().await.unwrap();
        match Tail::open(&deployment, after).await {
            Ok(tail) => tail.close().await.unwrap(),
            // The oplog was cut under the search itself.
            Err(error) if error.is_transient() => {}
            Err(error) => break error,
        }
    };
    let is_gone = |error: &Error, wanted: Position| match error {
        Error::RolledOver { after, oldest } => *after == wanted && oldest.time > wanted.time,
        _ => false,
    };
    assert!(is_gone(&gone, after) && !gone.is_transient(), "{gone}");

    // One that waited at the end for what came next, and one that was opened and not read yet. What they gave before
    // they say so has to be what followed.
    let mut record = Record::new(tail.position());
    assert_eq!(Some(tail.position()), next.last());
    let error = record.until_it_fails(&mut tail).await;
    assert!(is_gone(&error, record.position()), "{error}");
    let mut record = Record::new(after);
    let error = record.until_it_fails(&mut tail_at_start).await;
    assert!(is_gone(&error, record.position()), "{error}");
    let first: Vec<_> = next.entries().map(|(_, entry)| entry.to_vec()).collect();
    assert!(record.entries.starts_with(&first) || first.starts_with(&record.entries));

    // A full oplog, and a record that begins anew.
    let window = oplog::window(&deployment).await.unwrap();
    assert_eq!(window.percent_behind(after.time), 100);
    assert!(window.percent_behind(window.newest.time) == 0);
    loop {
        let begun = async {
            let after = oplog::start(&deployment).await?.after;
            Tail::open(&deployment, after).await?.next(WAIT).await
        };
        match begun.await {
            Ok(_) => break,
            Err(error) => {
                assert!(matches!(error, Error::RolledOver { .. }) || error.is_transient(), "{error}")
            }
        }
    }
    let facts = deployment.facts().await.unwrap();
    assert_eq!(facts.oplog_bytes_max, window.bytes_max);
    assert_eq!(facts.replica_set_id, mongo::facts::replica_set_id(&deployment).await.unwrap());
}

/// No server forgets what an open transaction needs, so one is made up.
#[tokio::test]
async fn a_transaction_older_than_the_oplog_is_told() {
    let (_server, _client, deployment) = connected("6.0.5").await;
    let began = ClusterTime { time: 5, increment: 1 };
    let binary = |subtype, length| bson::Binary { subtype, bytes: vec![1; length] };
    let open = rawdoc! {
        "_id": { "id": binary(BinarySubtype::Uuid, 16), "uid": binary(BinarySubtype::Generic, 32) },
        "txnNum": 1_i64, "state": "prepared",
        "startOpTime": { "ts": began, "t": 1_i64 }, "lastWriteOpTime": { "ts": began, "t": 1_i64 },
        "lastWriteDate": bson::DateTime::now(),
    };
    // The driver would do so in a session, which the server refuses.
    let mut wire = deployment.primary_wire().await.unwrap();
    let insert = rawdoc! { "insert": "transactions", "$db": "config", "documents": [open] };
    assert_eq!(wire.command(&insert).await.unwrap().get_i32("n").unwrap(), 1);
    let (error, text) = said(oplog::start(&deployment).await);
    let oldest = oplog::window(&deployment).await.unwrap().oldest.time;
    assert!(
        matches!(error, Error::TransactionCut { began: told, oldest: first } if told == began && first == oldest),
        "{text}"
    );
}
