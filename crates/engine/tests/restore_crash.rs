//! `kill -9` at every named point of a restore: the next attempt goes on, and nothing is left to clean up.
#![allow(clippy::unwrap_used)]

mod restore_support;
mod support;

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bson::doc;
use catalog::Catalog;
use ebbtide_engine::{Engine, Settings, engine::wall_clock};
use model::{id::RestoreJobId, restore::RestoreState};
use mongo::privileges::{Purpose, role_definition};
use restore_support::{assert_no_staging, damage, data, put, register, request, run, without_stored_views};
use serde_json::{Value, json};
use support::{Bench, probe};
use testbed::{Options, Server, data::Set, oracle};
use tokio_util::sync::CancellationToken;
use vault::{Location, MasterKey, S3Options, Vault};

const SETS: [Set; 8] = [
    Set::Indexes,
    Set::Views,
    Set::Bulk,
    Set::TimeSeries,
    Set::SystemJs,
    Set::Clustered,
    Set::Capped,
    Set::Ids,
];
/// The directory with catalog, vault and key that a child works on.
const CHILD: &str = "EBBTIDE_TEST_CHILD";
/// Whether the child cancels its job once a collection is loaded.
const CHILD_CANCELS: &str = "EBBTIDE_TEST_CHILD_CANCELS";
const SIGABRT: i32 = 6;

/// Up to here the target is as it was.
const BEFORE: [&str; 8] = [
    "restore.after-preflight",
    "restore.after-staging-recorded",
    "restore.load.after-create",
    "restore.load.after-load",
    "restore.load.before-checkpoint",
    "restore.load.after-collection",
    "restore.after-stage",
    "restore.cutover.begun",
];
/// From here on there is only forward.
const INSIDE: [&str; 13] = [
    "restore.cutover.after-fence-recorded",
    "restore.cutover.after-fence",
    "restore.cutover.after-first-rename",
    "restore.cutover.after-renames",
    "restore.cutover.after-removals",
    "restore.cutover.after-time-series",
    "restore.cutover.after-functions",
    "restore.cutover.after-views",
    "restore.cutover.after-users",
    "restore.cutover.before-lift",
    "restore.cutover.after-lift",
    "restore.after-content-proof",
    "restore.after-prove",
];

fn settings(dir: &Path) -> Settings {
    Settings {
        spill_dir: dir.join("spill"),
        poll_every: std::time::Duration::from_millis(50),
        lease_ms: 2_000,
        ..Settings::default()
    }
}

/// Not a test of its own: the process that is killed. Does nothing unless a test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let catalog = Catalog::open(dir.join("catalog.sqlite").to_str().unwrap()).await.unwrap();
    let master = MasterKey::from_file(dir.join("key")).unwrap();
    let place = Location::parse(dir.join("vault").to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::open(&place, &master).await.unwrap();
    let mut engine = Engine::new(catalog.clone(), vault, Arc::new(master), settings(&dir));
    if let Ok(job) = std::env::var(CHILD_CANCELS) {
        let job: RestoreJobId = job.parse().unwrap();
        engine = engine.with_probe(probe(move |moment, _| {
            let catalog = catalog.clone();
            async move {
                if moment == "restore.collection-loaded" {
                    catalog.restores().request_cancel(job, wall_clock()).await.unwrap().ok();
                }
            }
        }));
    }
    engine.run(CancellationToken::new()).await.unwrap();
}

/// Runs an engine in a process of its own until it dies at `point`.
async fn die_at(bench: &Bench, point: &str, cancels: Option<RestoreJobId>) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).kill_on_drop(true);
    command.env(CHILD, bench.dir.path()).env("EBBTIDE_CRASH_AT", point);
    if let Some(job) = cancels {
        command.env(CHILD_CANCELS, job.to_string());
    }
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{point} was not met")).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{point}: {text}");
}

struct Scene {
    bench: Bench,
    snapshot: catalog::Snapshot,
    target: model::id::DeploymentId,
    wanted: oracle::State,
}

async fn scene() -> Scene {
    let server = Server::start(Options::version("6.0.5").with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &SETS).await.unwrap();
    let admin = client.database("admin");
    for (user, purpose) in [("backup", Purpose::Backup), ("restore", Purpose::Restore)] {
        admin.run_command(role_definition(purpose, (6, 0, 5))).await.unwrap();
        admin
            .run_command(doc! {"createUser": user, "pwd": "secret", "roles": [purpose.role()]})
            .await
            .unwrap();
    }
    let [backup, restore] = ["backup", "restore"].map(|user| server.uri_for(user, "secret"));
    let bench = Bench::over(server, &backup).await;
    bench.master.create_file(bench.dir.path().join("key")).unwrap();
    let target = register(&bench, "target", &restore).await;
    let wanted = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    Scene { bench, snapshot, target, wanted }
}

impl Scene {
    async fn ask(&self, options: Value) -> RestoreJobId {
        request(&self.bench, &self.snapshot, self.target, options).await
    }

