//! Restore jobs, one at a time; see `races` for many.

use catalog::{
    Catalog, CollectionFilter, CollectionSums, Conflict, Delivery, Error, Outcome, PROJECT_DOWNLOADS_MAX,
    Page, RestoreFilter, RestoredCollection, Snapshot,
};
use model::{
    ClusterTime, LinkTerms,
    collection_restore::CollectionStep,
    id::{DeploymentId, RestoreJobId, SnapshotId},
    job::{Directive, JobState, Work},
    restore::{CancelRefusal, DeliveryType, RestoreResource, RestoreState},
    timeline::PointInTime,
};
use serde_json::json;

use crate::support::{self, LEASE_MS, T0, at};

async fn source(catalog: &Catalog) -> Snapshot {
    let (_, deployment) = support::source(catalog).await;
    support::snapshot(catalog, &deployment, "m", T0).await
}

pub(crate) async fn a_restore_is_finished_only_through_a_cut_over(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let asked = support::request_restore(&catalog, &snapshot, at(1)).await;
    assert_eq!((asked.delivery, asked.state), (DeliveryType::Automated, RestoreState::Queued));
    assert_eq!(asked.snapshot_completed_at, snapshot.completed_at.unwrap());
    let target = asked.target.as_ref().unwrap();
    assert_eq!((target.deployment_id, target.deployment_name.as_str()), (snapshot.deployment_id, "Cluster0"));
    assert_eq!(asked.options, json!({"withUsers": true}));

    let lease = support::claim(&catalog, "w", at(2)).await;
    assert_eq!(lease.restore_state, Some(RestoreState::Running));
    let early = catalog.jobs().finish(&lease, support::receipt(), at(3)).await;
    assert!(matches!(early, Err(Error::Illegal(_))), "{early:?}");
    assert_eq!(support::restore(&catalog, &asked).await.state, RestoreState::Running);
    assert!(catalog.restores().begin_cut_over(&lease, at(4)).await.unwrap());
    assert!(catalog.restores().begin_cut_over(&lease, at(4)).await.unwrap(), "it can be begun again");
    let late = catalog.restores().request_cancel(asked.id, at(5)).await.unwrap();
    assert_eq!(late, Err(CancelRefusal::TooLate));

    catalog.jobs().finish(&lease, support::receipt(), at(6)).await.unwrap();
    let done = support::restore(&catalog, &asked).await;
    assert_eq!((done.state, done.finished_at), (RestoreState::Finished, Some(at(6))));
    assert_eq!(done.receipt, Some(json!({"collections": 3, "equal": true})));
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(7)).await.unwrap(),
        Err(CancelRefusal::TooLate)
    );
    let listing = catalog
        .restores()
        .list(RestoreFilter { deployment_id: snapshot.deployment_id, resource: None }, Page::default())
        .await
        .unwrap();
    assert_eq!((listing.items, listing.total), (vec![done], Some(1)));
}

pub(crate) async fn a_target_takes_one_restore_at_a_time(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let project = catalog.projects().by_name("shop").await.unwrap().unwrap();
    let other = support::deployment(&catalog, &project, "Other").await;
    let into = |target: DeploymentId| support::new_restore(&snapshot, Delivery::Automated { target });
    let busy = |result| assert!(matches!(result, Err(Error::Conflict(Conflict::TargetBusy))), "{result:?}");
    let first = support::request_restore(&catalog, &snapshot, at(1)).await;
    busy(catalog.restores().request(into(snapshot.deployment_id), at(2)).await);
    catalog.restores().request(into(other.id), at(2)).await.unwrap();
    let lease = support::claim(&catalog, "w", at(3)).await;
    let is_target = async || catalog.restores().is_target(snapshot.deployment_id).await.unwrap();
    assert!(is_target().await);
    busy(catalog.restores().request(into(snapshot.deployment_id), at(4)).await);
    catalog.restores().request_cancel(first.id, at(5)).await.unwrap().unwrap();
    busy(catalog.restores().request(into(snapshot.deployment_id), at(6)).await);
    assert!(is_target().await, "it is being cancelled");
    catalog.jobs().finish(&lease, Outcome::Cancelled, at(7)).await.unwrap();
    assert!(!is_target().await);
    let second = catalog.restores().request(into(snapshot.deployment_id), at(8)).await.unwrap();
    let listing = catalog
        .restores()
        .list(RestoreFilter { deployment_id: snapshot.deployment_id, resource: None }, Page::default())
        .await
        .unwrap();
    assert_eq!(
        (listing.items[0].id, listing.total),
        (second.id, Some(3)),
        "newest first, refused ones left nothing"
    );
}

