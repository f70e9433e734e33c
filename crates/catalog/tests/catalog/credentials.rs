//! API keys, service accounts, tokens.

use catalog::{
    Catalog, Conflict, Credential, CredentialChange, CredentialFilter, CredentialKind, Error, Grant,
    NewCredential, NewProof, NewSecret, NewToken, Page, Sealed,
};
use model::{
    account::{AccountSecrets, SecretHash, SecretHours},
    id::{AccountSecretId, CredentialId, ProjectId},
    network::{AccessList, AddressBlock},
    role::{Action, Role},
};

use crate::support::{self, T0, at};

fn new_secret(hash: &str, hours: Option<i64>) -> NewSecret {
    let hours = hours.map(|hours| SecretHours::new(hours).unwrap());
    NewSecret { sha256: SecretHash(hash.to_owned()), ending: "abcd".to_owned(), hours }
}

fn new(kind: CredentialKind, name: &str, grants: &[Grant]) -> NewCredential {
    let (proof, called) = match kind {
        CredentialKind::ApiKey => (NewProof::ApiKey(Sealed("secret".to_owned())), ""),
        CredentialKind::ServiceAccount => (NewProof::ServiceAccount(new_secret("hash", None)), "pipeline"),
    };
    NewCredential {
        proof,
        public_name: name.to_owned(),
        name: called.to_owned(),
        description: "for the tests".to_owned(),
        grants: grants.to_vec(),
    }
}

fn sorted(mut credential: Credential) -> Credential {
    credential.grants.sort_by_key(|grant| (grant.role, grant.project));
    credential
}

pub(crate) async fn credentials_carry_their_roles(catalog: Catalog) {
    let shop = support::project(&catalog).await;
    let lab = catalog.projects().create("lab", T0).await.unwrap();
    let manager = Grant { role: Role::GroupBackupManager, project: Some(shop.id) };
    let reader = Grant { role: Role::GroupReadOnly, project: Some(lab.id) };
    let owner = Grant { role: Role::OrgOwner, project: None };
    let member = Grant { role: Role::OrgMember, project: None };

    let key = new(CredentialKind::ApiKey, "abcdefgh", &[manager, reader, member]);
    let made = catalog.credentials().create(key.clone(), at(1)).await.unwrap();
    let again = catalog.credentials().create(key, at(1)).await;
    assert!(matches!(again, Err(Error::AlreadyExists { what: "API key", .. })));
    let read =
        catalog.credentials().by_public_name(CredentialKind::ApiKey, "abcdefgh").await.unwrap().unwrap();
    assert_eq!(sorted(read.clone()), sorted(made.clone()));
    assert!(read.allows(shop.id, Action::Restore) && !read.allows(lab.id, Action::Restore));
    assert!(read.allows(lab.id, Action::Read) && !read.reaches_all_projects());
    assert!(!read.is_member_of(ProjectId::from_parts(1, [1; 8])));
    assert_eq!(
        catalog.credentials().by_public_name(CredentialKind::ServiceAccount, "abcdefgh").await.unwrap(),
        None
    );

    let bare =
        catalog.credentials().create(new(CredentialKind::ServiceAccount, "sa", &[]), at(2)).await.unwrap();
    assert_eq!(catalog.credentials().get(bare.id).await.unwrap().unwrap(), bare);
    catalog.credentials().give(bare.id, &[owner]).await.unwrap();
    catalog.credentials().give(bare.id, &[owner]).await.unwrap();
    let bare = catalog.credentials().get(bare.id).await.unwrap().unwrap();
    assert_eq!(bare.grants, [owner]);
    assert!(bare.allows(shop.id, Action::Own) && bare.reaches_all_projects());

    let nowhere = Grant { role: Role::GroupOwner, project: Some(ProjectId::from_parts(1, [1; 8])) };
    let refused =
        catalog.credentials().create(new(CredentialKind::ApiKey, "ijklmnop", &[nowhere]), at(3)).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "project", .. })));
    assert_eq!(catalog.credentials().by_public_name(CredentialKind::ApiKey, "ijklmnop").await.unwrap(), None);
    let nobody = catalog.credentials().give(CredentialId::from_parts(1, [1; 8]), &[owner]).await;
    assert!(matches!(nobody, Err(Error::NotFound { what: "credential", .. })));

    let all = catalog.credentials().list(CredentialFilter::default(), Page::default()).await.unwrap();
    assert_eq!(
        (all.items.iter().map(|c| c.id).collect::<Vec<_>>(), all.total),
        (vec![made.id, bare.id], Some(2))
    );
    let second = catalog.credentials().list(CredentialFilter::default(), Page::new(2, 1)).await.unwrap();
    assert_eq!(second.items, std::slice::from_ref(&bare), "a page counts credentials, not roles");
    let of_shop = catalog.credentials().list(CredentialFilter::of(shop.id), Page::default()).await.unwrap();
    assert_eq!((of_shop.items.len(), of_shop.total), (1, Some(1)));
    assert_eq!(sorted(of_shop.items[0].clone()), sorted(made.clone()));
}

