//! A deployment that is recorded, with an engine that runs meanwhile.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::time::{Duration, Instant};

use bson::doc;
use catalog::{Delivery, NewRestore, RestoreJob};
use ebbtide_engine::{Settings, engine::wall_clock};
use model::{ClusterTime, ContinuousBackup, id::DeploymentId, restore::RestoreState, timeline::PointInTime};
use testbed::Server;
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Captured {
    pub bench: Bench,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// A moment's wait in a loop that began then.
async fn pause(begun: Instant) {
    assert!(begun.elapsed() < PATIENCE, "it hangs");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl Captured {
    /// The server with its base.
    pub async fn start(server: Server) -> Self {
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        let wanted = ContinuousBackup { pit_enabled: true, ..ContinuousBackup::default() };
        bench.catalog.timelines().set_continuous_backup(bench.deployment, wanted).await.unwrap();
        let settings = Settings { spool_dir: bench.dir.path().join("spool"), ..bench.settings() };
        let (engine, shutdown) = (bench.engine(settings), CancellationToken::new());
        let until = shutdown.clone();
        let task = tokio::spawn(async move { engine.run(until).await });
        let begun = Instant::now();
        while bench.catalog.timelines().ranges(bench.deployment).await.unwrap().is_empty() {
            pause(begun).await;
        }
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

    /// Restores to a point into a deployment, to its end.
    pub async fn restore(
        &self,
        at: ClusterTime,
        target: DeploymentId,
        options: serde_json::Value,
    ) -> RestoreJob {
        let (catalog, source) = (&self.bench.catalog, self.bench.deployment);
        let begun = Instant::now();
        let base = loop {
            // Capture may be a moment behind.
            if let Some((_, base)) = catalog.timelines().base_for(source, at).await.unwrap() {
                break base;
            }
            pause(begun).await;
        };
        let delivery = Delivery::PointInTime { target, at: PointInTime::Operation(at) };
        self.run(NewRestore { snapshot_id: base.id, delivery, options }).await
    }

    /// Asks for a restore and waits for its end.
    pub async fn run(&self, new: NewRestore) -> RestoreJob {
        let restores = self.bench.catalog.restores();
        let id = restores.request(new, wall_clock()).await.unwrap().id;
        let begun = Instant::now();
        loop {
            let job = restores.get(id).await.unwrap().unwrap();
            match job.state {
                RestoreState::Queued
                | RestoreState::Running
                | RestoreState::Cancelling
                | RestoreState::CutOver
                | RestoreState::Ready => pause(begun).await,
                _ => return job,
            }
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}
