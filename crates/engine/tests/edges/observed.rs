//! What jobs see of deployments is kept, and told.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use bson::Bson;
use catalog::{DeploymentFacts, NewDeployment, Sealed};
use ebbtide_engine::{connect::URI_PURPOSE, engine::wall_clock};
use model::{id::RestoreJobId, restore::RestoreState, snapshot::SnapshotState};
use restore_support::{register, restore, run};
use serde_json::json;
use support::{Bench, documents};
use testbed::{Options, Server, disguise::Disguise};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upgrade_is_noticed_by_the_next_job() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let other = Server::start(Options::version("6.0.5")).await.unwrap();
    let target = register(&bench, "target", &other.uri()).await;
    let deployments = bench.catalog.deployments();
    let before = DeploymentFacts { mongodb_version: Some("5.0.4".to_owned()), ..DeploymentFacts::default() };
    for id in [bench.deployment, target] {
        deployments.update_facts(id, &before).await.unwrap();
    }
    let seen = async |id| deployments.get(id).await.unwrap().unwrap().facts;

    let snapshot = bench.snapshot().await;
    let facts = seen(bench.deployment).await;
    assert_eq!(facts.mongodb_version.as_deref(), Some("6.0.5"));
    assert_eq!(facts.details["featureCompatibilityVersion"], "6.0");
    assert!(facts.replica_set_name.is_some() && facts.checked_at.is_some());
    assert_eq!(seen(target).await, before, "nobody has looked at it yet");

    restore(&bench, &snapshot, target, json!({})).await;
    assert_eq!(seen(target).await.mongodb_version.as_deref(), Some("6.0.5"));
}

async fn state_of(catalog: &catalog::Catalog, id: RestoreJobId) -> catalog::RestoreJob {
    catalog.restores().get(id).await.unwrap().unwrap()
}

/// One replica set under two names is one target.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_restores_under_two_names_do_not_write_to_one_replica_set_at_once() {
    let bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let snapshot = bench.snapshot().await;
    // Nobody has looked behind these names yet.
    let other = Server::start(Options::version("6.0.5")).await.unwrap();
    let names = [register(&bench, "one", &other.uri()).await, register(&bench, "two", &other.uri()).await];
    let mut jobs = vec![];
    for target in names {
        jobs.push(restore_support::request(&bench, &snapshot, target, json!({})).await);
    }
    // Whichever is first stays in the middle until the other has come to its end.
    let probe = support::probe({
        let (catalog, jobs) = (bench.catalog.clone(), jobs.clone());
        move |moment, _| {
            let (catalog, jobs) = (catalog.clone(), jobs.clone());
            async move {
                for _ in 0..600 {
                    let mut ended = false;
                    for id in &jobs {
                        ended |= state_of(&catalog, *id).await.state == RestoreState::Failed;
                    }
                    if moment != "restore.staged" || ended {
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    });
    let engine = bench.engine(bench.settings()).with_probe(probe);
    for id in &jobs {
        restore_support::run_engine(&bench, &engine, *id).await;
    }
    let (first, second) = (state_of(&bench.catalog, jobs[0]).await, state_of(&bench.catalog, jobs[1]).await);
    let (done, refused) =
        if first.state == RestoreState::Finished { (first, second) } else { (second, first) };
    assert_eq!((done.state, refused.state), (RestoreState::Finished, RestoreState::Failed), "{refused:?}");
    let error = refused.error.unwrap();
    assert!(error.contains("another restore") && error.contains("nothing was changed"), "{error}");
    // Now it is known when it is asked for.
    restore_support::request(&bench, &snapshot, names[0], json!({})).await;
    let new = catalog::NewRestore {
        snapshot_id: snapshot.id,
        delivery: catalog::Delivery::Automated { target: names[1] },
        options: json!({}),
    };
    let again = bench.catalog.restores().request(new, wall_clock()).await;
    assert!(matches!(again, Err(catalog::Error::Conflict(catalog::Conflict::TargetBusy))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_nobody_has_tested_is_told_by_every_job() {
    let mut bench = Bench::start(Options::version("6.0.5")).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let disguise = Disguise::start(&bench.server.host_port(), "6.0.5", "6.1.5").await.unwrap();
    let uri = bench.server.uri().replace(&bench.server.host_port(), &disguise.host_port);
    let newer = |allowed| NewDeployment {
        project_id: bench.project,
        name: if allowed { "allowed" } else { "refused" }.parse().unwrap(),
        kind: model::DeploymentKind::ReplicaSet,
        uri_sealed: Sealed(bench.master.seal(URI_PURPOSE, uri.as_bytes())),
        options: json!({"allowUntestedVersion": allowed}),
        facts: DeploymentFacts::default(),
        continuous: None,
    };
    let refused = bench.catalog.deployments().add(newer(false), wall_clock()).await.unwrap().id;
    let allowed = bench.catalog.deployments().add(newer(true), wall_clock()).await.unwrap().id;
    let warned = async |bench: &Bench, subject: String| {
        let job = bench.catalog.jobs().of_subject(&subject).await.unwrap().unwrap();
        let warning = job.progress.unwrap().warning;
        assert!(warning.contains("6.1.5") && warning.contains("not tested"), "{warning}");
    };

    bench.deployment = refused;
    let snapshot = bench.try_snapshot(bench.settings(), None).await;
    assert_eq!(snapshot.state, SnapshotState::Failed);
    assert!(snapshot.error.unwrap().contains("tested with 5.0 and 6.0"));

    bench.deployment = allowed;
    let snapshot = bench.snapshot().await;
    assert_eq!(snapshot.notes["untestedVersion"], "6.1.5");
    warned(&bench, snapshot.id.to_string()).await;
    let seen = bench.catalog.deployments().get(allowed).await.unwrap().unwrap().facts;
    assert_eq!(seen.details["untestedVersion"], true);

    let job = restore(&bench, &snapshot, allowed, json!({})).await;
    assert_eq!(job.receipt.unwrap()["untestedVersion"], true);
    warned(&bench, job.id.to_string()).await;

    // What is of a newer version does not go to a tested one.
    let target = register(&bench, "tested", &bench.server.uri()).await;
    let id = restore_support::request(&bench, &snapshot, target, json!({})).await;
    let job = run(&bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Failed);
    assert!(job.error.unwrap().contains("upgrade the target"));
}
