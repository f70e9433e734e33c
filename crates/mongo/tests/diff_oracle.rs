//! `history::diff` against real servers: random documents and diffs, applied by us and by a `mongod`.
//!
//! `EBBTIDE_DIFF_CASES` sets how many cases each server gets, 20,000 by default.
#![allow(clippy::unwrap_used)]

// Everybody else knows the crate by its short name.
extern crate ebbtide_mongo as mongo;

use std::collections::BTreeMap;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use history::{
    diff::{self, Fit},
    samples::{self, Random},
};
use mongo::{ConnectOptions, Deployment, Uri, wire::Connection};
use testbed::{Options, Server};

const CASES_VARIABLE: &str = "EBBTIDE_DIFF_CASES";
const CASES: usize = 20_000;
const BATCH: usize = 1_000;
/// Share of the changes that do not fit the document, in every second diff.
const LOOSE_PERCENT: usize = 15;

/// How a server is made to apply a diff.
#[derive(Clone, Copy)]
enum Way {
    /// As the stage of an update, which only 6.0 has.
    Stage,
    /// As an operation of `applyOps`.
    ApplyOps,
}

#[tokio::test]
async fn on_6_0_5() {
    compare("6.0.5", Way::Stage).await;
}

#[tokio::test]
async fn on_5_0_4() {
    compare("5.0.4", Way::ApplyOps).await;
}

struct Case {
    before: Vec<u8>,
    diff: Vec<u8>,
    expected: Vec<u8>,
}

impl Case {
    /// One in three is the difference of two documents in the form that servers log; the others are made up.
    fn random(seed: u64, id: i32) -> Self {
        let mut random = Random::new(seed);
        let before = samples::random_document(&mut random, id);
        let diff = match seed % 3 {
            0 => {
                let after = samples::edited(&mut random, &before);
                samples::diff_between(&before, &after)
                    .unwrap_or_else(|| samples::random_diff(&mut random, &before, 0))
            }
            1 => samples::random_diff(&mut random, &before, 0),
            _ => samples::random_diff(&mut random, &before, LOOSE_PERCENT),
        };
        let mut expected = Vec::new();
        let fit = diff::apply(&before, &diff, &mut expected).unwrap();
        assert!(fit == Fit::Exact || seed % 3 == 2, "seed {seed}: {fit:?}");
        Self { before, diff, expected }
    }

    fn oplog_update(&self) -> RawDocumentBuf {
        rawdoc! { "$v": 2, "diff": raw(&self.diff) }
    }
}

fn raw(bytes: &[u8]) -> RawDocumentBuf {
    RawDocumentBuf::from_bytes(bytes.to_vec()).unwrap()
}

async fn compare(version: &str, way: Way) {
    let cases = std::env::var(CASES_VARIABLE).map_or(CASES, |cases| cases.parse().unwrap());
    let server = Server::start(Options::version(version)).await.unwrap();
    let deployment =
        Deployment::connect(&Uri::parse(&server.uri()).unwrap(), &ConnectOptions::default()).await.unwrap();
    let mut connection = deployment.primary_wire().await.unwrap();
    for first in (0..cases).step_by(BATCH) {
        let batch: Vec<Case> =
            (first..cases.min(first + BATCH)).map(|seed| Case::random(seed as u64, seed as i32)).collect();
        compare_batch(&mut connection, way, first, &batch).await;
    }
    println!("{version}: {cases} cases are equal");
}

async fn compare_batch(connection: &mut Connection, way: Way, first: usize, batch: &[Case]) {
    let documents: RawArrayBuf = batch.iter().map(|case| raw(&case.before)).collect();
    run(connection, &rawdoc! { "insert": "c", "$db": "oracle", "documents": documents }).await;
    match way {
        Way::Stage => {
            let updates: RawArrayBuf = (first..)
                .zip(batch)
                .map(|(id, case)| {
                    rawdoc! {
                        "q": { "_id": id as i32 },
                        "u": [{ "$_internalApplyOplogUpdate": { "oplogUpdate": case.oplog_update() } }],
                    }
                })
                .collect();
            run(connection, &rawdoc! { "update": "c", "$db": "oracle", "updates": updates }).await;
        }
        Way::ApplyOps => {
            let operations: RawArrayBuf = (first..).zip(batch).map(|(id, case)| {
                rawdoc! { "op": "u", "ns": "oracle.c", "o2": { "_id": id as i32 }, "o": case.oplog_update() }
            }).collect();
            let command = rawdoc! { "applyOps": operations, "alwaysUpsert": false, "allowAtomic": false, "$db": "admin" };
            run(connection, &command).await;
        }
    }
    let after = read_all(connection).await;
    assert_eq!(after.len(), batch.len());
    for (id, case) in (first..).zip(batch) {
        let theirs = &after[&(id as i32)];
        assert!(
            theirs == &case.expected,
            "seed {id}:\nbefore {:?}\ndiff   {:?}\nours   {:?}\ntheirs {:?}",
            raw(&case.before),
            raw(&case.diff),
            raw(&case.expected),
            raw(theirs)
        );
    }
    run(connection, &rawdoc! { "drop": "c", "$db": "oracle" }).await;
}

async fn run(connection: &mut Connection, command: &RawDocument) {
    let reply = connection.command(command).await.unwrap();
    assert!(reply.get("writeErrors").unwrap().is_none(), "{reply:?}");
}

async fn read_all(connection: &mut Connection) -> BTreeMap<i32, Vec<u8>> {
    let mut documents = BTreeMap::new();
    let mut command = rawdoc! { "find": "c", "$db": "oracle", "batchSize": BATCH as i32 };
    loop {
        let cursor = connection.command(&command).await.unwrap().get_document("cursor").unwrap();
        for name in ["firstBatch", "nextBatch"] {
            for document in cursor.get_array(name).into_iter().flatten() {
                let document = document.unwrap().as_document().unwrap();
                documents.insert(document.get_i32("_id").unwrap(), document.as_bytes().to_vec());
            }
        }
        match cursor.get_i64("id").unwrap() {
            0 => return documents,
            id => command = rawdoc! { "getMore": id, "collection": "c", "$db": "oracle" },
        }
    }
}