pub(crate) async fn one_replica_set_takes_one_restore_under_whatever_names(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let project = catalog.projects().by_name("shop").await.unwrap().unwrap();
    let named = async |name: &str, set: Option<&str>| {
        let mut new = support::new_deployment(&project, name);
        new.facts.replica_set_id = set.map(str::to_owned);
        catalog.deployments().add(new, T0).await.unwrap().id
    };
    let (one, twin) = (named("One", Some("id-1")).await, named("Twin", Some("id-1")).await);
    let unseen = named("Unseen", None).await;
    let other = named("Other", Some("id-2")).await;
    let ask = async |target: DeploymentId, now| {
        catalog.restores().request(support::new_restore(&snapshot, Delivery::Automated { target }), now).await
    };
    let busy = |error: Error| assert!(matches!(error, Error::Conflict(Conflict::TargetBusy)), "{error:?}");
    ask(one, at(1)).await.unwrap();
    busy(ask(twin, at(2)).await.unwrap_err());
    ask(other, at(3)).await.unwrap();
    ask(unseen, at(4)).await.unwrap();
    let (first, second, third) = (
        support::claim(&catalog, "w", at(5)).await,
        support::claim(&catalog, "w", at(5)).await,
        support::claim(&catalog, "w", at(5)).await,
    );
    // The worker finds out what nobody knew when it was asked for.
    busy(catalog.restores().claim_target(&third, "id-1").await.unwrap_err());
    busy(catalog.restores().claim_target(&second, "id-1").await.unwrap_err());
    catalog.restores().claim_target(&first, "id-1").await.unwrap();
    catalog.jobs().finish(&first, support::failed("x"), at(6)).await.unwrap();
    catalog.restores().claim_target(&third, "id-1").await.unwrap();
    catalog.restores().claim_target(&third, "id-1").await.unwrap();
    busy(ask(twin, at(7)).await.unwrap_err());
    assert!(matches!(catalog.restores().claim_target(&first, "id-3").await, Err(Error::LeaseLost { .. })));
}

pub(crate) async fn downloads_are_limited(catalog: Catalog) {
    let project = support::project(&catalog).await;
    let mut snapshots = Vec::new();
    for number in 0..=PROJECT_DOWNLOADS_MAX {
        let deployment = support::deployment(&catalog, &project, &format!("C{number}")).await;
        snapshots.push(support::snapshot(&catalog, &deployment, &format!("m{number}"), at(1)).await);
    }
    let ask = |index: usize, now| {
        let (catalog, new) = (&catalog, support::new_restore(&snapshots[index], support::DOWNLOAD));
        async move { catalog.restores().request(new, now).await }
    };
    let first = ask(0, at(2)).await.unwrap();
    assert_eq!((first.delivery, &first.target), (DeliveryType::Download, &None));
    assert!(matches!(ask(0, at(3)).await, Err(Error::Conflict(Conflict::SnapshotDownloading))));
    for index in 1..snapshots.len() - 1 {
        ask(index, at(4)).await.unwrap();
    }
    let last = snapshots.len() - 1;
    let limit = PROJECT_DOWNLOADS_MAX;
    let refused = ask(last, at(5)).await;
    assert!(matches!(refused, Err(Error::Conflict(Conflict::TooManyDownloads { limit: l })) if l == limit));

    let lease = support::claim(&catalog, "w", at(6)).await;
    catalog.jobs().finish(&lease, support::ready(at(100)), at(7)).await.unwrap();
    assert!(matches!(ask(0, at(8)).await, Err(Error::Conflict(_))), "an archive that waits is active");
    ask(last, at(100)).await.expect("an archive whose time is over makes room");
    assert_eq!(support::restore(&catalog, &first).await.state, RestoreState::Expired);
}

