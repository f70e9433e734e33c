//! Settings, the audit log, imports, odd input.

use catalog::{
    AuditEntry, AuditFilter, AuditOutcome, Catalog, Delivery, Error, Page, Snapshot, SnapshotFilter,
};
use model::{
    job::{Directive, JobState},
    snapshot::SnapshotState,
};
use serde_json::json;

use crate::support::{self, LEASE_MS, T0, at};

pub(crate) async fn settings_are_decided_once(catalog: Catalog) {
    let settings = catalog.settings();
    assert_eq!(settings.get("server").await.unwrap(), None);
    assert_eq!(settings.get_or_set("server", "a").await.unwrap(), "a");
    assert_eq!(settings.get_or_set("server", "b").await.unwrap(), "a");
    settings.set("server", "c").await.unwrap();
    assert_eq!(settings.get("server").await.unwrap().as_deref(), Some("c"));
    settings.replace("server", "b", "d").await.unwrap();
    assert_eq!(settings.get("server").await.unwrap().as_deref(), Some("c"));
    settings.replace("server", "c", "d").await.unwrap();
    assert_eq!(settings.get("server").await.unwrap().as_deref(), Some("d"));
    settings.remove("server").await.unwrap();
    settings.remove("server").await.unwrap();
    assert_eq!(settings.get_or_set("server", "d").await.unwrap(), "d");
}

fn line(second: i64, operation: &str) -> AuditEntry {
    AuditEntry {
        action: "restore.create".to_owned(),
        subject: format!("job {second}"),
        outcome: AuditOutcome::Ok,
        status: Some(200),
        detail: json!({"n": second}),
        ..AuditEntry::begun(at(second), "abcdefgh", "192.0.2.1", operation)
    }
}

pub(crate) async fn the_audit_log_is_newest_first(catalog: Catalog) {
    let (project, _) = support::source(&catalog).await;
    let mut lines = [line(1, "a"), line(2, "b"), line(3, "a")];
    lines[1].project = Some(project.id);
    lines[2].project = Some(project.id);
    for number in [1, 0, 2] {
        catalog.audit().append(&lines[number]).await.unwrap();
    }
    let [first, second, third] = lines;
    let listed = async |filter: AuditFilter, page| {
        let listing = catalog.audit().list(&filter, page).await.unwrap();
        (listing.items, listing.total.unwrap())
    };
    let (all, one) = (AuditFilter::default, Page::new(1, 1));
    assert_eq!(listed(all(), Page::new(1, 2)).await, (vec![third.clone(), second.clone()], 3));
    assert_eq!(listed(all(), Page::new(2, 2)).await, (vec![first.clone()], 3));
    let within = AuditFilter { project: Some(project.id), ..all() };
    assert_eq!(listed(within.clone(), one).await, (vec![third.clone()], 2));
    let both = AuditFilter { operation: Some("b".to_owned()), ..within };
    assert_eq!(listed(both, one).await, (vec![second.clone()], 1));
    let times = AuditFilter { from: Some(at(2)), until: Some(at(3)), ..all() };
    assert_eq!(listed(times, one).await, (vec![second], 1));
    let operation = AuditFilter { operation: Some("a".to_owned()), ..all() };
    assert_eq!(listed(operation, Page::default()).await, (vec![third, first], 2));
}

pub(crate) async fn a_line_is_begun_and_concluded_or_withdrawn(catalog: Catalog) {
    let audit = catalog.audit();
    let all = async || audit.list(&AuditFilter::default(), Page::default()).await.unwrap().items;
    let mut entry = AuditEntry::begun(at(1), "abc\0defgh", "192.0.2.1", "x");
    audit.append(&entry).await.unwrap();
    entry.who = "abc\u{fffd}defgh".to_owned();
    assert_eq!(all().await, [entry.clone()], "as it is when nobody comes back to conclude it");
    let refused = AuditEntry {
        outcome: AuditOutcome::Refused,
        status: Some(403),
        error_code: Some("ACCESS_FORBIDDEN".to_owned()),
        ..entry.clone()
    };
    let forged = AuditEntry { who: "another".to_owned(), at: at(9), ..refused.clone() };
    audit.conclude(&forged).await.unwrap();
    assert_eq!(all().await, [refused], "who and when stay as they were begun");
    audit.withdraw(entry.id).await.unwrap();
    assert_eq!(all().await.len(), 1, "what was concluded stays");
    let begun = AuditEntry::begun(at(2), "a", "", "x");
    audit.append(&begun).await.unwrap();
    audit.withdraw(begun.id).await.unwrap();
    assert_eq!(all().await.len(), 1);
}

