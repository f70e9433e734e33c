//! Snapshots.

use catalog::{Catalog, Conflict, Error, Page, Protection, SnapshotFilter, SnapshotType};
use model::{ClusterTime, id::SnapshotId, job::JobState, snapshot::SnapshotState};

use crate::support::{self, T0, at};

const DAY_MS: i64 = 86_400_000;

pub(crate) async fn one_on_demand_snapshot_at_a_time(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let other = support::deployment(&catalog, &project, "Cluster1").await;
    let request = |deployment, kind, now| {
        let catalog = &catalog;
        async move { catalog.snapshots().request(support::new_snapshot(deployment, kind), now).await }
    };
    let refused =
        |result| assert!(matches!(result, Err(Error::Conflict(Conflict::OnDemandUnfinished))), "{result:?}");

    request(&deployment, SnapshotType::OnDemand, at(1)).await.unwrap();
    refused(request(&deployment, SnapshotType::OnDemand, at(2)).await);
    request(&other, SnapshotType::OnDemand, at(3)).await.unwrap();
    let lease = support::claim(&catalog, "w", at(4)).await;
    refused(request(&deployment, SnapshotType::OnDemand, at(5)).await);
    request(&deployment, SnapshotType::Scheduled, at(6)).await.unwrap();
    catalog.jobs().finish(&lease, support::failed("no luck"), at(7)).await.unwrap();
    request(&deployment, SnapshotType::OnDemand, at(8)).await.unwrap();
    assert_eq!(catalog.jobs().active().await.unwrap().len(), 3, "what was refused left no work item");
}

pub(crate) async fn a_snapshot_lives_and_dies_as_the_model_says(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let asked = support::request_snapshot(&catalog, &deployment, at(1)).await;
    assert_eq!(
        (asked.state, asked.project_id, asked.requested_at),
        (SnapshotState::Queued, project.id, at(1))
    );
    assert_eq!(asked.expires_at, Some(at(1).plus_ms(7 * DAY_MS)));
    let id = asked.id;
    let illegal = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Illegal(_))), "{result:?}");
    illegal(catalog.snapshots().delete(id, at(2)).await);
    illegal(catalog.snapshots().update_retention(id, at(99)).await.map(drop));

    let lease = support::claim(&catalog, "w", at(3)).await;
    assert_eq!(catalog.snapshots().get(id).await.unwrap().unwrap().state, SnapshotState::InProgress);
    illegal(catalog.snapshots().delete(id, at(4)).await);
    catalog.jobs().finish(&lease, support::completion("manifest-1"), at(5)).await.unwrap();
    let done = catalog.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!((done.state, done.completed_at), (SnapshotState::Completed, Some(at(5))));
    assert_eq!(done.expires_at, Some(at(5).plus_ms(7 * DAY_MS)), "kept from its completion on");
    let cluster_time = ClusterTime { seconds: 4_000_000_000, increment: 7 };
    assert_eq!(done.cluster_time, Some(cluster_time));
    assert_eq!(done.last_as_of, Some(ClusterTime { increment: 9, ..cluster_time }));
    let unknown = SnapshotId::from_parts(1, [1; 8]);
    let times = catalog.snapshots().cluster_times(&[unknown, id]).await.unwrap();
    assert_eq!(times.into_iter().collect::<Vec<_>>(), [(id, cluster_time)]);
    assert!(catalog.snapshots().cluster_times(&[]).await.unwrap().is_empty());
    assert_eq!(
        (done.manifest.as_deref(), done.documents, done.logical_bytes),
        (Some("manifest-1"), 1_000, 1 << 40)
    );
    assert_eq!(done.notes, serde_json::json!({"capped": []}));
    let job = catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended_at), (JobState::Succeeded, Some(at(5))));

    let changed = catalog.snapshots().update_retention(id, at(100)).await.unwrap();
    assert_eq!(changed.expires_at, Some(at(100)));
    assert_eq!(catalog.snapshots().expired(at(99)).await.unwrap(), []);
    assert_eq!(catalog.snapshots().expired(at(100)).await.unwrap(), [changed]);
    catalog.snapshots().delete(id, at(101)).await.unwrap();
    illegal(catalog.snapshots().delete(id, at(102)).await);
    let tombstone = catalog.snapshots().get(id).await.unwrap().unwrap();
    assert_eq!((tombstone.state, tombstone.deleted_at), (SnapshotState::Deleted, Some(at(101))));
    assert_eq!(catalog.snapshots().expired(at(200)).await.unwrap(), []);

    let failed = support::request_snapshot(&catalog, &deployment, at(110)).await;
    let lease = support::claim(&catalog, "w", at(111)).await;
    catalog.jobs().finish(&lease, support::failed("the oplog ran away"), at(112)).await.unwrap();
    let failed = catalog.snapshots().get(failed.id).await.unwrap().unwrap();
    assert_eq!((failed.state, failed.error.as_deref()), (SnapshotState::Failed, Some("the oplog ran away")));
    catalog.snapshots().delete(failed.id, at(113)).await.unwrap();

    let nobody = SnapshotId::from_parts(1, [1; 8]);
    assert_eq!(catalog.snapshots().get(nobody).await.unwrap(), None);
    assert!(matches!(catalog.snapshots().delete(nobody, T0).await, Err(Error::NotFound { .. })));
    assert!(matches!(catalog.snapshots().update_retention(nobody, T0).await, Err(Error::NotFound { .. })));
}

