//! Projects, deployments, and what is sealed in them.

use catalog::{
    Catalog, Conflict, Error, NewCredential, NewProof, NewSecret, Outcome, Page, Sealed, SealedKind,
    SealedValue, SnapshotFilter,
};
use model::{DeploymentKind, account::SecretHash, id::ProjectId};
use serde_json::json;

use crate::support::{self, T0, at};

pub(crate) async fn projects_are_made_once_and_listed(catalog: Catalog) {
    let shop = support::project(&catalog).await;
    let lab = catalog.projects().create("lab", at(1)).await.unwrap();
    assert!(matches!(catalog.projects().create("shop", at(2)).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(catalog.projects().get(shop.id).await.unwrap().as_ref(), Some(&shop));
    assert_eq!(catalog.projects().by_name("lab").await.unwrap().as_ref(), Some(&lab));
    assert_eq!(catalog.projects().by_name("Lab").await.unwrap(), None);
    let listing = catalog.projects().list(Page::new(1, 1)).await.unwrap();
    assert_eq!((listing.items.as_slice(), listing.total), ([shop].as_slice(), Some(2)));
    let listing = catalog.projects().list(Page::new(2, 1).without_count()).await.unwrap();
    assert_eq!((listing.items.as_slice(), listing.total), ([lab].as_slice(), None));
}

pub(crate) async fn a_project_is_renamed_and_deleted_when_it_is_empty(catalog: Catalog) {
    let (shop, deployment) = support::source(&catalog).await;
    let lab = catalog.projects().create("lab", at(1)).await.unwrap();
    let projects = catalog.projects();
    assert!(matches!(projects.rename(shop.id, "lab").await, Err(Error::AlreadyExists { .. })));
    let renamed = projects.rename(shop.id, "store").await.unwrap();
    assert_eq!((renamed.id, renamed.name.as_str(), renamed.created_at), (shop.id, "store", shop.created_at));
    assert_eq!(projects.by_name("shop").await.unwrap(), None);

    let credential = |name: &str, within: &[ProjectId]| NewCredential {
        proof: NewProof::ApiKey(Sealed(String::new())),
        public_name: name.to_owned(),
        name: String::new(),
        description: String::new(),
        grants: within
            .iter()
            .map(|id| catalog::Grant { role: model::role::Role::GroupOwner, project: Some(*id) })
            .collect(),
    };
    let own = catalog.credentials().create(credential("own", &[shop.id]), at(2)).await.unwrap();
    let both = catalog.credentials().create(credential("both", &[shop.id, lab.id]), at(2)).await.unwrap();
    let refused = async || match projects.delete(shop.id, at(9)).await {
        Err(Error::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused().await, Conflict::ProjectHasDeployments { deployments: 1 });
    let snapshot = support::snapshot(&catalog, &deployment, "m", at(3)).await;
    catalog.deployments().remove(deployment.id, at(4)).await.unwrap();
    assert_eq!(refused().await, Conflict::ProjectHasSnapshots { snapshots: 1 });
    assert!(catalog.credentials().get(own.id).await.unwrap().is_some(), "a refusal changes nothing");
    catalog.snapshots().delete(snapshot.id, at(5)).await.unwrap();
    projects.delete(shop.id, at(9)).await.unwrap();

    assert_eq!(projects.get(shop.id).await.unwrap(), None);
    assert_eq!(projects.list(Page::default()).await.unwrap().items, std::slice::from_ref(&lab));
    assert_eq!(catalog.credentials().get(own.id).await.unwrap(), None);
    let left = catalog.credentials().get(both.id).await.unwrap().unwrap();
    assert_eq!(left.grants.iter().map(|grant| grant.project).collect::<Vec<_>>(), [Some(lab.id)]);
    for gone in [projects.delete(shop.id, at(9)).await, projects.rename(shop.id, "x").await.map(drop)] {
        assert!(matches!(gone, Err(Error::NotFound { what: "project", .. })), "{gone:?}");
    }
    let added = catalog.deployments().add(support::new_deployment(&shop, "late"), at(9)).await;
    assert!(matches!(added, Err(Error::NotFound { what: "project", .. })), "{added:?}");
    // Its name is free, as often as one likes.
    for _ in 0..2 {
        let again = projects.create("store", at(10)).await.unwrap();
        projects.delete(again.id, at(11)).await.unwrap();
    }
}

pub(crate) async fn a_removed_deployment_keeps_its_id_and_snapshots(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let again = catalog.deployments().add(support::new_deployment(&project, "Cluster0"), at(1)).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    let snapshot = support::snapshot(&catalog, &deployment, "m1", at(2)).await;

    catalog.deployments().remove(deployment.id, at(3)).await.unwrap();
    let removed = catalog.deployments().by_name(project.id, "Cluster0").await.unwrap().unwrap();
    assert_eq!(removed.removed_at, Some(at(3)));
    assert_eq!(removed.uri_sealed, Sealed(String::new()), "the connection string is forgotten");
    assert_eq!(catalog.deployments().list(project.id, None, Page::default()).await.unwrap().total, Some(0));
    assert!(matches!(catalog.deployments().remove(deployment.id, at(4)).await, Err(Error::NotFound { .. })));
    let sealed = Sealed("x".to_owned());
    let refused = catalog.deployments().replace_uri(deployment.id, &sealed, &deployment.facts).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));

    let mut new = support::new_deployment(&project, "Cluster0");
    new.uri_sealed = Sealed("other".to_owned());
    let back = catalog.deployments().add(new, at(5)).await.unwrap();
    assert_eq!((back.id, back.created_at, back.removed_at), (deployment.id, T0, None));
    assert_eq!(back.uri_sealed, Sealed("other".to_owned()));
    let listing = catalog.snapshots().list(SnapshotFilter::of(back.id), Page::default()).await.unwrap();
    assert_eq!(listing.items, [snapshot]);

    let mut nowhere = support::new_deployment(&project, "Cluster1");
    nowhere.project_id = ProjectId::from_parts(1, [1; 8]);
    assert!(matches!(
        catalog.deployments().add(nowhere, at(6)).await,
        Err(Error::NotFound { what: "project", .. })
    ));
    let mut serverless = support::new_deployment(&project, "Tenant0");
    serverless.kind = DeploymentKind::Serverless;
    let serverless = catalog.deployments().add(serverless, at(7)).await.unwrap();
    let only = catalog
        .deployments()
        .list(project.id, Some(DeploymentKind::Serverless), Page::default())
        .await
        .unwrap();
    assert_eq!((only.items, only.total), (vec![serverless], Some(1)));

    let mut facts = back.facts.clone();
    facts.mongodb_version = None;
    facts.checked_at = Some(at(8));
    catalog.deployments().update_facts(back.id, &facts).await.unwrap();
    assert_eq!(catalog.deployments().get(back.id).await.unwrap().unwrap().facts, facts);
}

pub(crate) async fn a_connection_string_leads_to_the_set_that_is_known(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let seen = |id: Option<&str>, seconds: i64| catalog::DeploymentFacts {
        replica_set_id: id.map(str::to_owned),
        checked_at: Some(at(seconds)),
        ..deployment.facts.clone()
    };
    let replace = async |uri: &str, facts: &catalog::DeploymentFacts| {
        catalog.deployments().replace_uri(deployment.id, &Sealed(uri.to_owned()), facts).await
    };
    // Nothing is known of it yet.
    replace("a", &seen(None, 1)).await.unwrap();
    replace("b", &seen(Some("x"), 2)).await.unwrap();
    for other in [Some("y"), None] {
        let refused = replace("c", &seen(other, 3)).await.unwrap_err();
        let expected = Conflict::OtherReplicaSet { registered: "x".to_owned() };
        assert!(matches!(&refused, Error::Conflict(conflict) if *conflict == expected), "{refused:?}");
    }
    let replaced = replace("d", &seen(Some("x"), 4)).await.unwrap();
    assert_eq!((&replaced.uri_sealed, &replaced.facts), (&Sealed("d".to_owned()), &seen(Some("x"), 4)));
    assert_eq!(catalog.deployments().get(deployment.id).await.unwrap(), Some(replaced));
    let nowhere = model::id::DeploymentId::from_parts(1, [1; 8]);
    let refused = catalog.deployments().replace_uri(nowhere, &Sealed("e".to_owned()), &seen(None, 5)).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
}

pub(crate) async fn a_busy_deployment_is_not_removed(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let busy =
        |result| assert!(matches!(result, Err(Error::Conflict(Conflict::DeploymentBusy))), "{result:?}");
    let snapshot = support::request_snapshot(&catalog, &deployment, at(1)).await;
    busy(catalog.deployments().remove(deployment.id, at(2)).await);
    let lease = support::claim(&catalog, "w", at(3)).await;
    busy(catalog.deployments().remove(deployment.id, at(4)).await);
    catalog.jobs().finish(&lease, support::completion("m"), at(5)).await.unwrap();
    let snapshot = catalog.snapshots().get(snapshot.id).await.unwrap().unwrap();
    let restore = support::request_restore(&catalog, &snapshot, at(6)).await;
    busy(catalog.deployments().remove(deployment.id, at(7)).await);
    catalog.restores().request_cancel(restore.id, at(8)).await.unwrap().unwrap();
    catalog.deployments().remove(deployment.id, at(9)).await.unwrap();

    let new = support::new_snapshot(&deployment, catalog::SnapshotType::OnDemand);
    let gone = catalog.snapshots().request(new, at(10)).await;
    assert!(matches!(gone, Err(Error::NotFound { what: "deployment", .. })));
}

pub(crate) async fn a_deployment_is_kept_while_something_has_to_be_undone_on_it(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    let before = json!({"previous_seconds": 300});
    catalog.obligations().record(&lease, deployment.id, "historyWindow", &before, at(3)).await.unwrap();
    let busy = catalog.deployments().remove_by_force(deployment.id, at(4)).await;
    assert!(matches!(busy, Err(Error::Conflict(Conflict::DeploymentBusy))), "{busy:?}");
    catalog.jobs().finish(&lease, support::failed("x"), at(5)).await.unwrap();

    let refused = catalog.deployments().remove(deployment.id, at(6)).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict(Conflict::NotUndone { .. })), "{refused:?}");
    let told = refused.to_string();
    assert!(told.contains("historyWindow") && told.contains("300"), "{told}");
    let kept = catalog.deployments().get(deployment.id).await.unwrap().unwrap();
    assert_eq!((kept.removed_at, kept.uri_sealed), (None, deployment.uri_sealed));
    assert_eq!(catalog.obligations().orphaned().await.unwrap().len(), 1, "a refusal forgets nothing");

    let forgotten = catalog.deployments().remove_by_force(deployment.id, at(7)).await.unwrap();
    assert_eq!((forgotten.len(), &forgotten[0].detail), (1, &before));
    assert_eq!(catalog.obligations().orphaned().await.unwrap(), [], "nobody tries for ever");
}

