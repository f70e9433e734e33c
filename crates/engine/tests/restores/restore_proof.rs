//! Nobody writes to what lies under staging names without the job noticing: before it is proved, nor after.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bson::{Document, doc};
use model::restore::RestoreState;
use restore_support::{assert_no_staging, damage, data, request, run, server};
use serde_json::json;
use support::{Bench, probe};
use testbed::{Options, data::Set, oracle};

const SETS: [Set; 2] = [Set::Indexes, Set::Ids];

async fn bench() -> Bench {
    let server = server(Options::version("6.0.5"), &SETS).await;
    let uri = server.uri();
    Bench::over(server, &uri).await
}

/// How an intruder writes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Plain,
    InTransaction,
    Emptying,
}

/// Writes to every collection of `ids` that lies under a staging name; how many there are.
async fn intrude(client: &mongodb::Client, manner: Manner) -> usize {
    let db = client.database("ids");
    let names = db.list_collection_names().await.unwrap();
    let staged: Vec<_> = names.into_iter().filter(|name| name.starts_with(mongo::STAGING_PREFIX)).collect();
    for name in &staged {
        let collection = db.collection::<Document>(name);
        match manner {
            Manner::Plain => drop(collection.insert_one(doc! { "_id": "an intruder" }).await.unwrap()),
            Manner::InTransaction => {
                let mut session = client.start_session().await.unwrap();
                session.start_transaction().await.unwrap();
                collection.insert_one(doc! { "_id": "an intruder" }).session(&mut session).await.unwrap();
                session.commit_transaction().await.unwrap();
            }
            Manner::Emptying => drop(collection.delete_many(doc! {}).await.unwrap()),
        }
    }
    staged.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_to_before_it_is_proved_is_loaded_again() {
    let bench = bench().await;
    let wanted = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let (intruded, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let intruding = {
        let (client, intruded, again) = (bench.client.clone(), Arc::clone(&intruded), Arc::clone(&again));
        probe(move |moment, namespace| {
            let first = moment == "restore.collection-loaded" && namespace.starts_with("ids.");
            let first = first && !intruded.swap(true, Ordering::SeqCst);
            again.fetch_or(moment == "restore.load-again" && namespace.starts_with("ids."), Ordering::SeqCst);
            let client = client.clone();
            async move {
                if first {
                    assert!(intrude(&client, Manner::Plain).await > 0);
                }
            }
        })
    };
    let job = run(&bench, id, bench.settings(), Some(intruding)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert!(intruded.load(Ordering::SeqCst) && again.load(Ordering::SeqCst));
    oracle::assert_same(&wanted, &data(&bench.client).await);
    assert_no_staging(&bench.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_to_after_it_was_proved_is_told() {
    for manner in [Manner::Plain, Manner::InTransaction, Manner::Emptying] {
        let bench = bench().await;
        let snapshot = bench.snapshot().await;
        let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
        let intruding = {
            let client = bench.client.clone();
            probe(move |moment, _| {
                let (client, staged) = (client.clone(), moment == "restore.staged");
                async move {
                    if staged {
                        assert!(intrude(&client, manner).await > 0);
                    }
                }
            })
        };
        let job = run(&bench, id, bench.settings(), Some(intruding)).await;
        assert_eq!(job.state, RestoreState::Failed, "{manner:?}");
        let error = job.error.unwrap();
        assert!(error.contains("not equal to the snapshot: ids."), "{manner:?}: {error}");
        assert_no_staging(&bench.client).await;
    }
}

/// Takes the first document of every capped collection that lies under a staging name, and appends it again.
async fn turn(client: &mongodb::Client) -> usize {
    let db = client.database("capped");
    let names = db.list_collection_names().await.unwrap();
    let staged: Vec<_> = names.into_iter().filter(|name| name.starts_with(mongo::STAGING_PREFIX)).collect();
    for name in &staged {
        let collection = db.collection::<Document>(name);
        let Some(first) = collection.find_one(doc! {}).await.unwrap() else { continue };
        collection.delete_one(doc! { "_id": first.get("_id").unwrap() }).await.unwrap();
        collection.insert_one(first).await.unwrap();
    }
    staged.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_of_a_capped_collection_is_proved_before_and_after_the_cut_over() {
    let server = server(Options::version("6.0.5"), &[Set::Capped]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let snapshot = bench.snapshot().await;
    for (moment, told) in [
        ("restore.collection-loaded", "was not loaded as it should be"),
        ("restore.staged", "not equal to the snapshot: capped."),
    ] {
        let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
        let turned = Arc::new(AtomicBool::new(false));
        let turning = {
            let (client, turned) = (bench.client.clone(), Arc::clone(&turned));
            probe(move |now, _| {
                let (client, turned) = (client.clone(), Arc::clone(&turned));
                async move {
                    if now == moment && !turned.load(Ordering::SeqCst) {
                        turned.store(turn(&client).await > 0, Ordering::SeqCst);
                    }
                }
            })
        };
        let job = run(&bench, id, bench.settings(), Some(turning)).await;
        assert!(turned.load(Ordering::SeqCst));
        assert_eq!(job.state, RestoreState::Failed, "{moment}");
        let error = job.error.unwrap();
        assert!(error.contains(told) && error.contains("another order"), "{moment}: {error}");
    }
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let job = run(&bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let receipt = job.receipt.unwrap();
    for line in receipt["perCollection"].as_array().unwrap() {
        assert_eq!(line["sequenceHash"].as_str().map(str::len), Some(64), "{line}");
    }
}