pub(crate) async fn what_is_not_to_be_deleted_stays(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshots = catalog.snapshots();
    let queued = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let on = snapshots.protect(queued.id, Protection::On).await;
    assert!(matches!(on, Err(Error::Illegal(_))), "it may still fail: {on:?}");
    let lease = support::claim(&catalog, "w", at(2)).await;
    catalog.jobs().finish(&lease, support::completion("m"), at(3)).await.unwrap();

    let kept = snapshots.protect(queued.id, Protection::On).await.unwrap();
    assert_eq!((kept.do_not_delete, kept.expires_at), (true, None));
    assert_eq!(snapshots.expired(at(4_000_000)).await.unwrap(), []);
    for refused in [
        snapshots.delete(kept.id, at(4)).await.unwrap_err(),
        snapshots.update_retention(kept.id, at(99)).await.unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Conflict(Conflict::SnapshotKept)), "{refused:?}");
    }
    assert_eq!(snapshots.get(kept.id).await.unwrap(), Some(kept.clone()));

    let free = snapshots.protect(kept.id, Protection::Off { expires_at: None }).await.unwrap();
    assert_eq!((free.do_not_delete, free.expires_at), (false, None), "it has no expiry until it gets one");
    assert_eq!(snapshots.update_retention(kept.id, at(50)).await.unwrap().expires_at, Some(at(50)));
    let free = snapshots.protect(kept.id, Protection::Off { expires_at: None }).await.unwrap();
    assert_eq!(free.expires_at, Some(at(50)), "nothing was to be taken back");
    snapshots.protect(kept.id, Protection::On).await.unwrap();
    let free = snapshots.protect(kept.id, Protection::Off { expires_at: Some(at(60)) }).await.unwrap();
    assert_eq!(free.expires_at, Some(at(60)));
    snapshots.delete(kept.id, at(5)).await.unwrap();
    let gone = snapshots.protect(kept.id, Protection::On).await;
    assert!(matches!(gone, Err(Error::Illegal(_))), "{gone:?}");
    let nobody = SnapshotId::from_parts(1, [1; 8]);
    let unknown = snapshots.protect(nobody, Protection::On).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

pub(crate) async fn lists_are_paged_newest_first(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let other = support::deployment(&catalog, &project, "Cluster1").await;
    support::snapshot(&catalog, &other, "other", at(1)).await;
    let mut expected = Vec::new();
    for second in 1..=5 {
        let manifest = format!("m{second}");
        expected.insert(0, support::snapshot(&catalog, &deployment, &manifest, at(second)).await);
    }
    let all = SnapshotFilter::of(deployment.id);
    let first = catalog.snapshots().list(all, Page::new(1, 2)).await.unwrap();
    assert_eq!((first.items.as_slice(), first.total), (&expected[..2], Some(5)));
    let last = catalog.snapshots().list(all, Page::new(3, 2)).await.unwrap();
    assert_eq!(last.items, expected[4..]);
    assert_eq!(catalog.snapshots().list(all, Page::new(4, 2)).await.unwrap().items, []);

    catalog.snapshots().delete(expected[0].id, at(10)).await.unwrap();
    let queued = support::request_snapshot(&catalog, &deployment, at(11)).await;
    let listing = catalog.snapshots().list(all, Page::default()).await.unwrap();
    assert_eq!((listing.items[0].id, listing.total), (queued.id, Some(5)), "the deleted one is not listed");
    let only = SnapshotFilter { completed: Some(true), ..all };
    assert_eq!(catalog.snapshots().list(only, Page::default()).await.unwrap().items, expected[1..]);
    let others = SnapshotFilter { completed: Some(false), ..all };
    assert_eq!(catalog.snapshots().list(others, Page::default()).await.unwrap().items, [queued]);

    let with =
        |seconds, increment| SnapshotFilter { not_after: Some(ClusterTime { seconds, increment }), ..all };
    for (filter, count) in [
        (with(4_000_000_000, 7), 4),
        (with(4_000_000_000, 6), 0),
        (with(3_999_999_999, u32::MAX), 0),
        (with(u32::MAX, 0), 4),
    ] {
        let listing = catalog.snapshots().list(filter, Page::default()).await.unwrap();
        assert_eq!((listing.items.len(), listing.total), (count, Some(count as u64)), "{filter:?}");
    }
}

pub(crate) async fn manifests_stay_while_a_restore_reads_them(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let kept = support::snapshot(&catalog, &deployment, "kept", at(1)).await;
    let read = support::snapshot(&catalog, &deployment, "read", at(2)).await;
    let restore = support::request_restore(&catalog, &read, at(3)).await;
    catalog.snapshots().delete(read.id, at(4)).await.unwrap();
    let both = [(kept.id, "kept".to_owned()), (read.id, "read".to_owned())];
    let mut live = catalog.snapshots().live_manifests().await.unwrap();
    live.sort_by_key(|(_, name)| name.clone());
    assert_eq!(live, both);
    assert_eq!(catalog.snapshots().dead_manifests().await.unwrap(), []);

    catalog.restores().request_cancel(restore.id, at(5)).await.unwrap().unwrap();
    assert_eq!(catalog.snapshots().live_manifests().await.unwrap(), both[..1]);
    assert_eq!(catalog.snapshots().dead_manifests().await.unwrap(), both[1..]);
    catalog.snapshots().forget_manifest(read.id).await.unwrap();
    catalog.snapshots().forget_manifest(kept.id).await.unwrap();
    assert_eq!(catalog.snapshots().dead_manifests().await.unwrap(), []);
    assert_eq!(
        catalog.snapshots().live_manifests().await.unwrap(),
        both[..1],
        "only a deleted one's is forgotten"
    );
}
