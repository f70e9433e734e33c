//! Exports and their buckets: one export of a snapshot at a time, each with a prefix of its own, and nothing that one needs
//! goes while it is under way.

use std::sync::LazyLock;

use catalog::{
    Catalog, Conflict, Deployment, Error, ExportBucket, ExportJob, NewExport, NewExportBucket, Outcome, Page,
    Snapshot,
};
use model::{
    export::{ExportState, Label},
    job::{Directive, JobState, Progress, Work},
    organization::Organization,
};

use crate::support::{self, LEASE_MS, T0, at};

async fn bucket(catalog: &Catalog, deployment: &Deployment) -> ExportBucket {
    let new = NewExportBucket {
        project_id: deployment.project_id,
        place: "archive".parse().unwrap(),
        iam_role_id: "0123456789abcdef01234567".to_owned(),
    };
    catalog.export_buckets().add(new, T0).await.unwrap()
}

fn new(deployment: &Deployment, snapshot: &Snapshot, bucket: &ExportBucket) -> NewExport<'static> {
    static ORGANIZATION: LazyLock<Organization> = LazyLock::new(Organization::default);
    NewExport {
        deployment_id: deployment.id,
        snapshot_id: snapshot.id,
        bucket_id: bucket.id,
        custom_data: vec![Label { key: "a".to_owned(), value: "b\0c".to_owned() }],
        organization: &ORGANIZATION,
        scheduled: false,
    }
}

async fn get(catalog: &Catalog, job: &ExportJob) -> ExportJob {
    catalog.exports().get(job.id).await.unwrap().unwrap()
}

async fn work(catalog: &Catalog, job: &ExportJob) -> catalog::Job {
    catalog.jobs().of_subject(&job.id.to_string()).await.unwrap().unwrap()
}

pub(crate) async fn an_export_goes_from_its_request_to_its_end(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let bucket = bucket(&catalog, &deployment).await;
    assert_eq!(catalog.export_buckets().get(bucket.id).await.unwrap(), Some(bucket.clone()));
    let listed = catalog.export_buckets().list(project.id, Page::default()).await.unwrap();
    assert_eq!((listed.items, listed.total), (vec![bucket.clone()], Some(1)));

    let now = at(100);
    let job = catalog.exports().request(new(&deployment, &snapshot, &bucket), now).await.unwrap();
    assert_eq!((job.state, &job.progress, job.finished_at), (ExportState::Queued, &None, None));
    assert_eq!((job.bucket_id, job.snapshot_id, job.created_at), (bucket.id, snapshot.id, now));
    assert!(
        job.prefix
            .starts_with(&format!("exported_snapshots/5ebb71de0000000000000001/{}/Cluster0/", project.id)),
        "{}",
        job.prefix
    );
    assert!(job.prefix.ends_with(&format!("/{}", now.seconds())), "{}", job.prefix);
    let again = catalog.exports().request(new(&deployment, &snapshot, &bucket), now).await.unwrap_err();
    assert!(matches!(again, Error::Conflict(Conflict::SnapshotExporting)), "{again}");
    let deleted = catalog.export_buckets().delete(bucket.id, now).await.unwrap_err();
    assert!(matches!(deleted, Error::Conflict(Conflict::BucketInUse)), "{deleted}");

    let lease = support::claim(&catalog, "w", now).await;
    assert_eq!(lease.work, Work::Export { export_job_id: job.id });
    assert_eq!(get(&catalog, &job).await.state, ExportState::InProgress);
    let progress = Progress { collections_done: 1, collections_total: 3, ..Progress::default() };
    let told = catalog.jobs().heartbeat(&lease, now, LEASE_MS, Some(&progress), None).await.unwrap();
    assert_eq!(told, Directive::Continue);
    assert_eq!(get(&catalog, &job).await.progress, Some(progress));
    catalog.jobs().finish(&lease, Outcome::ExportFinished, at(101)).await.unwrap();
    let done = get(&catalog, &job).await;
    assert_eq!((done.state, done.finished_at), (ExportState::Successful, Some(at(101))));
    assert_eq!(work(&catalog, &job).await.state, JobState::Succeeded);

    // Another one in the same second gets another prefix.
    let second = catalog.exports().request(new(&deployment, &snapshot, &bucket), now).await.unwrap();
    assert!(second.prefix.ends_with(&format!("/{}", now.seconds() + 1)), "{}", second.prefix);
    let lease = support::claim(&catalog, "w", now).await;
    let failed = Outcome::Failed { error: "the place is full".to_owned() };
    catalog.jobs().finish(&lease, failed, at(102)).await.unwrap();
    let second = get(&catalog, &second).await;
    assert_eq!((second.state, second.error.as_deref()), (ExportState::Failed, Some("the place is full")));
    let listed = catalog.exports().list(deployment.id, Page::new(1, 1)).await.unwrap();
    assert_eq!((listed.items.len(), listed.total), (1, Some(2)));
    catalog.export_buckets().delete(bucket.id, at(103)).await.unwrap();
    let gone = catalog.export_buckets().delete(bucket.id, at(103)).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { what: "export bucket", .. }), "{gone}");
    assert!(catalog.export_buckets().get(bucket.id).await.unwrap().unwrap().deleted_at.is_some());
    assert_eq!(catalog.export_buckets().list(project.id, Page::default()).await.unwrap().items, []);
}