    async fn is_blocked(&self) -> bool {
        let status = self.bench.server.admin(doc! {"serverStatus": 1}).await.unwrap();
        support::number(status.get_document("repl").unwrap().get("userWriteBlockMode").unwrap()) == 2
    }

    /// The next process finishes what the killed one began.
    async fn finish(&self, id: RestoreJobId, point: &str) {
        let job = run(&self.bench, id, settings(self.bench.dir.path()), None).await;
        assert_eq!(job.state, RestoreState::Finished, "{point}: {:?}", job.error);
        assert!(!self.is_blocked().await, "{point}");
        assert_no_staging(&self.bench.client).await;
        let differences = oracle::diff(&self.wanted, &data(&self.bench.client).await);
        assert!(differences.is_empty(), "{point}: {differences:#?}");
        let receipt = job.receipt.unwrap();
        assert_eq!(receipt["foreignWrites"]["count"], 0, "{point}: {receipt:#}");
    }

    /// What the users see, without what the job stages.
    async fn visible(&self) -> oracle::State {
        let mut state = data(&self.bench.client).await;
        for database in state.databases.values_mut() {
            database.collections.retain(|name, _| !name.starts_with(mongo::STAGING_PREFIX));
            database.hashes.retain(|name, _| !name.starts_with(mongo::STAGING_PREFIX));
            database.capped_sequences.retain(|name, _| !name.starts_with(mongo::STAGING_PREFIX));
        }
        state.databases.retain(|_, database| !database.collections.is_empty());
        state
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn before_the_cut_over() {
    let scene = scene().await;
    for point in BEFORE {
        damage(&scene.bench.client).await;
        let damaged = data(&scene.bench.client).await;
        let id = scene.ask(json!({})).await;
        die_at(&scene.bench, point, None).await;
        oracle::assert_same(&damaged, &scene.visible().await);
        scene.finish(id, point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inside_the_cut_over() {
    let scene = scene().await;
    for point in INSIDE {
        damage(&scene.bench.client).await;
        let id = scene.ask(json!({})).await;
        die_at(&scene.bench, point, None).await;
        if point == "restore.cutover.after-fence" {
            assert!(scene.is_blocked().await, "killed while others are kept out");
        }
        scene.finish(id, point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_place() {
    let scene = scene().await;
    for point in [
        "restore.cutover.after-removals",
        "restore.load.after-create",
        "restore.load.after-load",
        "restore.load.after-collection",
    ] {
        damage(&scene.bench.client).await;
        let id = scene.ask(json!({"inPlace": true})).await;
        die_at(&scene.bench, point, None).await;
        scene.finish(id, point).await;
    }
}

/// Under its own names and under others: each attempt plans the same, tells what it made itself from what others did, and
/// leaves everything else as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_selection() {
    let scene = scene().await;
    damage(&scene.bench.client).await;
    let client = &scene.bench.client;
    let mut expected = data(client).await;
    for db in ["bulk", "views"] {
        for name in scene.wanted.databases[db].collections.keys() {
            put(&mut expected, &format!("{db}.{name}"), &scene.wanted, &format!("{db}.{name}"));
        }
    }
    let renamed = [("indexes", "ix"), ("timeseries", "ts"), ("capped", "ring"), ("functions", "fn")];
    for (from, to) in renamed {
        for name in scene.wanted.databases[from].collections.keys() {
            put(&mut expected, &format!("{to}.{name}"), &scene.wanted, &format!("{from}.{name}"));
        }
    }
    let renames: Vec<_> = renamed.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    let namespaces = ["bulk", "views", "indexes", "timeseries", "capped", "functions"];
    let options = json!({"selection": {"namespaces": namespaces, "renames": renames}});
    for point in [
        "restore.after-staging-recorded",
        "restore.load.after-collection",
        "restore.after-stage",
        "restore.cutover.after-fence",
        "restore.cutover.after-first-rename",
        "restore.cutover.after-removals",
        "restore.cutover.after-time-series",
        "restore.cutover.after-views",
        "restore.cutover.before-lift",
        "restore.after-content-proof",
        "restore.after-prove",
    ] {
        for (_, to) in renamed {
            client.database(to).drop().await.unwrap();
        }
        client.database("bulk").drop().await.unwrap();
        let id = scene.ask(options.clone()).await;
        die_at(&scene.bench, point, None).await;
        let job = run(&scene.bench, id, settings(scene.bench.dir.path()), None).await;
        assert_eq!(job.state, RestoreState::Finished, "{point}: {:?}", job.error);
        assert!(!scene.is_blocked().await, "{point}");
        assert_no_staging(client).await;
        let found = without_stored_views(data(client).await);
        let differences = oracle::diff(&without_stored_views(expected.clone()), &found);
        assert!(differences.is_empty(), "{point}: {differences:#?}");
        assert_eq!(job.receipt.unwrap()["foreignWrites"]["count"], 0, "{point}");
    }
}

/// A time series is made in its place, so an attempt that goes on finds what the one before it made, and what others did.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_make_under_a_free_name_after_a_crash_is_not_replaced() {
    let scene = scene().await;
    let client = &scene.bench.client;
    let renames = json!([{"from": "timeseries.weather", "to": "ts.weather"}]);
    let options = json!({"selection": {"namespaces": ["timeseries.weather"], "renames": renames}});
    let loaded = &scene.wanted.databases["timeseries"].hashes["system.buckets.weather"];
    for point in ["restore.load.after-create", "restore.load.after-load"] {
        for is_exchanged in [false, true] {
            client.database("ts").drop().await.unwrap();
            let id = scene.ask(options.clone()).await;
            die_at(&scene.bench, point, None).await;
            let weather = client.database("ts").collection::<bson::Document>("weather");
            if is_exchanged {
                weather.drop().await.unwrap();
                weather.insert_one(doc! {"_id": "precious"}).await.unwrap();
            }
            let job = run(&scene.bench, id, settings(scene.bench.dir.path()), None).await;
            if is_exchanged {
                assert_eq!(job.state, RestoreState::Failed, "{point}");
                let error = job.error.unwrap();
                assert!(error.contains("somebody made ts.weather"), "{point}: {error}");
                assert_eq!(weather.count_documents(doc! {"_id": "precious"}).await.unwrap(), 1, "{point}");
            } else {
                assert_eq!(job.state, RestoreState::Finished, "{point}: {:?}", job.error);
                let found = data(client).await;
                assert_eq!(&found.databases["ts"].hashes["system.buckets.weather"], loaded, "{point}");
            }
            assert!(!scene.is_blocked().await, "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_a_cancel_is_cleaned_up_after() {
    let scene = scene().await;
    damage(&scene.bench.client).await;
    let damaged = data(&scene.bench.client).await;
    for point in ["restore.cancel.before-sweep", "restore.cancel.after-sweep"] {
        let id = scene.ask(json!({})).await;
        die_at(&scene.bench, point, Some(id)).await;
        let shown = scene.bench.catalog.restores().get(id).await.unwrap().unwrap();
        assert_eq!(shown.state, RestoreState::Cancelling, "not cancelled before it is cleaned up");
        let job = run(&scene.bench, id, settings(scene.bench.dir.path()), None).await;
        assert_eq!(job.state, RestoreState::Cancelled, "{point}: {:?}", job.error);
        assert_no_staging(&scene.bench.client).await;
        oracle::assert_same(&damaged, &data(&scene.bench.client).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_dead_job_left_is_undone_and_can_still_be_finished() {
    let scene = scene().await;
    damage(&scene.bench.client).await;
    let id = scene.ask(json!({})).await;
    die_at(&scene.bench, "restore.cutover.after-fence", None).await;
    assert!(scene.is_blocked().await);
    let work = scene.bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    let engine = scene.bench.engine(settings(scene.bench.dir.path()));
    let obligations = scene.bench.catalog.obligations();
    for left in obligations.of_job(work.id).await.unwrap() {
        let permit = mongo::Permit::default();
        ebbtide_engine::jobs::discharge(engine.services(), &left, permit).await.unwrap();
        obligations.settle(left.job_id, left.deployment_id, &left.kind).await.unwrap();
    }
    assert!(!scene.is_blocked().await);
    assert_no_staging(&scene.bench.client).await;
    // Nothing is staged any more, and the cut-over has begun: everything is loaded in place.
    scene.finish(id, "after the reaper").await;
}

/// A job that failed for good and whose block nobody has lifted yet: the next one must not take it for somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_block_of_a_dead_job_is_taken_over_by_the_next() {
    let scene = scene().await;
    let jobs = scene.bench.catalog.jobs();
    damage(&scene.bench.client).await;
    scene.ask(json!({})).await;
    die_at(&scene.bench, "restore.cutover.after-fence", None).await;
    assert!(scene.is_blocked().await);
    let later = wall_clock().plus_ms(60_000);
    let dead = jobs.claim("undertaker", &[], later, 1_000).await.unwrap().unwrap();
    jobs.finish(&dead, catalog::Outcome::Failed { error: "given up".to_owned() }, later).await.unwrap();

    // Without the reaper, which would lift it.
    let id = scene.ask(json!({})).await;
    let engine = scene.bench.engine(Settings { lease_ms: 600_000, ..settings(scene.bench.dir.path()) });
    let asking = ebbtide_engine::lease::Asking::now();
    let lease = jobs.claim("next", &[], wall_clock(), 600_000).await.unwrap().unwrap();
    let ctx = ebbtide_engine::lease::JobContext::new(engine.services().clone(), lease, asking);
    ebbtide_engine::jobs::run(&ctx, ctx.work()).await.unwrap();
    let job = scene.bench.catalog.restores().get(id).await.unwrap().unwrap();
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["fence"]["state"], "raised", "{receipt:#}");
    assert!(!scene.is_blocked().await);
    let left = scene.bench.catalog.obligations().of_deployment(scene.target).await.unwrap();
    assert!(left.iter().all(|left| left.kind == "staging" && left.job_id == dead.job_id), "{left:?}");
    oracle::assert_same(&scene.wanted, &scene.visible().await);
}
