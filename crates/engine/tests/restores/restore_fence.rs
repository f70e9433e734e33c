//! Keeping others out during the cut-over, with accounts that may do just what is documented.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use model::restore::RestoreState;
use mongo::privileges::{Purpose, role_definition};
use restore_support::{assert_no_staging, damage, data, register, request, restore, run};
use serde_json::json;
use support::{Bench, probe};
use testbed::{Options, Server, data::Set, oracle};

const SETS: [Set; 7] =
    [Set::Indexes, Set::Views, Set::Bulk, Set::TimeSeries, Set::SystemJs, Set::Clustered, Set::Principals];

/// A server with data, an account with the documented role for backups, and one for restores.
async fn with_accounts(version: &str, purpose: Purpose) -> (Bench, model::id::DeploymentId) {
    let server = Server::start(Options::version(version).with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &SETS).await.unwrap();
    let admin = client.database("admin");
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    let version = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    for (user, purpose) in [("backup", Purpose::Backup), ("restore", purpose)] {
        admin.run_command(role_definition(purpose, version)).await.unwrap();
        admin
            .run_command(doc! {"createUser": user, "pwd": "secret", "roles": [purpose.role()]})
            .await
            .unwrap();
    }
    let [backup, restore] = ["backup", "restore"].map(|user| server.uri_for(user, "secret"));
    let bench = Bench::over(server, &backup).await;
    let target = register(&bench, "target", &restore).await;
    (bench, target)
}

async fn block(bench: &Bench) -> i64 {
    let status = bench.server.admin(doc! {"serverStatus": 1}).await.unwrap();
    support::number(status.get_document("repl").unwrap().get("userWriteBlockMode").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_documented_role_is_enough_and_the_block_is_lifted() {
    for (version, purpose) in
        [("6.0.5", Purpose::Restore), ("5.0.4", Purpose::Restore), ("6.0.27", Purpose::RestoreUsers)]
    {
        let (bench, target) = with_accounts(version, purpose).await;
        let before = oracle::state(&bench.client).await.unwrap();
        let snapshot = bench.snapshot().await;
        damage(&bench.client).await;
        let options = json!({"withUsers": purpose == Purpose::RestoreUsers});
        let job = restore(&bench, &snapshot, target, options).await;
        oracle::assert_same(&before, &oracle::state(&bench.client).await.unwrap());
        assert_no_staging(&bench.client).await;
        let receipt = job.receipt.unwrap();
        if version.starts_with('6') {
            assert_eq!(receipt["fence"]["state"], "raised", "{receipt:#}");
            assert_eq!(block(&bench).await, 1, "lifted");
        } else {
            assert_eq!(receipt["fence"]["state"], "none", "{receipt:#}");
        }
        assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
        let in_place = restore(&bench, &snapshot, target, json!({"inPlace": true})).await;
        oracle::assert_same(&before, &oracle::state(&bench.client).await.unwrap());
        assert_eq!(in_place.receipt.unwrap()["foreignWrites"]["count"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_block_that_was_on_before_stays_on() {
    let (bench, target) = with_accounts("6.0.5", Purpose::Restore).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    bench.server.admin(doc! {"setUserWriteBlockMode": 1, "global": true}).await.unwrap();
    let job = restore(&bench, &snapshot, target, json!({})).await;
    assert_eq!(job.receipt.unwrap()["fence"]["state"], "alreadyOn");
    assert_eq!(block(&bench).await, 2, "somebody else's block is not ours to lift");
    bench.server.admin(doc! {"setUserWriteBlockMode": 1, "global": false}).await.unwrap();
    oracle::assert_same(&before, &data(&bench.client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_may_write_through_the_block_is_told_of() {
    let (bench, target) = with_accounts("6.0.5", Purpose::Restore).await;
    let snapshot = bench.snapshot().await;
    let root = bench.client.clone();
    let writing = probe(move |moment, _| {
        let root = root.clone();
        async move {
            match moment {
                // Lost with the collection that it went to, but somebody ought to know.
                "restore.fenced" => {
                    root.database("bulk")
                        .collection("written_too_early")
                        .insert_one(doc! {"_id": 1})
                        .await
                        .unwrap();
                }
                "restore.switched" => {
                    let name = root.database("bulk").list_collection_names().await.unwrap().remove(0);
                    root.database("bulk")
                        .collection::<Document>(&name)
                        .insert_one(doc! {"_id": "bypass"})
                        .await
                        .unwrap();
                }
                _ => {}
            }
        }
    });
    let id = request(&bench, &snapshot, target, json!({})).await;
    let job = run(&bench, id, bench.settings(), Some(writing)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let receipt = job.receipt.unwrap();
    assert!(receipt["foreignWrites"]["count"].as_u64().unwrap() >= 2, "{receipt:#}");
    let told = receipt["foreignWrites"]["first"].to_string();
    assert!(told.contains("bulk.written_too_early"), "{told}");
    let changed: Vec<_> = receipt["perCollection"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["changedByOthers"] == true)
        .collect();
    assert_eq!(changed.len(), 1, "{changed:#?}");
    assert_eq!(block(&bench).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_that_lacks_privileges_is_told_which_and_what_to_run() {
    let (bench, _) = with_accounts("6.0.5", Purpose::Restore).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let error = run(&bench, id, bench.settings(), None).await.error.unwrap();
    assert!(error.contains("createRole") && error.contains("nothing was changed"), "{error}");
    oracle::assert_same(&before, &data(&bench.client).await);
}

/// The block waits for transactions that are open. One that commits meanwhile is a part of what is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_that_is_open_at_the_fence_is_waited_for() {
    let (bench, target) = with_accounts("6.0.5", Purpose::Restore).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let committed = Arc::new(AtomicBool::new(false));
    let transacting = {
        let (client, committed) = (bench.client.clone(), Arc::clone(&committed));
        probe(move |moment, _| {
            let (client, committed) = (client.clone(), Arc::clone(&committed));
            async move {
                if moment == "restore.fenced" {
                    assert!(
                        committed.load(Ordering::SeqCst),
                        "the block was raised beside an open transaction"
                    );
                }
                if moment != "restore.staged" {
                    return;
                }
                let mut session = client.start_session().await.unwrap();
                session.start_transaction().await.unwrap();
                let notes = client.database("views").collection::<Document>("in_a_transaction");
                notes.insert_one(doc! {"_id": 1}).session(&mut session).await.unwrap();
                // Longer than it takes to come to the fence.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    session.commit_transaction().await.unwrap();
                    committed.store(true, Ordering::SeqCst);
                });
            }
        })
    };
    let id = request(&bench, &snapshot, target, json!({})).await;
    let job = run(&bench, id, bench.settings(), Some(transacting)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    assert!(committed.load(Ordering::SeqCst));
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["fence"]["state"], "raised", "{receipt:#}");
    assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
    oracle::assert_same(&before, &data(&bench.client).await);
    assert_eq!(block(&bench).await, 1, "lifted");
}