pub(crate) async fn sealed_values_are_rotated_all_or_none(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let key = NewCredential {
        proof: NewProof::ApiKey(Sealed("sealed ha1".to_owned())),
        public_name: "abcdefgh".to_owned(),
        name: String::new(),
        description: String::new(),
        grants: Vec::new(),
    };
    let secret = NewSecret { sha256: SecretHash("hash".to_owned()), ending: String::new(), hours: None };
    let account = NewCredential { proof: NewProof::ServiceAccount(secret), ..key.clone() };
    let key = catalog.credentials().create(key, T0).await.unwrap();
    catalog.credentials().create(account, T0).await.unwrap();

    let values = catalog.sealed_values().await.unwrap();
    let expected = [
        SealedValue {
            kind: SealedKind::DeploymentUri,
            id: deployment.id.to_string(),
            sealed: deployment.uri_sealed.clone(),
        },
        SealedValue {
            kind: SealedKind::ApiKeyHa1,
            id: key.id.to_string(),
            sealed: Sealed("sealed ha1".to_owned()),
        },
    ];
    assert_eq!(values, expected, "a service account's secret is hashed, not sealed");
    assert!(!format!("{values:?}").contains("sealed ha1"), "a sealed text is never printed");

    let changes: Vec<_> =
        values.iter().map(|old| (old.clone(), Sealed(format!("new {}", old.sealed.0)))).collect();
    let mut stale = changes.clone();
    stale[1].0.sealed = Sealed("something else".to_owned());
    assert!(matches!(catalog.replace_sealed(&stale).await, Err(Error::NotFound { .. })));
    assert_eq!(catalog.sealed_values().await.unwrap(), expected, "none was replaced");
    catalog.replace_sealed(&changes).await.unwrap();
    let uri = catalog.deployments().get(deployment.id).await.unwrap().unwrap().uri_sealed;
    assert_eq!(uri, Sealed("new sealed uri of Cluster0".to_owned()));
}

