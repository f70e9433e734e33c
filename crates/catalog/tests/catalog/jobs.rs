//! Work items: claims, leases, outcomes.

use catalog::{ATTEMPTS_MAX, Catalog, Error, Outcome};
use model::{
    job::{Directive, JobState, Progress, Work},
    restore::RestoreState,
    snapshot::SnapshotState,
};
use serde_json::json;

use crate::support::{self, LEASE_MS, T0, at};

pub(crate) async fn oldest_first_and_by_kind(catalog: Catalog) {
    let (project, first) = support::source(&catalog).await;
    let second = support::deployment(&catalog, &project, "Cluster1").await;
    let done = support::snapshot(&catalog, &first, "m", T0).await;
    let jobs = catalog.jobs();
    assert_eq!(jobs.next_wakeup(&[]).await.unwrap(), None);
    let newer = support::request_snapshot(&catalog, &second, at(9)).await;
    let download = support::request_download(&catalog, &done, at(8)).await;
    let older = support::request_snapshot(&catalog, &first, at(7)).await;
    assert_eq!(jobs.next_wakeup(&["restore", "download"]).await.unwrap(), Some(at(8)));

    assert_eq!(jobs.claim("w", &["restore"], at(10), LEASE_MS).await.unwrap(), None);
    let lease = jobs.claim("w", &["restore", "download"], at(10), LEASE_MS).await.unwrap().unwrap();
    assert_eq!(lease.work, Work::Download { restore_job_id: download.id });
    assert_eq!(support::claim(&catalog, "w", at(11)).await.work, Work::Snapshot { snapshot_id: older.id });
    assert_eq!(support::claim(&catalog, "w", at(12)).await.work, Work::Snapshot { snapshot_id: newer.id });
    assert_eq!(jobs.claim("w", &[], at(13), LEASE_MS).await.unwrap(), None);
    assert_eq!(jobs.next_wakeup(&[]).await.unwrap(), Some(at(10).plus_ms(LEASE_MS)));
    assert_eq!(jobs.active().await.unwrap().len(), 3);
}

pub(crate) async fn an_expired_lease_is_taken_over_with_its_checkpoint(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let jobs = catalog.jobs();
    let first = support::claim(&catalog, "w1", at(2)).await;
    assert_eq!((first.epoch, first.attempt, first.checkpoint.as_ref()), (1, 1, None));
    let progress = Progress { phase: "read".to_owned(), documents_done: 5, ..Progress::default() };
    let checkpoint = json!({"at": [1, 2]});
    let beat = jobs.heartbeat(&first, at(20), LEASE_MS, Some(&progress), Some(&checkpoint)).await.unwrap();
    assert_eq!(beat, Directive::Continue);
    assert_eq!(jobs.heartbeat(&first, at(21), LEASE_MS, None, None).await.unwrap(), Directive::Continue);
    let shown = jobs.of_subject(&snapshot.id.to_string()).await.unwrap().unwrap();
    assert_eq!(
        (shown.state, shown.worker.as_deref(), shown.progress),
        (JobState::Running, Some("w1"), Some(progress))
    );
    assert_eq!(shown.lease_until, Some(at(51)));
    assert_eq!(jobs.get(first.job_id).await.unwrap().unwrap().work, first.work);

    assert_eq!(jobs.claim("w2", &[], at(50), LEASE_MS).await.unwrap(), None);
    let second = support::claim(&catalog, "w2", at(51)).await;
    assert_eq!((second.job_id, second.epoch, second.attempt), (first.job_id, 2, 2));
    assert_eq!(second.checkpoint, Some(checkpoint));
    assert_eq!(jobs.heartbeat(&first, at(52), LEASE_MS, None, None).await.unwrap(), Directive::Lost);
    assert_eq!(jobs.heartbeat(&second, at(52), LEASE_MS, None, None).await.unwrap(), Directive::Continue);
    let lost = jobs.finish(&first, support::completion("wrong"), at(53)).await;
    assert!(matches!(lost, Err(Error::LeaseLost { .. })), "{lost:?}");
    jobs.finish(&second, support::completion("right"), at(54)).await.unwrap();
    assert_eq!(
        catalog.snapshots().get(snapshot.id).await.unwrap().unwrap().manifest.as_deref(),
        Some("right")
    );
    assert_eq!(jobs.heartbeat(&second, at(55), LEASE_MS, None, None).await.unwrap(), Directive::Lost);
}

