//! A process that captures and is frozen past its lease: another one goes on, and when it wakes up it adds nothing.
#![allow(clippy::unwrap_used)]

mod capture_support;
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use bson::Bson;
use capture_support::{Running, assert_whole, based, captured_bench, caught_up, current, settings, until};
use catalog::{Catalog, Page};
use ebbtide_engine::{Engine, Settings};
use support::{Bench, documents};
use testbed::Options;
use tokio_util::sync::CancellationToken;
use vault::{Location, MasterKey, S3Options, Vault};

/// The directory with catalog, vault and key that a child works on.
const CHILD: &str = "EBBTIDE_TEST_FROZEN_CAPTURE";
const PATIENCE: Duration = Duration::from_secs(240);

fn of_child(dir: &Path) -> Settings {
    Settings {
        worker_name: "frozen".to_owned(),
        spill_dir: dir.join("spill-of-child"),
        spool_dir: dir.join("spool-of-child"),
        poll_every: Duration::from_millis(50),
        reconcile_every: Duration::from_secs(3600),
        lease_ms: 3_000,
        ..Settings::default()
    }
}

/// Not a test of its own: the process that is frozen. Does nothing unless the test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let catalog = Catalog::open(dir.join("catalog.sqlite").to_str().unwrap()).await.unwrap();
    let master = MasterKey::from_file(dir.join("key")).unwrap();
    let place = Location::parse(dir.join("vault").to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::open(&place, &master).await.unwrap();
    let engine = Engine::new(catalog, vault, Arc::new(master), of_child(&dir));
    engine.run(CancellationToken::new()).await.unwrap();
}

struct Frozen(Child);

impl Frozen {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self(command.args(["--exact", "child", "--nocapture"]).env(CHILD, dir).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Not inside a transaction: SQLite's lock would be frozen with it.
    async fn freeze(&self, bench: &Bench) {
        let begun = Instant::now();
        loop {
            self.signal("-STOP");
            let settings = bench.catalog.settings();
            let write = settings.set("frozen", "yes");
            if tokio::time::timeout(Duration::from_secs(1), write).await.is_ok_and(|written| written.is_ok())
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it cannot be frozen outside of a transaction");
            self.signal("-CONT");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn owner(bench: &Bench) -> Option<String> {
    bench.catalog.timelines().capture(bench.deployment).await.unwrap().and_then(|capture| capture.owner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_capture_that_wakes_up_after_its_lease_adds_nothing() {
    let bench = captured_bench(Options::default()).await;
    bench.master.create_file(bench.dir.path().join("key")).unwrap();
    let frozen = Frozen::start(bench.dir.path());
    based(&bench).await;
    caught_up(&bench).await;
    // In the middle of a slice: what was written last is read and not recorded yet, or not even read.
    bench.fill("app", "meanwhile", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    frozen.freeze(&bench).await;
    assert_eq!(owner(&bench).await.as_deref(), Some("frozen"));

    let named = Settings { worker_name: "awake".to_owned(), ..settings(&bench) };
    let running = Running::start(bench.engine(named));
    until(&bench, "another one takes over", || async {
        (owner(&bench).await.as_deref() == Some("awake")).then_some(())
    })
    .await;
    bench.fill("app", "after", documents(200, 100, |n| Bson::Int64(n as i64))).await;
    caught_up(&bench).await;
    frozen.signal("-CONT");
    // Whatever it was about to do, it does in the time of a slice.
    for round in 0..3 {
        bench.fill("app", &format!("awake{round}"), documents(50, 100, |n| Bson::Int64(n as i64))).await;
        caught_up(&bench).await;
    }
    assert_eq!(owner(&bench).await.as_deref(), Some("awake"), "the lease was taken back");
    let timeline = caught_up(&bench).await;
    running.stop().await;
    drop(frozen);
    assert_eq!(current(&bench).await.unwrap().id, timeline.id);
    let all = bench.catalog.timelines().list(bench.deployment, Page::default()).await.unwrap().items;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_whole(&bench, &timeline).await;
}