pub(crate) async fn what_cannot_be_exported_is_refused(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let bucket_here = bucket(&catalog, &deployment).await;
    let elsewhere = catalog.projects().create("elsewhere", T0).await.unwrap();
    let other = support::deployment(&catalog, &elsewhere, "Other").await;
    let bucket_there = bucket(&catalog, &other).await;
    let request = async |new: NewExport<'_>| catalog.exports().request(new, at(5)).await.unwrap_err();
    let refused = request(new(&deployment, &snapshot, &bucket_there)).await;
    assert!(matches!(refused, Error::NotFound { what: "export bucket", .. }), "another project's: {refused}");
    let refused = request(new(&other, &snapshot, &bucket_there)).await;
    assert!(matches!(refused, Error::NotFound { what: "snapshot", .. }), "another deployment's: {refused}");
    let unfinished = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let refused = request(new(&deployment, &unfinished, &bucket_here)).await;
    assert!(matches!(&refused, Error::Illegal(illegal) if illegal.state == "queued"), "{refused}");
    catalog.snapshots().delete(snapshot.id, at(2)).await.unwrap();
    let refused = request(new(&deployment, &snapshot, &bucket_here)).await;
    assert!(matches!(&refused, Error::Illegal(illegal) if illegal.state == "deleted"), "{refused}");
    let lease = support::claim(&catalog, "w", at(3)).await;
    let finished = catalog.jobs().finish(&lease, Outcome::ExportFinished, at(4)).await.unwrap_err();
    assert!(matches!(finished, Error::Illegal(_)), "a snapshot is no export: {finished}");
}

pub(crate) async fn manifests_stay_while_an_export_reads_them(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let bucket = bucket(&catalog, &deployment).await;
    let job = catalog.exports().request(new(&deployment, &snapshot, &bucket), at(1)).await.unwrap();
    catalog.snapshots().delete(snapshot.id, at(2)).await.unwrap();
    let kept = || async { catalog.snapshots().live_manifests().await.unwrap() };
    assert_eq!(kept().await, [(snapshot.id, "m".to_owned())]);
    assert_eq!(catalog.snapshots().dead_manifests().await.unwrap(), []);
    let lease = support::claim(&catalog, "w", at(3)).await;
    assert_eq!(kept().await.len(), 1);
    catalog.jobs().finish(&lease, Outcome::ExportFinished, at(4)).await.unwrap();
    assert_eq!(get(&catalog, &job).await.state, ExportState::Successful);
    assert_eq!(kept().await, []);
    assert_eq!(catalog.snapshots().dead_manifests().await.unwrap(), [(snapshot.id, "m".to_owned())]);
}

pub(crate) async fn a_removed_deployment_takes_its_exports_along(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let bucket = bucket(&catalog, &deployment).await;
    let mut jobs = vec![];
    for number in 0..3 {
        let manifest = format!("m{number}");
        let snapshot = support::snapshot(&catalog, &deployment, &manifest, at(number)).await;
        jobs.push((snapshot, number));
    }
    let mut asked = vec![];
    for (snapshot, number) in &jobs {
        asked.push(
            catalog.exports().request(new(&deployment, snapshot, &bucket), at(10 + number)).await.unwrap(),
        );
    }
    let running = support::claim(&catalog, "w", at(20)).await;
    let resting = support::claim(&catalog, "w", at(20)).await;
    catalog.jobs().retry_at(&resting, at(9_000), "away").await.unwrap();
    catalog.deployments().remove(deployment.id, at(30)).await.unwrap();
    let states: Vec<_> =
        [get(&catalog, &asked[0]).await, get(&catalog, &asked[1]).await, get(&catalog, &asked[2]).await]
            .iter()
            .map(|job| job.state)
            .collect();
    assert_eq!(states, [ExportState::Cancelling, ExportState::Cancelling, ExportState::Cancelled]);
    assert_eq!(work(&catalog, &asked[2]).await.state, JobState::Cancelled);
    let told = catalog.jobs().heartbeat(&running, at(31), LEASE_MS, None, None).await.unwrap();
    assert_eq!(told, Directive::Cancel);
    let finished = catalog.jobs().finish(&running, Outcome::ExportFinished, at(31)).await.unwrap_err();
    assert!(matches!(finished, Error::Illegal(_)), "{finished}");
    catalog.jobs().finish(&running, Outcome::Cancelled, at(32)).await.unwrap();
    // The one that waited for another try is taken at once, to be ended.
    let resting = support::claim(&catalog, "w", at(33)).await;
    assert_eq!(resting.work, Work::Export { export_job_id: asked[1].id });
    catalog.jobs().finish(&resting, Outcome::Cancelled, at(34)).await.unwrap();
    for job in &asked {
        let job = get(&catalog, job).await;
        assert!(job.state == ExportState::Cancelled && job.finished_at.is_some(), "{job:?}");
    }
    let refused = catalog.exports().request(new(&deployment, &jobs[0].0, &bucket), at(40)).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: "deployment", .. }), "{refused}");
}