pub(crate) async fn an_archive_is_fetched_once_or_expires(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let restores = catalog.restores();
    let asked = support::request_download(&catalog, &snapshot, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    restores.record_archive(&lease, &json!({"name": "abcd"})).await.unwrap();
    assert_eq!(restores.begin_delivery(asked.id, "token-hash", at(2)).await.unwrap(), None);
    assert_eq!(restores.dead_archives().await.unwrap(), [], "it is being made");
    catalog.jobs().finish(&lease, support::ready(at(100)), at(3)).await.unwrap();

    assert_eq!(restores.begin_delivery(asked.id, "wrong", at(4)).await.unwrap(), None);
    assert_eq!(
        restores.begin_delivery(asked.id, "token-hash", at(100)).await.unwrap(),
        None,
        "its time is over"
    );
    let begun = restores.begin_delivery(asked.id, "token-hash", at(5)).await.unwrap().unwrap();
    assert_eq!((begun.state, begun.deliveries, begun.expires_at), (RestoreState::Ready, 1, Some(at(100))));
    assert!(!restores.consume_download(asked.id, "wrong", at(6)).await.unwrap());
    assert!(restores.consume_download(asked.id, "token-hash", at(6)).await.unwrap());
    assert!(!restores.consume_download(asked.id, "token-hash", at(6)).await.unwrap());
    assert_eq!(restores.begin_delivery(asked.id, "token-hash", at(7)).await.unwrap(), None);
    let fetched = support::restore(&catalog, &asked).await;
    assert_eq!((fetched.state, fetched.downloads), (RestoreState::Expired, 1));
    assert_eq!(restores.request_cancel(asked.id, at(8)).await.unwrap(), Err(CancelRefusal::Expired));

    assert_eq!(restores.dead_archives().await.unwrap(), [fetched]);
    restores.forget_archive(asked.id).await.unwrap();
    assert_eq!(restores.dead_archives().await.unwrap(), []);

    let second = support::request_download(&catalog, &snapshot, at(10)).await;
    let lease = support::claim(&catalog, "w", at(11)).await;
    catalog.jobs().finish(&lease, support::ready(at(100)), at(12)).await.unwrap();
    restores.forget_archive(second.id).await.unwrap();
    assert!(support::restore(&catalog, &second).await.archive.is_some(), "not before a final state");
    assert_eq!(restores.expire_due(at(99)).await.unwrap(), []);
    assert_eq!(restores.expire_due(at(100)).await.unwrap(), [second.id]);
    assert_eq!(support::restore(&catalog, &second).await.downloads, 0);

    let third = support::request_download(&catalog, &snapshot, at(110)).await;
    let lease = support::claim(&catalog, "w", at(111)).await;
    catalog.jobs().finish(&lease, support::ready(at(200)), at(112)).await.unwrap();
    assert_eq!(restores.request_cancel(third.id, at(113)).await.unwrap(), Ok(RestoreState::Cancelled));
    assert_eq!(restores.begin_delivery(third.id, "token-hash", at(114)).await.unwrap(), None);

    // Its time is over, though nobody has written that down yet.
    let fourth = support::request_download(&catalog, &snapshot, at(120)).await;
    let lease = support::claim(&catalog, "w", at(121)).await;
    catalog.jobs().finish(&lease, support::ready(at(200)), at(122)).await.unwrap();
    assert_eq!(restores.request_cancel(fourth.id, at(200)).await.unwrap(), Err(CancelRefusal::Expired));
    assert_eq!(support::restore(&catalog, &fourth).await.state, RestoreState::Expired);
}

pub(crate) async fn an_archive_is_fetched_as_often_as_it_may_be(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let restores = catalog.restores();
    let terms = LinkTerms::new(48, 3).unwrap();
    let new = support::new_restore(&snapshot, Delivery::Download { terms });
    let asked = restores.request(new, at(1)).await.unwrap();
    assert_eq!((asked.terms, asked.downloads), (terms, 0));
    let lease = support::claim(&catalog, "w", at(2)).await;
    catalog.jobs().finish(&lease, support::ready(at(100)), at(3)).await.unwrap();
    for (count, state, expires_at) in [
        (1, RestoreState::Ready, at(100)),
        (2, RestoreState::Ready, at(100)),
        (3, RestoreState::Expired, at(7)),
    ] {
        assert!(restores.begin_delivery(asked.id, "token-hash", at(6)).await.unwrap().is_some());
        assert!(restores.consume_download(asked.id, "token-hash", at(7)).await.unwrap());
        let is = support::restore(&catalog, &asked).await;
        assert_eq!((is.downloads, is.state, is.expires_at), (count, state, Some(expires_at)));
    }
    assert!(!restores.consume_download(asked.id, "token-hash", at(8)).await.unwrap());
    assert_eq!(restores.begin_delivery(asked.id, "token-hash", at(8)).await.unwrap(), None);
    assert_eq!(support::restore(&catalog, &asked).await.downloads, 3);
}

pub(crate) async fn a_cancel_in_the_queue_ends_the_job_too(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let asked = support::request_restore(&catalog, &snapshot, at(1)).await;
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(2)).await.unwrap(),
        Ok(RestoreState::Cancelled)
    );
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(3)).await.unwrap(),
        Ok(RestoreState::Cancelled)
    );
    let job = catalog.jobs().of_subject(&asked.id.to_string()).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_at), (JobState::Cancelled, Some(at(2))));
    assert_eq!(catalog.jobs().claim("w", &[], at(4), LEASE_MS).await.unwrap(), None);
    assert_eq!(
        support::restore(&catalog, &asked).await.finished_at,
        Some(at(2)),
        "a second cancel changes nothing"
    );
    let nobody = catalog.restores().request_cancel(RestoreJobId::from_parts(1, [1; 8]), at(5)).await;
    assert!(matches!(nobody, Err(Error::NotFound { what: "restore job", .. })));
}

