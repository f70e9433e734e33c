//! Asking for restores and running them, on top of the support for snapshots.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

pub mod captured;
pub mod exported;

use std::time::Duration;

use bson::{Document, doc};
use catalog::{Delivery, NewDeployment, NewRestore, RestoreJob, Sealed, Snapshot};
use ebbtide_engine::{
    Engine, Settings,
    engine::{Probe, wall_clock},
};
use model::{
    id::{DeploymentId, RestoreJobId},
    job::JobState,
    restore::RestoreState,
};
use testbed::{Server, oracle};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, engine};

/// What a job may take on a busy machine before the test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Registers another deployment.
pub async fn register(bench: &Bench, name: &str, uri: &str) -> DeploymentId {
    let new = NewDeployment {
        project_id: bench.project,
        name: name.parse().unwrap(),
        kind: model::DeploymentKind::ReplicaSet,
        uri_sealed: Sealed(bench.master.seal(engine::connect::URI_PURPOSE, uri.as_bytes())),
        options: serde_json::json!({}),
        facts: catalog::DeploymentFacts::default(),
        continuous: None,
    };
    bench.catalog.deployments().add(new, wall_clock()).await.unwrap().id
}

/// Asks for an automated restore.
pub async fn request(
    bench: &Bench,
    snapshot: &Snapshot,
    target: DeploymentId,
    options: serde_json::Value,
) -> RestoreJobId {
    let new = NewRestore { snapshot_id: snapshot.id, delivery: Delivery::Automated { target }, options };
    bench.catalog.restores().request(new, wall_clock()).await.unwrap().id
}

/// Asks for a download.
pub async fn request_download(bench: &Bench, snapshot: &Snapshot) -> RestoreJobId {
    let new = NewRestore {
        snapshot_id: snapshot.id,
        delivery: Delivery::Download { terms: model::LinkTerms::default() },
        options: serde_json::json!({}),
    };
    bench.catalog.restores().request(new, wall_clock()).await.unwrap().id
}

/// Runs an engine until the job has ended; nothing may be left to be undone.
pub async fn run(bench: &Bench, id: RestoreJobId, settings: Settings, probe: Option<Probe>) -> RestoreJob {
    let mut engine = bench.engine(settings);
    if let Some(probe) = probe {
        engine = engine.with_probe(probe);
    }
    let job = run_engine(bench, &engine, id).await;
    let work = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    assert_eq!(
        bench.catalog.obligations().of_job(work.id).await.unwrap(),
        [],
        "something is left to be undone"
    );
    job
}

/// Runs this engine until the job has ended.
pub async fn run_engine(bench: &Bench, engine: &Engine, id: RestoreJobId) -> RestoreJob {
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (engine, shutdown) = (engine.clone(), shutdown.clone());
        async move { engine.run(shutdown).await }
    });
    let ended = tokio::time::timeout(PATIENCE, ended(bench, id)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let job = bench.catalog.restores().get(id).await.unwrap().unwrap();
    assert!(ended.is_ok(), "the job hangs: {job:?}");
    job
}

async fn ended(bench: &Bench, id: RestoreJobId) {
    loop {
        let job = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
        if !matches!(job.state, JobState::Queued | JobState::Running) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Restores with these options; it must finish.
pub async fn restore(
    bench: &Bench,
    snapshot: &Snapshot,
    target: DeploymentId,
    options: serde_json::Value,
) -> RestoreJob {
    let id = request(bench, snapshot, target, options).await;
    let job = run(bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    job
}

/// What a deployment holds, but for users and roles.
pub async fn data(client: &mongodb::Client) -> oracle::State {
    oracle::state(client).await.unwrap().without_principals()
}

/// No collection under a staging name is left, in any database.
pub async fn assert_no_staging(client: &mongodb::Client) {
    for db in client.list_database_names().await.unwrap() {
        for name in client.database(&db).list_collection_names().await.unwrap() {
            assert!(!name.starts_with(mongo::STAGING_PREFIX), "{db}.{name} was left");
        }
    }
}

/// An accident: what a person may do to a deployment.
pub async fn damage(client: &mongodb::Client) {
    let app = client.database("indexes");
    for name in app.list_collection_names().await.unwrap().iter().take(2) {
        app.collection::<Document>(name).drop().await.unwrap();
    }
    client.database("bulk").drop().await.unwrap();
    let extra = client.database("extra").collection::<Document>("later");
    extra.insert_many([doc! {"_id": 1}, doc! {"_id": 2}]).await.unwrap();
    client.database("views").collection::<Document>("a_new_one").insert_one(doc! {"x": 1}).await.unwrap();
    let ids = client.database("ids");
    for name in ids.list_collection_names().await.unwrap() {
        if !name.starts_with("system.") {
            ids.collection::<Document>(&name)
                .insert_one(doc! {"_id": "written after the snapshot"})
                .await
                .unwrap();
        }
    }
}

/// A server of this version with these sets in it.
pub async fn server(options: testbed::Options, sets: &[testbed::data::Set]) -> Server {
    let server = Server::start(options).await.unwrap();
    testbed::data::load(&server.client().await.unwrap(), 7, sets).await.unwrap();
    server
}

/// Takes what `from` has under one name for what `into` has under another: its definition, its content and its order.
pub fn put(into: &mut oracle::State, to: &str, from: &oracle::State, name: &str) {
    let split = |name: &str| {
        let (db, collection) = name.split_once('.').unwrap();
        (db.to_owned(), collection.to_owned())
    };
    let ((to_db, to), (from_db, name)) = (split(to), split(name));
    let (from, into) = (&from.databases[&from_db], into.databases.entry(to_db).or_default());
    take_out_of(into, &to);
    into.collections.insert(to.clone(), from.collections[&name].clone());
    for (from, into) in
        [(&from.hashes, &mut into.hashes), (&from.capped_sequences, &mut into.capped_sequences)]
    {
        into.extend(from.get(&name).map(|value| (to.clone(), value.clone())));
    }
}

/// Forgets one name.
pub fn take_out(state: &mut oracle::State, name: &str) {
    let (db, collection) = name.split_once('.').unwrap();
    take_out_of(state.databases.get_mut(db).unwrap(), collection);
}

fn take_out_of(database: &mut oracle::DatabaseState, name: &str) {
    database.collections.remove(name);
    database.hashes.remove(name);
    database.capped_sequences.remove(name);
}

/// Forgets how the server stores the definitions of views: what it shows of each is compared.
pub fn without_stored_views(mut state: oracle::State) -> oracle::State {
    state.databases.values_mut().for_each(|database| take_out_of(database, "system.views"));
    state
}
