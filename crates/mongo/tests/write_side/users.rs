//! Users and roles: back with their passwords, and never against whoever restores them.

use bson::{Document, doc};
use mongo::{
    ConnectOptions, Deployment, Namespace, Uri,
    principals::{self, RestorePrincipals},
    privileges::{Purpose, role_definition},
};
use testbed::{
    Server,
    data::{Set, load},
    oracle,
};

use crate::{connect, on_versions, start_with_auth};

async fn can_log_in(server: &Server, user: &str, password: &str, db: &str) -> bool {
    let uri = server.uri_for(user, password).replace("authSource=admin", &format!("authSource={db}"));
    Deployment::connect(&Uri::parse(&uri).unwrap(), &ConnectOptions::default()).await.is_ok()
}

/// An account with the documented role for restoring users, and nothing else.
async fn documented(server: &Server, root: &Deployment) -> Deployment {
    root.run_admin(role_definition(Purpose::RestoreUsers, root.version())).await.unwrap();
    let create = doc! { "createUser": "ebbtide", "pwd": "pw", "roles": [Purpose::RestoreUsers.role()] };
    root.run_admin(create).await.unwrap();
    connect(&server.uri_for("ebbtide", "pw")).await
}

async fn users_come_back_with_their_passwords(version: &str) {
    let (server, root) = start_with_auth(version).await;
    let client = server.client().await.unwrap();
    load(&client, 1, &[Set::Principals]).await.unwrap();
    let ours = documented(&server, &root).await;
    let backup = principals::dump(&ours).await.unwrap();
    let wanted = oracle::state(&client).await.unwrap();
    let db = Set::Principals.database();

    let run = async |db: &str, command: Document| root.run(db, command).await.unwrap();
    run("admin", doc! { "dropUser": "olga" }).await;
    run(db, doc! { "dropRole": "reader" }).await;
    run("admin", doc! { "updateRole": "operator", "privileges": [] }).await;
    run(db, doc! { "updateUser": "Zoë o'Neil", "pwd": "changed" }).await;
    run("admin", doc! { "createUser": "newer", "pwd": "p", "roles": [] }).await;
    // The account in use has changed since the backup, and stays as it is now.
    run("admin", doc! { "updateUser": "ebbtide", "customData": { "changed": true } }).await;
    let (_, ours_now) = (backup.users.len(), find(&root, "ebbtide").await);

    let keep = Some(("admin".to_owned(), "ebbtide".to_owned()));
    let options = RestorePrincipals { keep: keep.clone(), remove_others: false };
    let report = principals::restore(&ours, &backup, &options).await.unwrap();
    // The account, its role, and the newer user.
    assert_eq!((report.users, report.roles, report.kept), (3, 2, 3));
    assert!(can_log_in(&server, "olga", "olga's $ecret @:/", "admin").await);
    assert!(can_log_in(&server, "newer", "p", "admin").await);
    assert_eq!(find(&root, "ebbtide").await, ours_now);
    assert!(find(&root, "newer").await.is_some());

    let options = RestorePrincipals { keep, remove_others: true };
    principals::restore(&ours, &backup, &options).await.unwrap();
    assert!(find(&root, "newer").await.is_none());
    assert_eq!(find(&root, "ebbtide").await, ours_now);
    let found = oracle::state(&client).await.unwrap();
    let without_us = |mut state: oracle::State| {
        state.users.remove("admin.ebbtide");
        state
    };
    oracle::assert_same(&without_us(wanted), &without_us(found));
    let staged = root.driver().database("admin").list_collection_names().await.unwrap();
    assert!(!staged.iter().any(|name| name.contains("staging")), "{staged:?}");
    // The connection in use was not thrown out.
    ours.run_admin(doc! { "listDatabases": 1 }).await.unwrap();
}
on_versions!(users_come_back_with_their_passwords);

async fn find(root: &Deployment, user: &str) -> Option<Vec<u8>> {
    let all = crate::documents(root, &Namespace::new("admin", "system.users")).await;
    all.into_iter()
        .find(|document| bson::RawDocument::from_bytes(document).unwrap().get_str("user").unwrap() == user)
}