pub(crate) async fn a_running_restore_is_cancelled_by_its_worker(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let asked = support::request_restore(&catalog, &snapshot, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    let beat = async || catalog.jobs().heartbeat(&lease, at(3), LEASE_MS, None, None).await.unwrap();
    assert_eq!(beat().await, Directive::Continue);
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(4)).await.unwrap(),
        Ok(RestoreState::Cancelling)
    );
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(4)).await.unwrap(),
        Ok(RestoreState::Cancelling)
    );
    assert_eq!(beat().await, Directive::Cancel);
    assert!(!catalog.restores().begin_cut_over(&lease, at(5)).await.unwrap());
    assert_eq!(support::restore(&catalog, &asked).await.state, RestoreState::Cancelling);

    // The worker dies; the next one learns what it is about.
    let next = support::claim(&catalog, "w2", at(60)).await;
    assert_eq!(next.restore_state, Some(RestoreState::Cancelling));
    catalog.jobs().finish(&next, Outcome::Cancelled, at(61)).await.unwrap();
    let done = support::restore(&catalog, &asked).await;
    assert_eq!((done.state, done.finished_at), (RestoreState::Cancelled, Some(at(61))));

    // Given back to be tried later, then cancelled: the clean-up does not wait for later.
    let asked = support::request_restore(&catalog, &snapshot, at(70)).await;
    let lease = support::claim(&catalog, "w", at(71)).await;
    catalog.jobs().retry_at(&lease, at(10_000), "the target is away").await.unwrap();
    assert_eq!(
        catalog.restores().request_cancel(asked.id, at(72)).await.unwrap(),
        Ok(RestoreState::Cancelling)
    );
    let lease = support::claim(&catalog, "w", at(72)).await;
    assert_eq!(lease.restore_state, Some(RestoreState::Cancelling));
}

