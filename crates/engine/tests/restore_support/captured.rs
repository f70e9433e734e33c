//! A deployment that is captured while a test works on it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

use bson::doc;
use catalog::{Delivery, NewRestore, RestoreJob};
use ebbtide_engine::{
    Settings,
    engine::{Probe, wall_clock},
};
use model::{
    ClusterTime, ContinuousBackup,
    id::{DeploymentId, RestoreJobId},
    restore::RestoreState,
    timeline::PointInTime,
};
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// A moment's wait in a loop that began then.
pub async fn pause(begun: std::time::Instant) {
    assert!(begun.elapsed() < PATIENCE, "it hangs");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

/// An engine that captures and works until the end of the test.
pub struct Captured {
    pub bench: Bench,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Captured {
    /// Captures this server.
    pub async fn start(server: testbed::Server) -> Self {
        let uri = server.uri();
        Self::over(Bench::over(server, &uri).await, None).await
    }

    /// Captures the deployment of this bench, which gets its base.
    pub async fn over(bench: Bench, probe: Option<Probe>) -> Self {
        let settings = bench.settings();
        let captured = Self::begin(bench, settings, probe).await;
        let begun = std::time::Instant::now();
        let (timelines, deployment) = (captured.bench.catalog.timelines(), captured.bench.deployment);
        while timelines.ranges(deployment).await.unwrap().is_empty() {
            pause(begun).await;
        }
        captured
    }

    /// Begins to capture the deployment of this bench, and waits for nothing.
    pub async fn begin(bench: Bench, settings: Settings, probe: Option<Probe>) -> Self {
        let wanted = ContinuousBackup { pit_enabled: true, ..ContinuousBackup::default() };
        bench.catalog.timelines().set_continuous_backup(bench.deployment, wanted).await.unwrap();
        let settings = Settings { spool_dir: bench.dir.path().join("spool"), ..settings };
        let (mut engine, shutdown) = (bench.engine(settings), CancellationToken::new());
        if let Some(probe) = probe {
            engine = engine.with_probe(probe);
        }
        let until = shutdown.clone();
        let task = tokio::spawn(async move { engine.run(until).await });
        Self { bench, shutdown, task }
    }

    /// The time of the last operation that was acknowledged.
    pub async fn now(&self) -> ClusterTime {
        let note =
            doc! { "appendOplogNote": 1, "data": { "msg": "test" }, "writeConcern": { "w": "majority" } };
        let reply = self.bench.server.admin(note).await.unwrap();
        let time = reply.get_timestamp("operationTime").unwrap();
        ClusterTime { seconds: time.time, increment: time.increment }
    }

    /// Restores to a point into a deployment.
    pub async fn restore(
        &self,
        at: impl Into<PointInTime>,
        target: DeploymentId,
        options: serde_json::Value,
    ) -> RestoreJob {
        let (catalog, source, at) = (&self.bench.catalog, self.bench.deployment, at.into());
        let begun = std::time::Instant::now();
        let base = loop {
            // Capture may be a moment behind.
            if let Some((_, base)) = catalog.timelines().base_for(source, at.time()).await.unwrap() {
                break base;
            }
            pause(begun).await;
        };
        let delivery = Delivery::PointInTime { target, at };
        let new = NewRestore { snapshot_id: base.id, delivery, options };
        self.run(new).await
    }

    /// Asks for a restore and waits for its end.
    pub async fn run(&self, new: NewRestore) -> RestoreJob {
        let id = self.bench.catalog.restores().request(new, wall_clock()).await.unwrap().id;
        self.ended(id).await
    }

    /// The job, once it has ended.
    pub async fn ended(&self, id: RestoreJobId) -> RestoreJob {
        let begun = std::time::Instant::now();
        loop {
            let job = self.bench.catalog.restores().get(id).await.unwrap().unwrap();
            match job.state {
                RestoreState::Queued
                | RestoreState::Running
                | RestoreState::Cancelling
                | RestoreState::CutOver
                | RestoreState::Ready => {}
                _ => return job,
            }
            pause(begun).await;
        }
    }

    pub async fn stop(self) {
        self.stop_and_keep().await;
    }

    /// Stops the engine; what it worked on stays.
    pub async fn stop_and_keep(self) -> Bench {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.bench
    }
}
