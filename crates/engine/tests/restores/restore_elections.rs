//! Elections, rollbacks and members that are down while a restore runs.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bson::Bson;
use ebbtide_engine::engine::Probe;
use model::restore::RestoreState;
use restore_support::{assert_no_staging, data, request, run};
use serde_json::json;
use support::{Bench, documents, probe};
use testbed::{Options, Server, data::Set, oracle};

/// A set of three with a collection that takes a while to load, and a snapshot of it.
async fn scene() -> (Arc<Bench>, catalog::Snapshot, oracle::State) {
    let server = Server::start(Options::version("6.0.5").members(3)).await.unwrap();
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    testbed::data::load(&bench.client, 7, &[Set::Views, Set::TimeSeries]).await.unwrap();
    bench.fill("app", "large", documents(60_000, 1_000, |n| Bson::Int64(n as i64))).await;
    bench.fill("app", "small", documents(500, 100, |n| Bson::Int64(n as i64))).await;
    let index = bson::doc! {"createIndexes": "large", "indexes": [{"key": {"n": 1}, "name": "n_1"}]};
    bench.client.database("app").run_command(index).await.unwrap();
    let snapshot = bench.snapshot().await;
    let wanted = data(&bench.client).await;
    bench.client.database("views").drop().await.unwrap();
    bench.fill("extra", "later", documents(5, 100, |n| Bson::Int64(n as i64))).await;
    (Arc::new(bench), snapshot, wanted)
}

/// A probe that does something once, at the first such moment.
fn once<F>(at: &'static str, act: impl Fn() -> F + Send + Sync + 'static) -> Probe
where
    F: Future<Output = ()> + Send + 'static,
{
    let (done, act) = (Arc::new(AtomicBool::new(false)), Arc::new(act));
    probe(move |moment, _| {
        let first = moment == at && !done.swap(true, Ordering::SeqCst);
        let act = Arc::clone(&act);
        async move {
            if first {
                act().await;
            }
        }
    })
}

/// The others hear of nothing that the primary writes from now on; then it dies, and they elect one of themselves.
async fn cut_off_the_primary(bench: Arc<Bench>) {
    let primary = bench.server.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    for member in &others {
        bench.server.pause(*member).await.unwrap();
    }
    // Beside the job, which goes on to write.
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        bench.server.kill(primary).await.unwrap();
        for member in &others {
            bench.server.resume(*member).await.unwrap();
        }
        bench.server.primary().await.unwrap();
        bench.server.restart(primary).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_rollback_takes_away_is_loaded_again() {
    let (bench, snapshot, wanted) = scene().await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let again = Arc::new(AtomicBool::new(false));
    let losing = {
        let (bench, again, paused) =
            (Arc::clone(&bench), Arc::clone(&again), Arc::new(AtomicBool::new(false)));
        probe(move |moment, namespace| {
            let first = moment == "restore.segment-loaded"
                && namespace == "app.large"
                && !paused.swap(true, Ordering::SeqCst);
            again.fetch_or(moment == "restore.load-again" && namespace == "app.large", Ordering::SeqCst);
            let bench = Arc::clone(&bench);
            async move {
                if first {
                    cut_off_the_primary(bench).await;
                }
            }
        })
    };
    let job = run(&bench, id, bench.settings(), Some(losing)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert!(again.load(Ordering::SeqCst), "the load met the election");
    bench.server.wait_for_members().await.unwrap();
    oracle::assert_same(&wanted, &data(&bench.client).await);
    assert_no_staging(&bench.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_election_in_the_cut_over_is_survived() {
    let (bench, snapshot, wanted) = scene().await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let stepping = Arc::clone(&bench);
    let down = once("restore.fenced", move || {
        let bench = Arc::clone(&stepping);
        async move {
            bench.server.step_down(60).await.unwrap();
        }
    });
    let job = run(&bench, id, bench.settings(), Some(down)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    oracle::assert_same(&wanted, &data(&bench.client).await);
    assert_no_staging(&bench.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_holds_up_an_index_build_is_named() {
    let (bench, snapshot, wanted) = scene().await;
    let changed = data(&bench.client).await;
    let primary = bench.server.primary().await.unwrap();
    let down = (primary + 1) % 3;
    let host = bench.server.host_port_of(down);
    bench.server.stop(down).await.unwrap();

    let options = json!({"indexCommitQuorum": "votingMembers", "indexDeadlineSeconds": 6});
    let id = request(&bench, &snapshot, bench.deployment, options).await;
    let job = run(&bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Failed);
    let error = job.error.unwrap();
    assert!(error.contains(&host) && error.contains("indexCommitQuorum"), "{error}");
    assert_no_staging(&bench.client).await;
    oracle::assert_same(&changed, &data(&bench.client).await);

    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let job = run(&bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Finished, "a majority is enough: {:?}", job.error);
    oracle::assert_same(&wanted, &data(&bench.client).await);
}
