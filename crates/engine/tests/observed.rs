//! What jobs see of deployments is kept, and told.
#![allow(clippy::unwrap_used)]

mod restore_support;
mod support;

use bson::Bson;
use catalog::{DeploymentFacts, NewDeployment, Sealed};
use ebbtide_engine::{connect::URI_PURPOSE, engine::wall_clock};
use model::{id::RestoreJobId, restore::RestoreState, snapshot::SnapshotState};
use restore_support::{register, restore, run};
use serde_json::json;
use support::{Bench, documents};
use model::{restore::RestoreState, snapshot::SnapshotState};
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