pub(crate) async fn a_point_in_time_stays_with_its_restore(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    let target = snapshot.deployment_id;
    let base = snapshot.base().unwrap().complete_at;
    let to = |at| support::new_restore(&snapshot, Delivery::PointInTime { target, at });
    // Beyond what fits a signed number, with the highest increment there is.
    let last = ClusterTime { seconds: u32::MAX, increment: u32::MAX };
    for (at, now) in [
        (PointInTime::Operation(base), 1),
        (PointInTime::Operation(last), 20),
        (PointInTime::Second(base.seconds + 1), 40),
    ] {
        let asked = catalog.restores().request(to(at), self::at(now)).await.unwrap();
        assert_eq!((asked.delivery, asked.state), (DeliveryType::PointInTime, RestoreState::Queued));
        assert_eq!((asked.point_in_time, asked.snapshot_id), (Some(at), snapshot.id));
        assert_eq!(asked.target.as_ref().map(|target| target.deployment_id), Some(target));
        assert_eq!(support::restore(&catalog, &asked).await, asked, "read as it was written");
        // It is one of the restores of which a target takes one at a time.
        let delivery = Delivery::Automated { target };
        let second =
            catalog.restores().request(support::new_restore(&snapshot, delivery), self::at(now)).await;
        assert!(matches!(second, Err(Error::Conflict(Conflict::TargetBusy))), "{second:?}");
        let lease = support::claim(&catalog, "w", self::at(now + 1)).await;
        assert_eq!(lease.work, Work::Restore { restore_job_id: asked.id });
        assert!(catalog.restores().begin_cut_over(&lease, self::at(now + 2)).await.unwrap());
        catalog.jobs().finish(&lease, support::receipt(), self::at(now + 3)).await.unwrap();
        let done = support::restore(&catalog, &asked).await;
        assert_eq!((done.state, done.point_in_time), (RestoreState::Finished, Some(at)));
    }
    assert_eq!(support::request_restore(&catalog, &snapshot, at(60)).await.point_in_time, None);
    assert_eq!(support::request_download(&catalog, &snapshot, at(60)).await.point_in_time, None);
}

pub(crate) async fn no_fold_goes_backwards(catalog: Catalog) {
    let snapshot = source(&catalog).await;
    // A collection of it is later than the rest, and there is no state of all before that.
    let (target, base) = (snapshot.deployment_id, snapshot.base().unwrap().complete_at);
    assert!(snapshot.cluster_time.unwrap() < base);
    let just_before = ClusterTime { increment: base.increment - 1, ..base };
    for at in [PointInTime::Operation(just_before), PointInTime::Second(base.seconds)] {
        let new = support::new_restore(&snapshot, Delivery::PointInTime { target, at });
        let refused = catalog.restores().request(new, self::at(1)).await;
        assert!(matches!(refused, Err(Error::Illegal(ref e)) if e.machine == "snapshot"), "{refused:?}");
    }
    let filter = RestoreFilter { deployment_id: target, resource: None };
    assert_eq!(catalog.restores().list(filter, Page::default()).await.unwrap().items, []);
}

pub(crate) async fn what_cannot_be_restored_is_refused(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let done = support::snapshot(&catalog, &deployment, "m", T0).await;
    let queued = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let illegal = catalog.restores().request(support::new_restore(&queued, support::DOWNLOAD), at(2)).await;
    assert!(matches!(illegal, Err(Error::Illegal(ref e)) if e.state == "queued"), "{illegal:?}");
    catalog.snapshots().delete(done.id, at(3)).await.unwrap();
    let deleted = catalog.restores().request(support::new_restore(&done, support::DOWNLOAD), at(4)).await;
    assert!(matches!(deleted, Err(Error::Illegal(ref e)) if e.state == "deleted"), "{deleted:?}");

    let mut unknown = support::new_restore(&done, support::DOWNLOAD);
    unknown.snapshot_id = SnapshotId::from_parts(1, [1; 8]);
    let missing = catalog.restores().request(unknown, at(5)).await;
    assert!(matches!(missing, Err(Error::NotFound { what: "snapshot", .. })), "{missing:?}");
    let removed = support::deployment(&catalog, &project, "Gone").await;
    catalog.deployments().remove(removed.id, at(6)).await.unwrap();
    let nowhere = support::new_restore(&done, Delivery::Automated { target: removed.id });
    let missing = catalog.restores().request(nowhere, at(7)).await;
    assert!(matches!(missing, Err(Error::NotFound { what: "deployment", .. })), "{missing:?}");
}

fn collection(ordinal: u64, source: &str, target: &str) -> RestoredCollection {
    RestoredCollection {
        ordinal,
        source: source.to_owned(),
        target: target.to_owned(),
        effective_target: format!("{target}_restored"),
        step: CollectionStep::Waiting,
        documents_total: 100,
        documents_done: 0,
        error: None,
    }
}

