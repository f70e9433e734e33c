//! How a snapshot job ends that is not left in peace: every way leaves the catalog and the deployment in order.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bson::{Bson, doc};
use model::{job::JobState, snapshot::SnapshotState};
use support::{Bench, documents, engine, engine::engine::wall_clock};
use testbed::Options;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

async fn small() -> Bench {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(2_000, 300, |n| Bson::Int64(n as i64))).await;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_in_a_job_is_a_failure_and_the_worker_lives() {
    let bench = small().await;
    let probe = support::probe(|moment, _| async move {
        assert!(moment != "snapshot.pinned", "this panic is a part of the test");
    });
    let snapshot = bench.try_snapshot(bench.settings(), Some(probe)).await;
    assert_eq!(snapshot.state, SnapshotState::Failed);
    let error = snapshot.error.unwrap();
    assert!(
        error.contains("a bug in Ebbtide") && error.contains("this panic is a part of the test"),
        "{error}"
    );
    bench.snapshot().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_gives_the_job_back_and_the_next_process_finishes_it() {
    let bench = small().await;
    let pinned = Arc::new(Notify::new());
    let shutdown = CancellationToken::new();
    let probe = support::probe({
        let (pinned, shutdown) = (Arc::clone(&pinned), shutdown.clone());
        move |moment, _| {
            let (pinned, shutdown) = (Arc::clone(&pinned), shutdown.clone());
            async move {
                if moment == "snapshot.pinned" {
                    pinned.notify_one();
                    shutdown.cancelled().await;
                    // The job learns of it by its heartbeat task, which runs beside this.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    });
    let id = bench.request().await;
    let engine = bench.engine(bench.settings()).with_probe(probe);
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { engine.run(shutdown).await }
    });
    pinned.notified().await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let job = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    assert_eq!(job.attempts, 0, "a shutdown is no failed attempt: {:?}", job.error);
    let claimable =
        job.state == JobState::Queued || job.lease_until.is_none_or(|until| until <= wall_clock());
    assert!(claimable, "the lease was kept: {job:?}");

    let shutdown = CancellationToken::new();
    let engine = bench.engine(bench.settings());
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { engine.run(shutdown).await }
    });
    while bench.catalog.snapshots().get(id).await.unwrap().unwrap().state != SnapshotState::Completed {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
    bench.assert_exact(&snapshot, "app.things").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_lost_its_lease_writes_no_result() {
    let bench = small().await;
    let stolen = Arc::new(AtomicU32::new(0));
    let probe = support::probe({
        let (catalog, stolen) = (bench.catalog.clone(), Arc::clone(&stolen));
        move |moment, _| {
            let (catalog, stolen) = (catalog.clone(), Arc::clone(&stolen));
            async move {
                if moment == "snapshot.pinned" {
                    let much_later = wall_clock().plus_ms(3_600_000);
                    let lease = catalog.jobs().claim("thief", &[], much_later, 3_600_000).await.unwrap();
                    stolen.fetch_add(u32::from(lease.is_some()), Ordering::SeqCst);
                }
            }
        }
    });
    let id = bench.request().await;
    let shutdown = CancellationToken::new();
    let engine = bench.engine(bench.settings()).with_probe(probe);
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { engine.run(shutdown).await }
    });
    while stolen.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let job = bench.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    assert_eq!((job.state, job.worker.as_deref()), (JobState::Running, Some("thief")));
    let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!(snapshot.state, SnapshotState::InProgress);
    assert_eq!(snapshot.manifest, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jobs_that_raise_the_window_in_turn_put_the_first_one_back() {
    let bench = Bench::start(Options::default()).await;
    let obligations = bench.catalog.obligations();
    let engine = bench.engine(bench.settings());
    // The same servers are registered twice.
    let own = bench.catalog.deployments().get(bench.deployment).await.unwrap().unwrap();
    let facts = catalog::DeploymentFacts { replica_set_id: Some("5ebb".to_owned()), ..own.facts };
    bench.catalog.deployments().update_facts(own.id, &facts).await.unwrap();
    let twin = catalog::NewDeployment {
        project_id: own.project_id,
        name: "twin".parse().unwrap(),
        kind: own.kind,
        uri_sealed: own.uri_sealed,
        options: own.options,
        facts,
        continuous: None,
    };
    let twin = bench.catalog.deployments().add(twin, wall_clock()).await.unwrap().id;
    let set = async |seconds: i64| {
        bench
            .server
            .admin(doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": seconds })
            .await
            .unwrap();
    };
    // In whatever order they end.
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
        let mut leases = vec![];
        for (from, to, named) in
            [(300, 4000, bench.deployment), (4000, 7000, twin), (7000, 9000, bench.deployment)]
        {
            let new = catalog::NewSnapshot {
                deployment_id: bench.deployment,
                snapshot_type: catalog::SnapshotType::Scheduled,
                description: None,
                retention_days: Some(1),
            };
            bench.catalog.snapshots().request(new, wall_clock()).await.unwrap();
            let lease =
                bench.catalog.jobs().claim("raiser", &[], wall_clock(), 60_000).await.unwrap().unwrap();
            let detail = serde_json::json!({
                "host": bench.server.host_port(), "previous_seconds": from, "raised_to_seconds": to,
            });
            obligations.record(&lease, named, "historyWindow", &detail, wall_clock()).await.unwrap();
            set(to).await;
            leases.push(lease);
        }
        for at in order {
            let failed = catalog::Outcome::Failed { error: "a test".to_owned() };
            bench.catalog.jobs().finish(&leases[at], failed, wall_clock()).await.unwrap();
            engine.reconcilers().activate("reaper").await.unwrap();
        }
        assert_eq!(bench.window().await, 300, "{order:?}");
        assert_eq!(obligations.of_deployment(bench.deployment).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_is_told_of_an_earlier_window_while_it_puts_its_own_back() {
    let bench = Bench::start(Options::default()).await;
    let ours = bench.engine(bench.settings());
    bench.request().await;
    let lease = bench.catalog.jobs().claim("raiser", &[], wall_clock(), 60_000).await.unwrap().unwrap();
    let detail = |from: i64| {
        serde_json::json!({
            "host": bench.server.host_port(), "previous_seconds": from, "raised_to_seconds": 7000,
        })
    };
    let obligations = bench.catalog.obligations();
    obligations.record(&lease, bench.deployment, "historyWindow", &detail(4000), wall_clock()).await.unwrap();
    bench.server.admin(doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 7000 }).await.unwrap();
    // Read before the job that had raised it to 4000 ended, and undone after.
    let stale = obligations.of_job(lease.job_id).await.unwrap().remove(0);
    obligations.rewrite(bench.deployment, "historyWindow", |_| Some(detail(300))).await.unwrap();
    let permit = mongo::Permit::new(|| true);
    engine::jobs::discharge(ours.services(), &stale, permit).await.unwrap();
    assert_eq!(bench.window().await, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_dead_job_raised_is_put_back_by_the_reaper() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(10, 300, |n| Bson::Int64(n as i64))).await;
    let id = bench.request().await;
    // A worker that raises the window and dies, again and again until the job is given up.
    let lease = bench.catalog.jobs().claim("doomed", &[], wall_clock(), 1).await.unwrap().unwrap();
    let host = bench.server.host_port();
    let detail = serde_json::json!({ "host": host, "previous_seconds": 300, "raised_to_seconds": 4000 });
    bench
        .catalog
        .obligations()
        .record(&lease, bench.deployment, "historyWindow", &detail, wall_clock())
        .await
        .unwrap();
    bench.server.admin(doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 4000 }).await.unwrap();
    let engine = bench.engine(bench.settings());
    engine.reconcilers().activate("reaper").await.unwrap();
    assert_eq!(bench.window().await, 4000, "the job may still be taken over");
    let mut now = wall_clock();
    for _ in 0..catalog::ATTEMPTS_MAX {
        now = now.plus_ms(10);
        let _ = bench.catalog.jobs().claim("doomed", &[], now, 1).await.unwrap();
    }
    let snapshot = bench.catalog.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!(snapshot.state, SnapshotState::Failed);
    engine.reconcilers().activate("reaper").await.unwrap();
    assert_eq!(bench.window().await, 300);
    assert_eq!(bench.catalog.obligations().of_deployment(bench.deployment).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deployment_that_is_away_fails_the_snapshot_and_is_named() {
    let bench = small().await;
    bench.server.stop(0).await.unwrap();
    let snapshot = bench.try_snapshot(bench.settings(), None).await;
    assert_eq!(snapshot.state, SnapshotState::Failed);
    let error = snapshot.error.unwrap();
    assert!(error.contains("source") && error.contains(&bench.server.host_port()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_down_during_the_read_is_survived() {
    let bench = Bench::start(Options::default().members(3)).await;
    bench.fill("app", "things", documents(2_000, 300, |n| Bson::Int64(n as i64))).await;
    let attempts = Arc::new(AtomicU32::new(0));
    let bench = Arc::new(bench);
    let probe = support::probe({
        let (attempts, bench) = (Arc::clone(&attempts), Arc::downgrade(&bench));
        move |moment, _| {
            let (attempts, bench) = (Arc::clone(&attempts), bench.clone());
            async move {
                if moment == "snapshot.pinned" && attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                    let bench = bench.upgrade().unwrap();
                    let primary = bench.server.primary().await.unwrap();
                    bench.server.kill(primary).await.unwrap();
                }
            }
        }
    });
    let snapshot = bench.snapshot_with(bench.settings(), Some(probe)).await;
    // One attempt is enough when the new primary answers in time: what a majority has, every primary has.
    assert!(attempts.load(Ordering::SeqCst) >= 1);
    assert_eq!(bench.documents(&snapshot, "app.things").await.len(), 2_000);
    bench.assert_verifies(&snapshot).await;
}