pub(crate) async fn an_item_that_kills_its_workers_is_given_up(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let done = support::snapshot(&catalog, &deployment, "m", T0).await;
    let restore = support::request_restore(&catalog, &done, at(1)).await;
    let snapshot = support::request_snapshot(&catalog, &deployment, at(2)).await;
    let mut now = at(10);
    for attempt in 1..=ATTEMPTS_MAX {
        let restore_lease = support::claim(&catalog, "w", now).await;
        let snapshot_lease = support::claim(&catalog, "w", now).await;
        assert_eq!((restore_lease.attempt, snapshot_lease.attempt), (attempt, attempt));
        catalog.objects().pin(&snapshot_lease, &support::names(&["x"])).await.unwrap();
        now = now.plus_ms(LEASE_MS);
    }
    assert_eq!(catalog.jobs().claim("w", &[], now, LEASE_MS).await.unwrap(), None);
    let restore = support::restore(&catalog, &restore).await;
    assert_eq!((restore.state, restore.finished_at), (RestoreState::Failed, Some(now)));
    assert!(restore.error.unwrap().contains("given up after 8 attempts"));
    let snapshot = catalog.snapshots().get(snapshot.id).await.unwrap().unwrap();
    assert_eq!(snapshot.state, SnapshotState::Failed);
    assert!(snapshot.error.unwrap().contains("given up"));
    let job = catalog.jobs().of_subject(&snapshot.id.to_string()).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_at), (JobState::Failed, Some(now)));
    assert_eq!(catalog.jobs().active().await.unwrap(), []);
}

pub(crate) async fn a_released_item_costs_no_attempt(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let mut epoch = 0;
    for round in 1..i64::from(ATTEMPTS_MAX) + 3 {
        let lease = support::claim(&catalog, "w", at(round)).await;
        assert_eq!(lease.attempt, 1);
        assert!(lease.epoch > epoch, "an epoch is never used twice");
        epoch = lease.epoch;
        catalog.jobs().release(&lease).await.unwrap();
        let lost = catalog.jobs().finish(&lease, support::completion("m"), at(round)).await;
        assert!(matches!(lost, Err(Error::LeaseLost { .. })), "what was given back is not ours any more");
        assert!(matches!(catalog.jobs().release(&lease).await, Err(Error::LeaseLost { .. })));
    }
    // Nor does anybody wait whose clock is behind.
    support::claim(&catalog, "behind", at(0)).await;
}