pub(crate) async fn the_token_of_a_link_is_rotated_with_the_rest(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", at(1)).await;
    let job = support::request_download(&catalog, &snapshot, at(2)).await;
    let lease = support::claim(&catalog, "w", at(3)).await;
    let archive = json!({"bytes": 7, "name": "abcd", "tokenSealed": "old token"});
    let ready = Outcome::DownloadReady { archive, url_token_sha256: "h".to_owned(), expires_at: at(9) };
    catalog.jobs().finish(&lease, ready, at(4)).await.unwrap();

    let mut values = catalog.sealed_values().await.unwrap();
    values.retain(|value| value.kind == SealedKind::DownloadToken);
    let [token] = &values[..] else { panic!("one link waits: {values:?}") };
    assert_eq!((&token.id, &token.sealed), (&job.id.to_string(), &Sealed("old token".to_owned())));
    let stale = SealedValue { sealed: Sealed("another".to_owned()), ..token.clone() };
    let refused = catalog.replace_sealed(&[(stale, Sealed("new".to_owned()))]).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    catalog.replace_sealed(&[(token.clone(), Sealed("new token".to_owned()))]).await.unwrap();
    let archive = support::restore(&catalog, &job).await.archive.unwrap();
    assert_eq!(archive, json!({"bytes": 7, "name": "abcd", "tokenSealed": "new token"}));
}