pub(crate) async fn a_credential_leaves_a_project_with_all_its_roles(catalog: Catalog) {
    let shop = support::project(&catalog).await;
    let lab = catalog.projects().create("lab", T0).await.unwrap();
    let credentials = catalog.credentials();
    let grant = |role, project: ProjectId| Grant { role, project: Some(project) };
    let elsewhere = grant(Role::GroupReadOnly, lab.id);
    let everywhere = [grant(Role::GroupOwner, shop.id), grant(Role::GroupReadOnly, shop.id), elsewhere];
    let account = new(CredentialKind::ServiceAccount, "sa", &everywhere);
    let account = credentials.create(account, T0).await.unwrap();
    catalog.tokens().insert(&token("t", &account), T0).await.unwrap();
    assert!(credentials.remove_from(account.id, shop.id).await.unwrap());
    assert_eq!(credentials.get(account.id).await.unwrap().unwrap().grants, [elsewhere]);
    assert!(!credentials.remove_from(account.id, shop.id).await.unwrap(), "it has left");
    assert!(catalog.tokens().credential("t", at(1)).await.unwrap().is_some(), "it works elsewhere");
    assert!(credentials.remove_from(account.id, lab.id).await.unwrap());
    assert_eq!(credentials.get(account.id).await.unwrap(), None, "one without roles is of no use to anybody");
    assert_eq!(catalog.tokens().credential("t", at(1)).await.unwrap(), None);
    assert!(!credentials.remove_from(account.id, lab.id).await.unwrap());

    // Whoever gives it a role in that moment is told that it is gone, or it stays for the sake of that role.
    for round in 0..20 {
        let key = new(CredentialKind::ApiKey, &format!("key{round}"), &everywhere[..2]);
        let key = credentials.create(key, T0).await.unwrap();
        let given = [elsewhere];
        let (removed, given) =
            tokio::join!(credentials.remove_from(key.id, shop.id), credentials.give(key.id, &given));
        assert!(removed.unwrap());
        let left = credentials.get(key.id).await.unwrap().map(|key| key.grants);
        match given {
            Ok(()) => assert_eq!(left, Some(vec![elsewhere])),
            Err(Error::NotFound { .. }) => assert_eq!(left, None),
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn roles_are_replaced_where_they_are_given(catalog: Catalog) {
    let shop = support::project(&catalog).await;
    let lab = catalog.projects().create("lab", T0).await.unwrap();
    let grant = |role, project: Option<ProjectId>| Grant { role, project };
    let everywhere = [
        grant(Role::OrgMember, None),
        grant(Role::GroupOwner, Some(shop.id)),
        grant(Role::GroupReadOnly, Some(lab.id)),
    ];
    let credentials = catalog.credentials();
    let key = credentials.create(new(CredentialKind::ApiKey, "abcdefgh", &everywhere), T0).await.unwrap();
    credentials.create(new(CredentialKind::ServiceAccount, "sa", &everywhere), T0).await.unwrap();
    let keys = CredentialFilter { kind: Some(CredentialKind::ApiKey), project: Some(lab.id) };
    let listed = credentials.list(keys, Page::default()).await.unwrap();
    assert_eq!((listed.items.len(), listed.total, listed.items[0].id), (1, Some(1), key.id));

    let wanted = [Role::GroupBackupCreator, Role::GroupReadOnly];
    let roles = Some((Some(shop.id), &wanted[..]));
    let change = CredentialChange { description: Some("another\0name"), roles, ..Default::default() };
    credentials.change(key.id, change).await.unwrap();
    let read = credentials.get(key.id).await.unwrap().unwrap();
    assert_eq!(read.description, "another\u{fffd}name");
    let mut here: Vec<Role> =
        read.grants.iter().filter(|grant| grant.project == Some(shop.id)).map(|grant| grant.role).collect();
    here.sort_unstable();
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(here, wanted);
    assert!(read.grants.contains(&everywhere[0]) && read.grants.contains(&everywhere[2]));
    let to = |project, roles| CredentialChange { roles: Some((project, roles)), ..Default::default() };
    for place in [None, Some(lab.id), Some(shop.id)] {
        credentials.change(key.id, to(place, &[])).await.unwrap();
    }
    assert_eq!(credentials.get(key.id).await.unwrap().unwrap().grants, []);
    let nobody = CredentialId::from_parts(1, [1; 8]);
    let nowhere = ProjectId::from_parts(1, [1; 8]);
    for refused in [
        credentials.change(nobody, to(None, &[Role::OrgMember])).await,
        credentials
            .change(key.id, CredentialChange { name: Some("x"), ..to(Some(nowhere), &[Role::GroupOwner]) })
            .await,
        credentials.change(nobody, CredentialChange { description: Some("x"), ..Default::default() }).await,
        credentials
            .give(key.id, &[grant(Role::GroupOwner, Some(lab.id)), grant(Role::GroupOwner, Some(nowhere))])
            .await,
    ] {
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
    let read = credentials.get(key.id).await.unwrap().unwrap();
    assert_eq!((read.name.as_str(), read.grants), ("", vec![]), "all or nothing");
}

fn token(hash: &str, account: &Credential) -> NewToken {
    let secret_id = account.secrets().unwrap().all()[0].id;
    NewToken { sha256: hash.to_owned(), credential_id: account.id, secret_id, expires_at: at(3600) }
}

pub(crate) async fn a_service_account_has_two_secrets_at_a_time(catalog: Catalog) {
    let week = AccountSecrets::REPLACED_MS / 1000;
    let credentials = catalog.credentials();
    let account = credentials.create(new(CredentialKind::ServiceAccount, "sa", &[]), at(1)).await.unwrap();
    let other = credentials.create(new(CredentialKind::ServiceAccount, "sb", &[]), at(1)).await.unwrap();
    let key = credentials.create(new(CredentialKind::ApiKey, "abcdefgh", &[]), at(1)).await.unwrap();
    let secrets = async || {
        let read = credentials.get(account.id).await.unwrap().unwrap();
        read.secrets().unwrap().clone()
    };
    let first = secrets().await.all()[0].clone();
    assert_eq!((first.sha256.0.as_str(), first.created_at, first.expires_at), ("hash", at(1), None));
    let second = credentials.add_secret(account.id, new_secret("second", Some(8)), at(10)).await.unwrap();
    assert_eq!(second.expires_at, Some(at(10 + 8 * 3600)));
    let both = secrets().await;
    assert_eq!((both.all().len(), both.all()[0].expires_at), (2, Some(at(10 + week))));
    assert_eq!(both.all()[1], second);
    let full = credentials.add_secret(account.id, new_secret("third", Some(8)), at(11)).await;
    assert!(matches!(full, Err(Error::Conflict(Conflict::SecretsFull(_)))), "{full:?}");
    assert_eq!(secrets().await, both, "a refusal changes nothing");

    // A token ends with the secret that it was made with, and with no other.
    let of = |hash: &str, secret_id| NewToken {
        sha256: hash.to_owned(),
        credential_id: account.id,
        secret_id,
        expires_at: at(90_000),
    };
    catalog.tokens().insert(&of("t1", first.id), at(12)).await.unwrap();
    catalog.tokens().insert(&of("t2", second.id), at(13)).await.unwrap();
    let used: Vec<_> = secrets().await.all().iter().map(|secret| secret.last_used_at).collect();
    assert_eq!(used, [Some(at(12)), Some(at(13))]);
    let late = catalog.tokens().insert(&of("t3", second.id), at(10 + 8 * 3600)).await;
    assert!(matches!(late, Err(Error::NotFound { what: "secret", .. })), "{late:?}");
    assert!(!credentials.remove_secret(other.id, first.id).await.unwrap(), "a secret of somebody else");
    assert!(credentials.remove_secret(account.id, first.id).await.unwrap());
    assert!(!credentials.remove_secret(account.id, first.id).await.unwrap());
    assert_eq!(catalog.tokens().credential("t1", at(14)).await.unwrap(), None);
    assert!(catalog.tokens().credential("t2", at(14)).await.unwrap().is_some());
    let gone = catalog.tokens().insert(&of("t4", first.id), at(14)).await;
    assert!(matches!(gone, Err(Error::NotFound { what: "secret", .. })), "{gone:?}");
    // One that has expired makes way.
    let third = credentials.add_secret(account.id, new_secret("third", Some(8)), at(90_000)).await.unwrap();
    assert_eq!(secrets().await.all(), std::slice::from_ref(&third));
    assert!(credentials.remove_secret(account.id, third.id).await.unwrap());
    assert_eq!(secrets().await, AccountSecrets::default(), "the last one may go too");

    let change = CredentialChange { name: Some("nightly"), ..Default::default() };
    credentials.change(account.id, change).await.unwrap();
    let read = credentials.get(account.id).await.unwrap().unwrap();
    assert_eq!((read.name.as_str(), read.description.as_str()), ("nightly", "for the tests"));
    let nobody = CredentialId::from_parts(1, [1; 8]);
    for id in [nobody, key.id] {
        let refused = credentials.add_secret(id, new_secret("x", None), at(1)).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        let refused = credentials.remove_secret(id, AccountSecretId::from_parts(1, [1; 8])).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
    // Of two at the same time, one is too many.
    credentials.add_secret(account.id, new_secret("a", None), at(1)).await.unwrap();
    let (left, right) = tokio::join!(
        credentials.add_secret(account.id, new_secret("b", None), at(2)),
        credentials.add_secret(account.id, new_secret("c", None), at(2)),
    );
    assert_eq!(usize::from(left.is_ok()) + usize::from(right.is_ok()), 1, "{left:?} {right:?}");
}

pub(crate) async fn a_deleted_credential_takes_its_tokens_along(catalog: Catalog) {
    let owner = Grant { role: Role::OrgOwner, project: None };
    let account = new(CredentialKind::ServiceAccount, "sa", &[owner]);
    let account = catalog.credentials().create(account, T0).await.unwrap();
    catalog.tokens().insert(&token("t1", &account), T0).await.unwrap();
    assert!(catalog.credentials().delete(account.id).await.unwrap());
    assert!(!catalog.credentials().delete(account.id).await.unwrap());
    assert_eq!(catalog.tokens().credential("t1", at(1)).await.unwrap(), None);
    let late = catalog.tokens().insert(&token("t2", &account), T0).await;
    assert!(matches!(late, Err(Error::NotFound { .. })));
}

pub(crate) async fn tokens_expire_and_are_revoked(catalog: Catalog) {
    let owner = Grant { role: Role::OrgOwner, project: None };
    let account = new(CredentialKind::ServiceAccount, "sa", &[owner]);
    let account = catalog.credentials().create(account, T0).await.unwrap();
    let other =
        catalog.credentials().create(new(CredentialKind::ServiceAccount, "sb", &[]), T0).await.unwrap();
    for hash in ["t1", "t2"] {
        catalog.tokens().insert(&token(hash, &account), T0).await.unwrap();
    }
    let found = catalog.tokens().credential("t1", at(3599)).await.unwrap();
    assert_eq!(found.map(|found| (found.id, found.grants)), Some((account.id, vec![owner])));
    assert_eq!(catalog.tokens().credential("t1", at(3600)).await.unwrap(), None);
    assert_eq!(catalog.tokens().credential("t3", at(1)).await.unwrap(), None);
    assert!(!catalog.tokens().revoke("t1", other.id).await.unwrap(), "a token of somebody else");
    assert!(catalog.tokens().revoke("t1", account.id).await.unwrap());
    assert_eq!(catalog.tokens().credential("t1", at(1)).await.unwrap(), None);
    assert_eq!(catalog.tokens().delete_expired(at(3599)).await.unwrap(), 0);
    assert_eq!(catalog.tokens().delete_expired(at(3600)).await.unwrap(), 1);
}

pub(crate) async fn an_access_list_is_changed_entry_by_entry(catalog: Catalog) {
    let credentials = catalog.credentials();
    let owner = Grant { role: Role::OrgOwner, project: None };
    let key = credentials.create(new(CredentialKind::ApiKey, "abcdefgh", &[owner]), at(1)).await.unwrap();
    let other = credentials.create(new(CredentialKind::ApiKey, "ijklmnop", &[owner]), at(1)).await.unwrap();
    assert!(key.access.is_empty());
    let block = |text: &str| text.parse::<AddressBlock>().unwrap();
    let (home, office) = (block("192.0.2.7"), block("10.0.0.0/8"));
    let first = credentials.change_access(key.id, &[], &[home, office], at(2)).await.unwrap();
    let second = credentials.change_access(key.id, &[home], &[office, block("::1")], at(3)).await.unwrap();
    assert_eq!(first.entries().len(), 2);
    let told: Vec<_> = second.entries().iter().map(|entry| (entry.block, entry.created_at)).collect();
    assert_eq!(told, [(office, at(2)), (block("::1"), at(3))]);
    assert_eq!(credentials.get(key.id).await.unwrap().unwrap().access, second);
    let account = credentials.create(new(CredentialKind::ServiceAccount, "sa", &[]), at(1)).await.unwrap();
    let listed = credentials.change_access(account.id, &[], &[home], at(2)).await.unwrap();
    catalog.tokens().insert(&token("aa", &account), at(4)).await.unwrap();
    assert_eq!(catalog.tokens().credential("aa", at(5)).await.unwrap().unwrap().access, listed);
    assert!(credentials.get(other.id).await.unwrap().unwrap().access.is_empty(), "each has its own");

    let many: Vec<_> =
        (0..AccessList::ENTRIES_MAX).map(|n| block(&format!("10.1.{}.{}", n / 250, n % 250))).collect();
    let full = credentials.change_access(key.id, &[], &many, at(6)).await;
    assert!(matches!(full, Err(Error::Conflict(Conflict::AccessListFull))), "{full:?}");
    assert_eq!(credentials.get(key.id).await.unwrap().unwrap().access, second, "a refusal changes nothing");
    let nobody = credentials.change_access(CredentialId::from_parts(1, [9; 8]), &[], &[], at(7)).await;
    assert!(matches!(nobody, Err(Error::NotFound { .. })), "{nobody:?}");
    // Two at the same time are both made.
    let (a, b) = (block("10.2.0.1"), block("10.2.0.2"));
    let (one, two) = ([a], [b]);
    let (left, right) = tokio::join!(
        credentials.change_access(key.id, &[], &one, at(8)),
        credentials.change_access(key.id, &[], &two, at(8)),
    );
    left.unwrap();
    right.unwrap();
    let after = credentials.get(key.id).await.unwrap().unwrap().access;
    assert!(after.entry(a).is_some() && after.entry(b).is_some(), "{after:?}");
}
