//! The fold against real servers: a random workload, and the folded state at many of its cluster times against what a
//! snapshot read gives at that time.
//!
//! `EBBTIDE_FOLD_STEPS` sets how many steps the workload has (1,000 by default), `EBBTIDE_FOLD_SEED` which it is.
#![allow(clippy::unwrap_used)]

// Everybody else knows the crate by its short name.
extern crate ebbtide_mongo as mongo;

mod compare;
#[path = "../../../history/tests/support/timeline.rs"]
mod timeline;
mod workload;

use mongo::{ConnectOptions, Deployment, Uri};
use testbed::{Options, Server};
use timeline::Timeline;

const DATABASE: &str = "w";
/// Cluster times that are compared, at most.
const TIMES_MAX: usize = 200;

#[tokio::test]
async fn on_6_0_5() {
    compare_at_many_times("6.0.5").await;
}

#[tokio::test]
async fn on_5_0_4() {
    compare_at_many_times("5.0.4").await;
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

async fn compare_at_many_times(version: &str) {
    let (steps, seed) = (number("EBBTIDE_FOLD_STEPS", 1000), number("EBBTIDE_FOLD_SEED", 1));
    let options = Options::version(version)
        .set_parameter("minSnapshotHistoryWindowInSeconds", "3600")
        .set_parameter("ttlMonitorEnabled", "false")
        // Small transactions are split into several entries, and clients may prepare one.
        .set_parameter("maxNumberOfTransactionOperationsInSingleOplogEntry", "3")
        .set_parameter("enableTestCommands", "1");
    let server = Server::start(options).await.unwrap();
    let deployment =
        Deployment::connect(&Uri::parse(&server.uri()).unwrap(), &ConnectOptions::default()).await.unwrap();
    let mut connection = deployment.primary_wire().await.unwrap();
    let start = mongo::time::majority_now(&deployment).await.unwrap();
    workload::run(&mut connection, seed, steps).await;
    mongo::time::majority_now(&deployment).await.unwrap();

    let entries = compare::oplog_since(&mut connection, start).await;
    let kinds = compare::kinds(&entries);
    let every = entries.len().div_ceil(TIMES_MAX);
    let mut timeline = Timeline::default();
    let (mut times, mut documents) = (0, 0);
    for (n, entry) in entries.iter().enumerate() {
        timeline.entry(entry, None);
        if n % every == 0 {
            let at = compare::time_of(entry);
            timeline.fold();
            let mut then = timeline.clone();
            // What was prepared before this time may commit as of before it.
            let mut later = entries[n + 1..].iter();
            while then.assembler.undecided_at(at).is_some() {
                then.entry(later.next().unwrap(), Some(at));
            }
            then.fold();
            documents += compare::documents_at(&mut connection, &then, at).await;
            times += 1;
        }
    }
    timeline.fold();
    compare::everything_now(&mut connection, &timeline).await;
    println!(
        "{version}: {} entries, {times} times, {documents} documents compared; {kinds:?}",
        entries.len()
    );
    for kind in ["i", "u", "d", "partialTxn", "commitTransaction", "renameCollection", "collMod"] {
        assert!(kinds.contains_key(kind), "no {kind} in the workload");
    }
    assert!(documents > times, "hardly anything was compared");
}
