//! A process that is frozen past its lease wakes up when another one has long done its job: it may do nothing more.
#![allow(clippy::unwrap_used)]

mod restore_support;
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Document, doc};
use catalog::Catalog;
use ebbtide_engine::{Engine, Settings, engine::wall_clock};
use model::{id::RestoreJobId, restore::RestoreState};
use mongo::privileges::{Purpose, role_definition};
use restore_support::{assert_no_staging, damage, data, register, request, run, run_engine};
use serde_json::json;
use support::{Bench, probe};
use testbed::{Options, Server, data::Set, oracle};
use tokio_util::sync::CancellationToken;
use vault::{Location, MasterKey, S3Options, Vault};

const SETS: [Set; 6] = [Set::Indexes, Set::Views, Set::Bulk, Set::TimeSeries, Set::Capped, Set::Ids];
/// The directory with catalog, vault and key that a child works on.
const CHILD: &str = "EBBTIDE_TEST_FROZEN_CHILD";
/// The moment at which it freezes itself.
const MOMENT: &str = "EBBTIDE_TEST_FREEZES_AT";
/// A file that gives a frozen process leave to go on.
const GO: &str = "go";
const PATIENCE: Duration = Duration::from_secs(120);

fn settings(dir: &Path) -> Settings {
    Settings {
        spill_dir: dir.join("spill"),
        poll_every: Duration::from_millis(50),
        reconcile_every: Duration::from_secs(3600),
        lease_ms: 2_000,
        ..Settings::default()
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Not a test of its own: the process that is frozen. Does nothing unless a test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let wanted = std::env::var(MOMENT).unwrap();
    let catalog = Catalog::open(dir.join("catalog.sqlite").to_str().unwrap()).await.unwrap();
    let master = MasterKey::from_file(dir.join("key")).unwrap();
    let place = Location::parse(dir.join("vault").to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::open(&place, &master).await.unwrap();
    let (frozen, ended) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let freezing = probe({
        let ended = ended.clone();
        let go = dir.join(GO);
        move |moment, _| {
            if moment == "job.ended" {
                ended.cancel();
            }
            if moment == wanted && !frozen.swap(true, Ordering::SeqCst) {
                // Woken without leave, it only lets what else runs here (a heartbeat) end, and freezes again.
                while !go.exists() {
                    signal(std::process::id(), "-STOP");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            std::future::ready(())
        }
    });
    let engine = Engine::new(catalog, vault, Arc::new(master), settings(&dir)).with_probe(freezing);
    engine.run(ended).await.unwrap();
}

/// A process that has begun a job and is frozen.
struct Frozen(Child);

impl Frozen {
    /// Frozen at that moment, and not inside a transaction: SQLite's lock would be frozen with it, and nobody could take
    /// the job over before the process dies or wakes up.
    async fn at(bench: &Bench, moment: &str) -> Self {
        let frozen = Self::stopped_at(bench, moment);
        let began = Instant::now();
        loop {
            let settings = bench.catalog.settings();
            let write = settings.set("frozen", moment);
            if tokio::time::timeout(Duration::from_secs(1), write).await.is_ok_and(|written| written.is_ok())
            {
                return frozen;
            }
            assert!(began.elapsed() < PATIENCE, "{moment}: it cannot be frozen outside of a transaction");
            signal(frozen.0.id(), "-CONT");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn stopped_at(bench: &Bench, moment: &str) -> Self {
        std::fs::remove_file(bench.dir.path().join(GO)).ok();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD, bench.dir.path()).env(MOMENT, moment);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
                return Self(child);
            }
            assert!(child.try_wait().unwrap().is_none(), "{moment}: it ended without being frozen");
            assert!(began.elapsed() < PATIENCE, "{moment} was not met");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Wakes it up and waits until it has found out and ended.
    fn wake(mut self, bench: &Bench) {
        std::fs::write(bench.dir.path().join(GO), "").unwrap();
        signal(self.0.id(), "-CONT");
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a frozen process may still do is the one command that it was about to send when it was frozen. It is done here in its
/// place, and cleared up like its own.
async fn sweep_what_came_late(bench: &Bench, id: RestoreJobId) {
    let job = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap().id;
    let late = mongo::write::staging::staging_name(&job.to_string(), 0xf);
    bench.client.database("bulk").collection::<Document>(&late).insert_one(doc! {"_id": 1}).await.unwrap();
    let of_nobody = format!("{}{}.0", mongo::STAGING_PREFIX, "f".repeat(24));
    let unknown = bench.client.database("bulk").collection::<Document>(&of_nobody);
    unknown.insert_one(doc! {"_id": 1}).await.unwrap();
    let engine = bench.engine(settings(bench.dir.path()));
    bench.catalog.settings().set("strays.lastSweepAt", "0").await.unwrap();
    let did = engine.reconcilers().activate("strays").await.unwrap();
    let dropped = did["dropped"].as_array().unwrap();
    assert!(dropped.iter().any(|name| name == &format!("bulk.{late}")), "{did:#}");
    assert_eq!(did["left"], json!([]));
    assert_eq!(unknown.count_documents(doc! {}).await.unwrap(), 1, "it is no job's of this catalog");
    unknown.drop().await.unwrap();
}

async fn scene() -> (Bench, model::id::DeploymentId) {
    let server = Server::start(Options::version("6.0.5").with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &SETS).await.unwrap();
    let admin = client.database("admin");
    for (user, purpose) in [("backup", Purpose::Backup), ("restore", Purpose::Restore)] {
        admin.run_command(role_definition(purpose, (6, 0, 5))).await.unwrap();
        let create = doc! {"createUser": user, "pwd": "secret", "roles": [purpose.role()]};
        admin.run_command(create).await.unwrap();
    }
    let [backup, restore] = ["backup", "restore"].map(|user| server.uri_for(user, "secret"));
    let bench = Bench::over(server, &backup).await;
    bench.master.create_file(bench.dir.path().join("key")).unwrap();
    let target = register(&bench, "target", &restore).await;
    (bench, target)
}

/// What users do with a deployment that was restored: all of it must still be there.
async fn use_it(client: &mongodb::Client) {
    let bulk = client.database("bulk");
    let mut names = bulk.list_collection_names().await.unwrap();
    names.sort();
    let first = bulk.collection::<Document>(&names[0]);
    first.insert_one(doc! {"_id": "written by a user afterwards"}).await.unwrap();
    first.create_index(mongodb::IndexModel::builder().keys(doc! {"later": 1}).build()).await.unwrap();
    let indexes = client.database("indexes");
    let mut names = indexes.list_collection_names().await.unwrap();
    names.sort();
    indexes.collection::<Document>(&names[0]).drop().await.unwrap();
    indexes.collection::<Document>(&names[0]).insert_one(doc! {"_id": "made anew"}).await.unwrap();
    client.database("brand_new").collection::<Document>("x").insert_one(doc! {"_id": 1}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_wakes_up_too_late_touches_nothing() {
    let (bench, target) = scene().await;
    let snapshot = bench.snapshot().await;
    let wanted = data(&bench.client).await;
    for moment in [
        "restore.segment-loaded",
        "restore.collection-loaded",
        "restore.staged",
        "restore.fenced",
        "restore.switched",
        "restore.lifted",
    ] {
        damage(&bench.client).await;
        let id = request(&bench, &snapshot, target, json!({})).await;
        let frozen = Frozen::at(&bench, moment).await;
        let job = run(&bench, id, settings(bench.dir.path()), None).await;
        assert_eq!(job.state, RestoreState::Finished, "{moment}: {:?}", job.error);
        let differences = oracle::diff(&wanted, &data(&bench.client).await);
        assert!(differences.is_empty(), "{moment}: {differences:#?}");
        use_it(&bench.client).await;
        // Somebody keeps others out; that is not for the one that wakes up to end.
        let block = |on: bool| doc! {"setUserWriteBlockMode": 1, "global": on};
        bench.server.admin(block(true)).await.unwrap();
        let used = data(&bench.client).await;
        frozen.wake(&bench);
        sweep_what_came_late(&bench, id).await;
        let differences = oracle::diff(&used, &data(&bench.client).await);
        assert!(differences.is_empty(), "{moment}: it wrote to the target: {differences:#?}");
        assert_no_staging(&bench.client).await;
        let status = bench.server.admin(doc! {"serverStatus": 1}).await.unwrap();
        let mode = support::number(status.get_document("repl").unwrap().get("userWriteBlockMode").unwrap());
        assert_eq!(mode, 2, "{moment}: it lifted somebody else's block");
        bench.server.admin(block(false)).await.unwrap();
        let after = bench.catalog.restores().get(id).await.unwrap().unwrap();
        assert_eq!(after, job, "{moment}: it wrote to the catalog");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_means_that_nobody_writes_any_more() {
    let (bench, target) = scene().await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let damaged = data(&bench.client).await;
    for moment in ["restore.segment-loaded", "restore.collection-loaded", "restore.staged"] {
        let id = request(&bench, &snapshot, target, json!({})).await;
        let frozen = Frozen::at(&bench, moment).await;
        bench.catalog.restores().request_cancel(id, wall_clock()).await.unwrap().unwrap();
        let job = run(&bench, id, settings(bench.dir.path()), None).await;
        assert_eq!(job.state, RestoreState::Cancelled, "{moment}: {:?}", job.error);
        frozen.wake(&bench);
        sweep_what_came_late(&bench, id).await;
        assert_no_staging(&bench.client).await;
        let differences = oracle::diff(&damaged, &data(&bench.client).await);
        assert!(differences.is_empty(), "{moment}: {differences:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_wakes_up_too_late_changes_nothing() {
    let (bench, _) = scene().await;
    for moment in ["snapshot.pinned", "snapshot.collection-read"] {
        let id = bench.request().await;
        let frozen = Frozen::at(&bench, moment).await;
        let engine = bench.engine(settings(bench.dir.path()));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (engine, shutdown) = (engine.clone(), shutdown.clone());
            async move { engine.run(shutdown).await }
        });
        let began = Instant::now();
        while bench.catalog.snapshots().get(id).await.unwrap().unwrap().manifest.is_none() {
            assert!(began.elapsed() < PATIENCE, "the snapshot is not taken over");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.cancel();
        running.await.unwrap().unwrap();
        let taken = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
        frozen.wake(&bench);
        assert_eq!(bench.catalog.snapshots().get(id).await.unwrap().unwrap(), taken, "{moment}");
        bench.assert_verifies(&taken).await;
    }
}

/// A process that dies while it proves: in the meantime the target was its users' again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proof_that_is_taken_over_leaves_what_users_have_made_since() {
    let (bench, target) = scene().await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let id = request(&bench, &snapshot, target, json!({})).await;
    let frozen = Frozen::at(&bench, "restore.lifted").await;
    drop(frozen);
    use_it(&bench.client).await;
    let used = data(&bench.client).await;
    let engine = bench.engine(settings(bench.dir.path()));
    let job = run_engine(&bench, &engine, id).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let mut differences = oracle::diff(&used, &data(&bench.client).await);
    // Lifetimes are given back by whoever ends the proof.
    differences.retain(|text| !text.contains("expireAfterSeconds"));
    assert!(differences.is_empty(), "the next attempt took the users' work for its own: {differences:#?}");
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["foreignWrites"]["count"], 0, "nobody wrote behind the fence: {receipt:#}");
    let changed = receipt["perCollection"].as_array().unwrap();
    let changed = changed.iter().filter(|line| line["changedByOthers"] == true).count();
    assert_eq!(changed, 2, "{receipt:#}");
}

/// Applications write again the moment that they may.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_after_the_cut_over_is_not_held_against_the_restore() {
    let server = Server::start(Options::version("5.0.4")).await.unwrap();
    testbed::data::load(&server.client().await.unwrap(), 7, &SETS).await.unwrap();
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let snapshot = bench.snapshot().await;
    damage(&bench.client).await;
    let client = bench.client.clone();
    let using = probe(move |moment, _| {
        let client = client.clone();
        async move {
            if moment == "restore.lifted" {
                use_it(&client).await;
            }
        }
    });
    let id = request(&bench, &snapshot, bench.deployment, json!({})).await;
    let job = run(&bench, id, settings(bench.dir.path()), Some(using)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["fence"]["state"], "none");
    assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
    let changed: Vec<_> =
        receipt["perCollection"].as_array().unwrap().iter().filter(|l| l["ok"] == false).collect();
    assert_eq!(changed.len(), 2, "{changed:#?}");
    assert_eq!(client_names(&bench, "brand_new").await, ["x"]);
}

async fn client_names(bench: &Bench, db: &str) -> Vec<String> {
    bench.client.database(db).list_collection_names().await.unwrap()
}