pub(crate) async fn old_lines_are_forgotten_oldest_first(catalog: Catalog) {
    for second in 1..=5 {
        catalog.audit().append(&line(second, "a")).await.unwrap();
    }
    let left = async || {
        let listing = catalog.audit().list(&AuditFilter::default(), Page::default()).await.unwrap();
        listing.items.into_iter().map(|line| line.at).collect::<Vec<_>>()
    };
    assert_eq!(catalog.audit().forget_before(at(4), 2).await.unwrap(), 2);
    assert_eq!(left().await, [at(5), at(4), at(3)]);
    assert_eq!(catalog.audit().forget_before(at(4), 2).await.unwrap(), 1);
    assert_eq!(catalog.audit().forget_before(at(4), 2).await.unwrap(), 0);
    assert_eq!(left().await, [at(5), at(4)]);
}

pub(crate) async fn an_import_can_be_repeated(catalog: Catalog) {
    // What another catalog had, as its vault tells it.
    let (other, _directory) = support::sqlite().await;
    let (project, deployment) = support::source(&other).await;
    let snapshot = support::snapshot(&other, &deployment, "m", at(1)).await;
    let rebuild = async |snapshot: &Snapshot| {
        catalog.import_project(&project).await.unwrap();
        catalog.import_deployment(&deployment).await.unwrap();
        catalog.import_snapshot(snapshot).await.unwrap()
    };
    assert!(rebuild(&snapshot).await);
    assert!(!rebuild(&snapshot).await);
    let read = catalog.snapshots().get(snapshot.id).await.unwrap().unwrap();
    assert_eq!(read, snapshot);
    let removed = catalog.deployments().get(deployment.id).await.unwrap().unwrap();
    assert!(removed.removed_at.is_some(), "its connection string is not known");

    let back = catalog.deployments().add(support::new_deployment(&project, "Cluster0"), at(2)).await.unwrap();
    assert_eq!((back.id, back.removed_at), (deployment.id, None));
    catalog.import_deployment(&deployment).await.unwrap();
    assert_eq!(catalog.deployments().get(back.id).await.unwrap().unwrap(), back, "a live one stays as it is");
    let delivery = Delivery::Automated { target: back.id };
    catalog.restores().request(support::new_restore(&read, delivery), at(3)).await.unwrap();
    catalog.snapshots().delete(read.id, at(4)).await.unwrap();
    assert!(!rebuild(&snapshot).await);
    assert_eq!(catalog.snapshots().get(read.id).await.unwrap().unwrap().state, SnapshotState::Deleted);

    let mut homonym = project.clone();
    homonym.id = catalog::new_id(T0);
    // Renamed or deleted since the vault was told of it, and its name given to another: what it holds is found all the same.
    for _ in 0..2 {
        catalog.import_project(&homonym).await.unwrap();
    }
    let imported = catalog.projects().get(homonym.id).await.unwrap().unwrap();
    assert_eq!(imported.name, format!("{} {}", project.name, homonym.id));
    homonym = catalog::Project { id: catalog::new_id(T0), name: "ü".repeat(64), ..homonym };
    for id in [homonym.id, catalog::new_id(at(1))] {
        homonym.id = id;
        catalog.import_project(&homonym).await.unwrap();
    }
    let imported = catalog.projects().get(homonym.id).await.unwrap().unwrap();
    assert_eq!(imported.name.chars().count(), 64);
    let mut homonym = deployment.clone();
    homonym.id = catalog::new_id(T0);
    assert!(matches!(catalog.import_deployment(&homonym).await, Err(Error::AlreadyExists { .. })));
}

/// A completed snapshot with the ids of this one, as a vault tells it.
async fn told(known: &Snapshot) -> Snapshot {
    let (other, _directory) = support::sqlite().await;
    let (_, deployment) = support::source(&other).await;
    let done = support::snapshot(&other, &deployment, "m", at(9)).await;
    let Snapshot { id, project_id, deployment_id, requested_at, .. } = *known;
    Snapshot { id, project_id, deployment_id, requested_at, ..done }
}

