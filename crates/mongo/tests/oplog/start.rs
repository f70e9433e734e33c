//! Where a record begins while transactions are open.

use bson::{Binary, RawDocumentBuf, Timestamp, doc, raw::cstr, rawdoc, spec::BinarySubtype};
use futures::TryStreamExt as _;
use mongo::{
    ClusterTime, Deployment,
    oplog::{self, Position, Tail},
    time,
    wire::Connection,
};
use testbed::{Options, Server};

use super::{
    record::Record,
    support::{connect, fill, on_each_version},
};

on_each_version!(
    a_prepared_transaction_is_begun_before,
    of_several_the_oldest_counts_and_those_that_ended_meanwhile_too,
    a_large_transaction_that_commits_later_comes_whole,
);

/// Small transactions have several entries, and clients may prepare one.
async fn server(version: &str) -> (Server, mongodb::Client, Deployment) {
    let options = Options::version(version)
        .set_parameter("maxNumberOfTransactionOperationsInSingleOplogEntry", "3")
        .set_parameter("enableTestCommands", "1");
    let server = Server::start(options).await.unwrap();
    let client = server.client().await.unwrap();
    fill(&client, "app.x", 10, 10).await;
    let deployment = connect(&server.uri()).await.unwrap();
    (server, client, deployment)
}

/// A transaction by hand.
struct Transaction {
    connection: Connection,
    session: u8,
}

impl Transaction {
    async fn begin(deployment: &Deployment, session: u8, operations: i32) -> Self {
        let mut transaction = Self { connection: deployment.primary_wire().await.unwrap(), session };
        for n in 0..operations {
            let id = 1000 * (i32::from(session) + 1) + n;
            let mut insert = rawdoc! { "insert": "x", "$db": "app", "documents": [{ "_id": id }] };
            if n == 0 {
                insert.append(cstr!("startTransaction"), true);
            }
            transaction.send(insert).await;
        }
        transaction
    }

    async fn send(&mut self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![self.session; 16] };
        command.append(cstr!("lsid"), rawdoc! { "id": id });
        command.append(cstr!("txnNumber"), 1_i64);
        command.append(cstr!("autocommit"), false);
        self.connection.command(&command).await.unwrap().to_owned()
    }

    async fn prepare(&mut self) -> Timestamp {
        let reply = self.send(rawdoc! { "prepareTransaction": 1, "$db": "admin" }).await;
        reply.get_timestamp("prepareTimestamp").unwrap()
    }

    async fn commit(&mut self, prepared: Option<Timestamp>) {
        let mut commit = rawdoc! { "commitTransaction": 1, "$db": "admin" };
        if let Some(prepared) = prepared {
            commit.append(cstr!("commitTimestamp"), prepared);
        }
        self.send(commit).await;
    }

    async fn abort(&mut self) {
        self.send(rawdoc! { "abortTransaction": 1, "$db": "admin" }).await;
    }
}

/// By a plain find: the entry before the first entry of the transaction, and that one's time.
async fn around(client: &mongodb::Client, session: u8) -> (Position, ClusterTime) {
    let oplog = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let entries: Vec<RawDocumentBuf> = oplog.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let id = vec![session; 16];
    let is_its = |entry: &RawDocumentBuf| {
        entry.get_document("lsid").is_ok_and(|lsid| lsid.get_binary("id").unwrap().bytes == id)
    };
    let first = entries.iter().position(is_its).unwrap();
    let position = |n: usize| oplog::position_of(entries[n].as_bytes()).unwrap();
    (position(first - 1), position(first).time)
}

async fn a_prepared_transaction_is_begun_before(version: &str) {
    let (_server, client, deployment) = server(version).await;
    let mut transaction = Transaction::begin(&deployment, 1, 7).await;
    let prepared = transaction.prepare().await;
    // Long enough ago that its neighbour is not of the same second.
    fill(&client, "app.y", 100, 10).await;
    let start = oplog::start(&deployment).await.unwrap();
    let (before, began) = around(&client, 1).await;
    assert_eq!(start, oplog::Start { after: before, oldest_open: Some(began) });
    assert!(began < prepared, "it has several entries");

    transaction.commit(Some(prepared)).await;
    let end = time::majority_now(&deployment).await.unwrap();
    let mut record = Record::new(start.after);
    record.follow(&mut Tail::open(&deployment, start.after).await.unwrap(), end).await.unwrap();
    record.assert_is_the_oplog(&client).await;
    let of_it = |entry: &&Vec<u8>| {
        let entry = bson::RawDocument::from_bytes(entry).unwrap();
        entry.get("lsid").unwrap().is_some() && entry.get_str("op").unwrap() == "c"
    };
    // Three entries of up to three operations, and the one that says that it is committed.
    assert_eq!(record.entries.iter().filter(of_it).count(), 4);

    // It has ended: the next record begins now.
    let later = oplog::start(&deployment).await.unwrap();
    assert_eq!(later.oldest_open, None);
    assert!(record.position().precedes(later.after));
}

async fn of_several_the_oldest_counts_and_those_that_ended_meanwhile_too(version: &str) {
    let (_server, client, deployment) = server(version).await;
    let mut first = Transaction::begin(&deployment, 1, 7).await;
    let mut second = Transaction::begin(&deployment, 2, 1).await;
    let mut third = Transaction::begin(&deployment, 3, 4).await;
    let first_prepared = first.prepare().await;
    second.prepare().await;
    let between = time::majority_now(&deployment).await.unwrap();
    third.prepare().await;
    let (before, began) = around(&client, 1).await;
    let start = oplog::start(&deployment).await.unwrap();
    assert_eq!(start, oplog::Start { after: before, oldest_open: Some(began) });

    // Ended after the time that is asked for, so the server's table shows it no more.
    let mut connection = deployment.primary_wire().await.unwrap();
    first.commit(Some(first_prepared)).await;
    assert_eq!(oplog::oldest_open_at(&mut connection, between).await.unwrap(), Some(began));
    second.abort().await;
    assert_eq!(oplog::oldest_open_at(&mut connection, between).await.unwrap(), Some(began));
    let (third_before, third_began) = around(&client, 3).await;
    let start = oplog::start(&deployment).await.unwrap();
    assert_eq!(start, oplog::Start { after: third_before, oldest_open: Some(third_began) });
    third.abort().await;
    assert_eq!(oplog::oldest_open_at(&mut connection, between).await.unwrap(), Some(began));
    assert_eq!(oplog::start(&deployment).await.unwrap().oldest_open, None);
    // Begun after the time that is asked for.
    assert_eq!(oplog::oldest_open_at(&mut connection, before.time).await.unwrap(), None);
}

async fn a_large_transaction_that_commits_later_comes_whole(version: &str) {
    let (_server, client, deployment) = server(version).await;
    let mut transaction = Transaction::begin(&deployment, 1, 20).await;
    let start = oplog::start(&deployment).await.unwrap();
    assert_eq!(start.oldest_open, None);
    transaction.commit(None).await;
    let (_, began) = around(&client, 1).await;
    assert!(start.after.time < began);
    let end = time::majority_now(&deployment).await.unwrap();
    let mut record = Record::new(start.after);
    record.follow(&mut Tail::open(&deployment, start.after).await.unwrap(), end).await.unwrap();
    record.assert_is_the_oplog(&client).await;
    let parts = record.entries.iter().filter(|entry| {
        let entry = bson::RawDocument::from_bytes(entry).unwrap();
        entry.get_document("o").unwrap().get("applyOps").unwrap().is_some()
    });
    assert_eq!(parts.count(), 7);
}
