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

use history::ClusterTime;
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
    let mut earlier: Option<(ClusterTime, usize, Timeline)> = None;
    let (mut times, mut documents) = (0, 0);
    for (n, entry) in entries.iter().enumerate() {
        timeline.entry(entry, |_| true);
        if n % every != 0 {
            continue;
        }
        let at = compare::time_of(entry);
        timeline.fold();
        let mut then = timeline.clone();
        finish(&mut then, &entries[n + 1..], at, |time| time <= at);
        documents += compare::documents_at(&mut connection, &then, at).await;
        // From a base in between, with the transactions that were open then, it comes to the same.
        if let Some((base_at, base_n, base)) = &earlier {
            let mut grown = base.clone();
            let counts = |time| *base_at < time && time <= at;
            entries[base_n + 1..=n].iter().for_each(|entry| grown.entry(entry, counts));
            finish(&mut grown, &entries[n + 1..], at, counts);
            assert!(grown.base == then.base && grown.catalog == then.catalog, "from {base_at} to {at}");
        }
        if times % 7 == 0 {
            then.assembler = timeline.assembler.clone();
            earlier = Some((at, n, then));
        }
        times += 1;
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

/// Folds up to `at`: what was prepared before may commit as of before it.
fn finish(timeline: &mut Timeline, later: &[Vec<u8>], at: ClusterTime, counts: impl Fn(ClusterTime) -> bool) {
    let mut later = later.iter();
    while timeline.assembler.undecided_at(at).is_some() {
        timeline.entry(later.next().unwrap(), &counts);
    }
    timeline.fold();
}