pub(crate) async fn an_import_completes_what_was_still_to_be_taken(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let (jobs, snapshots) = (catalog.jobs(), catalog.snapshots());
    let read = async |known: &Snapshot| snapshots.get(known.id).await.unwrap().unwrap();
    let job = async |known: &Snapshot| jobs.of_subject(&known.id.to_string()).await.unwrap().unwrap();

    let queued = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let found = told(&queued).await;
    assert!(catalog.import_snapshot(&found).await.unwrap());
    assert!(!catalog.import_snapshot(&found).await.unwrap());
    assert_eq!(read(&queued).await, found);
    assert_eq!((job(&queued).await.state, job(&queued).await.ended_at), (JobState::Succeeded, Some(at(9))));
    assert_eq!(jobs.claim("w", &[], at(10), LEASE_MS).await.unwrap(), None);

    let running = support::request_snapshot(&catalog, &deployment, at(11)).await;
    let lease = support::claim(&catalog, "w", at(12)).await;
    catalog.objects().pin(&lease, &support::names(&["a", "b"])).await.unwrap();
    assert!(catalog.is_pinned("a").await.unwrap() && !catalog.is_pinned("c").await.unwrap());
    let found = told(&running).await;
    assert!(catalog.import_snapshot(&found).await.unwrap());
    assert_eq!((read(&running).await, job(&running).await.state), (found, JobState::Succeeded));
    assert!(!catalog.is_pinned("a").await.unwrap());
    let beat = jobs.heartbeat(&lease, at(13), LEASE_MS, None, None).await.unwrap();
    assert_eq!(beat, Directive::Lost);
    let late = jobs.finish(&lease, support::completion("late"), at(13)).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");

    let failed = support::request_snapshot(&catalog, &deployment, at(14)).await;
    let lease = support::claim(&catalog, "w", at(15)).await;
    jobs.finish(&lease, support::failed("no"), at(16)).await.unwrap();
    let found = told(&failed).await;
    assert!(catalog.import_snapshot(&found).await.unwrap());
    assert_eq!(read(&failed).await, found, "without the error");
    assert_eq!(job(&failed).await.state, JobState::Failed, "what has ended stays");

    let deleted = support::request_snapshot(&catalog, &deployment, at(17)).await;
    let lease = support::claim(&catalog, "w", at(18)).await;
    jobs.finish(&lease, support::failed("no"), at(19)).await.unwrap();
    snapshots.delete(deleted.id, at(20)).await.unwrap();
    assert!(!catalog.import_snapshot(&told(&deleted).await).await.unwrap());
    assert_eq!(read(&deleted).await.state, SnapshotState::Deleted);
}

pub(crate) async fn an_import_ends_the_cycle_that_does_not_know_of_it(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let queued = support::request_snapshot(&catalog, &deployment, at(1)).await;
    let collector = catalog.collector();
    let cycle = collector.begin_cycle(at(2), 1000).await.unwrap().unwrap();
    let found = told(&queued).await;
    assert!(catalog.import_snapshot(&found).await.unwrap());
    let lost = collector.renew(&cycle, at(2), 1000).await;
    assert!(matches!(lost, Err(Error::LeaseLost { .. })), "{lost:?}");
    let next = collector.begin_cycle(at(4), 1000).await.unwrap().unwrap();
    assert!(!catalog.import_snapshot(&found).await.unwrap());
    collector.renew(&next, at(4), 1000).await.unwrap();
}

pub(crate) async fn odd_texts_are_kept_or_mended(catalog: Catalog) {
    let odd = "'); DROP TABLE projects; -- \u{0} 🦀 \u{202e} \"x\"";
    let project = catalog.projects().create(odd, T0).await.unwrap();
    assert_eq!(project.name, odd.replace('\0', "\u{fffd}"));
    assert_eq!(catalog.projects().by_name(odd).await.unwrap().as_ref(), Some(&project));
    let deployment = support::deployment(&catalog, &project, "Cluster0").await;
    let mut new = support::new_snapshot(&deployment, catalog::SnapshotType::OnDemand);
    new.description = Some(odd.to_owned());
    let snapshot = catalog.snapshots().request(new, T0).await.unwrap();
    let lease = support::claim(&catalog, odd, T0).await;
    catalog.jobs().finish(&lease, support::failed(odd), T0).await.unwrap();
    let listing = catalog.snapshots().list(SnapshotFilter::of(deployment.id), Page::default()).await.unwrap();
    assert_eq!(listing.items[0].error, Some(odd.replace('\0', "\u{fffd}")));
    assert_eq!(listing.items[0].description, snapshot.description);
    assert_eq!(catalog.deployments().by_name(project.id, odd).await.unwrap(), None);
}