pub(crate) async fn a_collection_restore_is_listed_with_its_kind_and_tells_of_each_collection(
    catalog: Catalog,
) {
    let snapshot = source(&catalog).await;
    let delivery = Delivery::Automated { target: snapshot.deployment_id };
    let whole = support::request_restore(&catalog, &snapshot, at(1)).await;
    catalog.restores().request_cancel(whole.id, at(2)).await.unwrap().unwrap();
    let new = support::new_restore(&snapshot, delivery);
    let resource = RestoreResource::CollectionRestoreJob;
    let part = catalog.restores().request_as(resource, new, at(3)).await.unwrap();
    assert_eq!((whole.resource, part.resource), (RestoreResource::RestoreJob, resource));
    for (resource, expected) in [
        (None, vec![part.id, whole.id]),
        (Some(RestoreResource::RestoreJob), vec![whole.id]),
        (Some(RestoreResource::CollectionRestoreJob), vec![part.id]),
    ] {
        let filter = RestoreFilter { deployment_id: snapshot.deployment_id, resource };
        let listing = catalog.restores().list(filter, Page::default()).await.unwrap();
        assert_eq!(listing.items.iter().map(|job| job.id).collect::<Vec<_>>(), expected);
        assert_eq!(listing.total, Some(expected.len() as u64));
    }

    let lease = support::claim(&catalog, "w", at(4)).await;
    let restores = catalog.restores();
    let all = CollectionFilter::default();
    assert_eq!(restores.collections(part.id, &all, Page::default()).await.unwrap().total, Some(0));
    assert!(restores.collection_sums(&[part.id, whole.id]).await.unwrap().is_empty());
    restores.begin_collections(&lease, &[collection(0, "a.gone", "a.gone")]).await.unwrap();
    // More than one statement takes, and those of an earlier attempt are forgotten.
    let mut lines: Vec<_> = (0..120).map(|n| collection(n, &format!("a.c{n:03}"), "b.x")).collect();
    lines[119].step = CollectionStep::Unsupported;
    restores.begin_collections(&lease, &lines).await.unwrap();
    let second = restores.collections(part.id, &all, Page::new(2, 50)).await.unwrap();
    assert_eq!((second.items.as_slice(), second.total), (&lines[50..100], Some(120)));
    lines[7] = RestoredCollection {
        step: CollectionStep::IndexesFailed,
        documents_done: 60,
        documents_total: 70,
        error: Some("no \0 index".to_owned()),
        ..lines[7].clone()
    };
    lines[8] = RestoredCollection { step: CollectionStep::Staged, documents_done: 100, ..lines[8].clone() };
    restores.tell_collections(&lease, &lines[7..9]).await.unwrap();
    lines[7].error = Some("no \u{fffd} index".to_owned());
    let only = |steps: Option<Vec<CollectionStep>>, source: Option<&str>, target: Option<&str>| {
        CollectionFilter { steps, source: source.map(str::to_owned), target: target.map(str::to_owned) }
    };
    for (filter, expected) in [
        (only(Some(vec![CollectionStep::IndexesFailed, CollectionStep::Staged]), None, None), &lines[7..9]),
        (only(Some(vec![CollectionStep::Staged]), Some("a.c008"), Some("b.x")), &lines[8..9]),
        (only(None, Some("a.c008"), None), &lines[8..9]),
        (only(Some(vec![]), None, None), &[]),
        (only(None, Some("a.c008"), Some("b.y")), &[]),
    ] {
        let found = restores.collections(part.id, &filter, Page::default()).await.unwrap();
        assert_eq!(
            (found.items.as_slice(), found.total),
            (expected, Some(expected.len() as u64)),
            "{filter:?}"
        );
    }
    let sums = restores.collection_sums(&[whole.id, part.id]).await.unwrap();
    let expected = CollectionSums {
        told: 120,
        documents_total: 118 * 100 + 70,
        documents_done: 160,
        documents_in_place: 0,
        indexes_failed: 1,
        indexing: 0,
        indexed: 1,
        restored: 119,
    };
    assert_eq!(sums.into_iter().collect::<Vec<_>>(), [(part.id, expected)]);

    // Who lost the lease tells nothing.
    catalog.jobs().release(&lease).await.unwrap();
    let late = restores.tell_collections(&lease, &lines[..1]).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    let late = restores.begin_collections(&lease, &[]).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    assert_eq!(restores.collections(part.id, &all, Page::default()).await.unwrap().total, Some(120));
}