pub(crate) async fn a_retry_waits_for_its_time(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    catalog.jobs().retry_at(&lease, at(100), "the vault is away").await.unwrap();
    let job = catalog.jobs().of_subject(&snapshot.id.to_string()).await.unwrap().unwrap();
    assert_eq!(
        (job.state, job.error.as_deref(), job.worker),
        (JobState::Queued, Some("the vault is away"), None)
    );
    assert_eq!(catalog.jobs().claim("w", &[], at(99), LEASE_MS).await.unwrap(), None);
    assert_eq!(catalog.jobs().next_wakeup(&[]).await.unwrap(), Some(at(100)));
    assert_eq!(support::claim(&catalog, "w", at(100)).await.attempt, 2);
    assert!(matches!(catalog.jobs().retry_at(&lease, at(101), "x").await, Err(Error::LeaseLost { .. })));
    assert!(matches!(catalog.jobs().postpone(&lease, at(101), "x").await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn a_postponed_item_has_no_fewer_attempts_left(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    for now in 0..20 {
        let lease = support::claim(&catalog, "w", at(10 + 2 * now)).await;
        assert_eq!(lease.attempt, 1);
        let until = at(11 + 2 * now);
        catalog.jobs().postpone(&lease, until, "the target is away").await.unwrap();
        assert_eq!(catalog.jobs().next_wakeup(&[]).await.unwrap(), Some(until));
    }
}

pub(crate) async fn outcomes_have_to_fit(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    for outcome in [support::receipt(), support::ready(at(9)), Outcome::Cancelled] {
        let refused = catalog.jobs().finish(&lease, outcome, at(3)).await;
        assert!(matches!(refused, Err(Error::Illegal(_))), "{refused:?}");
    }
    let refused = catalog.restores().begin_cut_over(&lease, at(3)).await;
    assert!(matches!(refused, Err(Error::Illegal(_))), "{refused:?}");
    assert!(matches!(catalog.restores().record_archive(&lease, &json!({})).await, Err(Error::Illegal(_))));
    catalog.jobs().finish(&lease, support::completion("m"), at(4)).await.unwrap();

    let snapshot = support::snapshot(&catalog, &deployment, "m2", at(5)).await;
    support::request_download(&catalog, &snapshot, at(6)).await;
    let lease = support::claim(&catalog, "w", at(7)).await;
    for outcome in [support::receipt(), support::completion("m"), Outcome::Cancelled] {
        let refused = catalog.jobs().finish(&lease, outcome, at(8)).await;
        assert!(matches!(refused, Err(Error::Illegal(_))), "{refused:?}");
    }
    catalog.jobs().finish(&lease, support::failed("no space"), at(9)).await.unwrap();
}

pub(crate) async fn restores_that_were_taken_over_are_remembered(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let jobs = catalog.jobs();
    let since = async |time| jobs.restores_taken_over_since(time).await.unwrap();
    // One that its first worker ended.
    support::request_restore(&catalog, &snapshot, at(1)).await;
    let lease = support::claim(&catalog, "w1", at(2)).await;
    jobs.finish(&lease, support::failed("x"), at(3)).await.unwrap();
    support::request_restore(&catalog, &snapshot, at(4)).await;
    support::claim(&catalog, "w1", at(5)).await;
    let second = support::claim(&catalog, "w2", at(100)).await;
    assert_eq!(since(T0).await, [], "it has not ended");
    jobs.finish(&second, support::failed("x"), at(101)).await.unwrap();
    assert_eq!(since(at(101)).await, [(second.job_id, deployment.id)]);
    assert_eq!(since(at(102)).await, []);
    // One that has no target.
    support::request_download(&catalog, &snapshot, at(110)).await;
    support::claim(&catalog, "w1", at(111)).await;
    let second = support::claim(&catalog, "w2", at(200)).await;
    jobs.finish(&second, support::failed("x"), at(201)).await.unwrap();
    assert_eq!(since(T0).await.len(), 1);
    catalog.deployments().remove(deployment.id, at(300)).await.unwrap();
    assert_eq!(since(T0).await, [], "nobody can be asked any more");
}

pub(crate) async fn obligations_outlive_their_job(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let first = support::claim(&catalog, "w1", at(2)).await;
    let obligations = catalog.obligations();
    let before = json!({"seconds": 300});
    let kept = obligations.record(&first, deployment.id, "historyWindow", &before, at(3)).await.unwrap();
    assert_eq!(kept, before);
    let second = support::claim(&catalog, "w2", at(100)).await;
    let own_change = json!({"seconds": 3600});
    let kept =
        obligations.record(&second, deployment.id, "historyWindow", &own_change, at(101)).await.unwrap();
    assert_eq!(kept, before, "the first record counts");
    let lost = obligations.record(&first, deployment.id, "writeBlock", &json!(1), at(102)).await;
    assert!(matches!(lost, Err(Error::LeaseLost { .. })));

    let seconds = |seconds: i64| {
        move |standing: &catalog::Obligation| {
            (standing.detail["seconds"] == seconds).then(|| json!({"seconds": 60}))
        }
    };
    obligations.rewrite(deployment.id, "writeBlock", seconds(300)).await.unwrap();
    obligations.rewrite(deployment.id, "historyWindow", seconds(301)).await.unwrap();
    assert_eq!(obligations.of_job(first.job_id).await.unwrap()[0].detail, before);
    obligations.rewrite(deployment.id, "historyWindow", seconds(300)).await.unwrap();
    assert_eq!(obligations.of_job(first.job_id).await.unwrap()[0].detail, json!({"seconds": 60}));

    // The same set under another name, and another set.
    let project = catalog.projects().by_name("shop").await.unwrap().unwrap();
    let twin = support::deployment(&catalog, &project, "Twin").await;
    let of_twin = async || obligations.of_deployment(twin.id).await.unwrap().len();
    assert_eq!(of_twin().await, 0);
    for (id, set) in [(deployment.id, "one"), (twin.id, "other"), (twin.id, "one")] {
        assert_eq!(of_twin().await, 0);
        let facts = catalog::DeploymentFacts { replica_set_id: Some(set.to_owned()), ..twin.facts.clone() };
        catalog.deployments().update_facts(id, &facts).await.unwrap();
    }
    assert_eq!(of_twin().await, 1);
    obligations.rewrite(twin.id, "historyWindow", seconds(60)).await.unwrap();

    let all = obligations.of_deployment(deployment.id).await.unwrap();
    assert_eq!((all.len(), all[0].kind.as_str(), all[0].recorded_at), (1, "historyWindow", at(3)));
    assert_eq!(obligations.of_job(first.job_id).await.unwrap(), all);
    assert_eq!(obligations.orphaned().await.unwrap(), []);
    catalog.jobs().finish(&second, support::failed("x"), at(103)).await.unwrap();
    assert_eq!(obligations.orphaned().await.unwrap(), all);
    obligations.settle(first.job_id, deployment.id, "historyWindow").await.unwrap();
    obligations.settle(first.job_id, deployment.id, "historyWindow").await.unwrap();
    assert_eq!(obligations.orphaned().await.unwrap(), []);
}
