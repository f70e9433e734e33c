//! Settings, the audit log, imports, odd input.

use catalog::{AuditEntry, Catalog, Delivery, Error, Page, Snapshot, SnapshotFilter};
use model::snapshot::SnapshotState;
use serde_json::json;

use crate::support::{self, T0, at};

pub(crate) async fn settings_are_decided_once(catalog: Catalog) {
    let settings = catalog.settings();
    assert_eq!(settings.get("server").await.unwrap(), None);
    assert_eq!(settings.get_or_set("server", "a").await.unwrap(), "a");
    assert_eq!(settings.get_or_set("server", "b").await.unwrap(), "a");
    settings.set("server", "c").await.unwrap();
    assert_eq!(settings.get("server").await.unwrap().as_deref(), Some("c"));
}

pub(crate) async fn the_audit_log_is_newest_first(catalog: Catalog) {
    let entry = |second| AuditEntry {
        at: at(second),
        who: "abcdefgh".to_owned(),
        action: "restore.create".to_owned(),
        subject: format!("job {second}"),
        outcome: "ok".to_owned(),
        detail: json!({"n": second}),
    };
    for second in [2, 1, 3] {
        catalog.audit().append(&entry(second)).await.unwrap();
    }
    let listing = catalog.audit().list(Page::new(1, 2)).await.unwrap();
    assert_eq!((listing.items, listing.total), (vec![entry(3), entry(2)], Some(3)));
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
    assert!(matches!(catalog.import_project(&homonym).await, Err(Error::AlreadyExists { .. })));
    let mut homonym = deployment.clone();
    homonym.id = catalog::new_id(T0);
    assert!(matches!(catalog.import_deployment(&homonym).await, Err(Error::AlreadyExists { .. })));
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
