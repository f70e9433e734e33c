//! What jobs see of deployments is kept, and told.
#![allow(clippy::unwrap_used)]

mod restore_support;
mod support;

use bson::Bson;
use catalog::DeploymentFacts;
use restore_support::{register, restore};
use serde_json::json;
use support::{Bench, documents};
use testbed::{Options, Server};

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
