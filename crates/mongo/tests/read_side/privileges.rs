//! The documented roles are enough, and nothing in them is spare.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongo::{
    CollectionKind, Deployment, Error, facts, oplog,
    privileges::{self, Purpose, Resource},
    read, time, window,
};
use testbed::{Options, Server};

use crate::support::{connect, drain, fill, on_each_version};

on_each_version!(the_backup_role_is_enough_and_least, other_accounts_are_told_what_they_lack);

const PASSWORD: &str = "p";

async fn auth_server(version: &str) -> Server {
    let server = Server::start(Options::version(version).with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    fill(&client, "app.plain", 500, 1).await;
    let app = client.database("app");
    for command in [
        doc! { "create": "points", "timeseries": { "timeField": "t" } },
        doc! { "insert": "points", "documents": [{ "t": bson::DateTime::from_millis(0) }] },
        doc! { "create": "log", "capped": true, "size": 4096 },
        doc! { "insert": "log", "documents": [{ "_id": 1 }] },
        doc! { "create": "view", "viewOn": "plain", "pipeline": [] },
        doc! { "insert": "system.js", "documents": [{ "_id": "f", "value": 1 }] },
    ] {
        app.run_command(command).await.unwrap();
    }
    server
}

/// Everything that a snapshot does.
async fn snapshot(deployment: &Deployment) -> mongo::Result<()> {
    deployment.facts().await?;
    let planned = window::plan(deployment, 301).await?.unwrap();
    match window::raise(deployment, &planned).await {
        // Optional.
        Err(Error::Privilege(_)) => {}
        other => other?,
    }
    window::put_back(deployment, &planned).await?;
    let pinned = mongo::listing::pin(deployment).await?;
    let mut wire = deployment.read_wire().await?;
    for collection in pinned.collections.iter().filter(|collection| collection.kind.has_documents()) {
        read::choose_order(&mut wire, collection, 1).await?;
        if collection.kind == CollectionKind::Capped {
            drain(read::capped(&mut wire, collection, pinned.at).await?.cursor).await?;
            continue;
        }
        drain(read::sorted(&mut wire, collection, pinned.at, None).await?).await?;
        read::split_points(&mut wire, collection, 4).await?;
        for range in read::natural_split(&mut wire, collection, pinned.at, 4).await? {
            drain(read::natural(&mut wire, collection, pinned.at, &range).await?).await?;
        }
    }
    for collection in ["system.users", "system.roles"] {
        deployment.run_admin(doc! { "find": collection, "readConcern": { "level": "snapshot", "atClusterTime": pinned.at } }).await?;
    }
    mongo::ddl::between(deployment, pinned.at, time::majority_now(deployment).await?).await.map(drop)
}

/// Everything that a continuous backup does.
async fn capture(deployment: &Deployment) -> mongo::Result<()> {
    facts::replica_set_id(deployment).await?;
    let start = oplog::start(deployment).await?;
    oplog::window(deployment).await?;
    let mut tail = oplog::Tail::open(deployment, start.after).await?;
    let end = time::majority_now(deployment).await?;
    while tail.position().time < end {
        tail.next(Duration::from_millis(100)).await?;
    }
    tail.close().await
}

async fn the_backup_role_is_enough_and_least(version: &str) {
    let server = auth_server(version).await;
    let number = server_version(version);
    let role = privileges::role_definition(Purpose::Backup, number);
    server.admin(role.clone()).await.unwrap();
    let user = doc! { "createUser": "backup", "pwd": PASSWORD, "roles": [Purpose::Backup.role()] };
    server.admin(user).await.unwrap();
    let deployment = connect(&server.uri_for("backup", PASSWORD)).await.unwrap();
    assert_eq!(privileges::check(&deployment, Purpose::Backup).await.unwrap(), []);
    snapshot(&deployment).await.unwrap();
    capture(&deployment).await.unwrap();

    // One action less, each in turn: either the snapshot fails for it, or it was not needed.
    let (mut spare, mut captures_without) = (Vec::new(), 0);
    for (resource, action) in actions(&role) {
        let mut update = without(&role, &resource, &action);
        update.remove("createRole");
        let mut command = doc! { "updateRole": Purpose::Backup.role() };
        command.extend(update);
        server.admin(command).await.unwrap();
        let missing = privileges::check(&deployment, Purpose::Backup).await.unwrap();
        assert_eq!(missing.len(), 1, "{action} on {resource}: {missing:?}");
        assert_eq!(
            (&missing[0].resource.document(), missing[0].action.as_str()),
            (&resource, action.as_str())
        );
        let deployment = connect(&server.uri_for("backup", PASSWORD)).await.unwrap();
        match snapshot(&deployment).await {
            Ok(()) => spare.push((resource.clone(), action.clone(), missing[0].optional)),
            Err(error) => assert!(matches!(error, Error::Privilege(_)), "{action} on {resource}: {error}"),
        }
        match capture(&deployment).await {
            Ok(()) => {
                captures_without += 1;
                assert_ne!(
                    missing[0].resource,
                    Resource::Transactions,
                    "open transactions are not guessed at"
                );
            }
            Err(error) => {
                assert!(matches!(error, Error::Privilege(_)), "{action} on {resource}: {error}");
                let told = error.to_string().contains("config.transactions");
                assert_eq!(told, missing[0].resource == Resource::Transactions, "{error}");
            }
        }
    }
    spare.retain(|(_, _, optional)| !optional);
    assert_eq!(spare, []);
    assert!(captures_without > 0);
}

async fn other_accounts_are_told_what_they_lack(version: &str) {
    let server = auth_server(version).await;
    let number = server_version(version);
    server
        .admin(doc! { "createUser": "reader", "pwd": PASSWORD, "roles": ["readAnyDatabase"] })
        .await
        .unwrap();
    let deployment = connect(&server.uri_for("reader", PASSWORD)).await.unwrap();
    for purpose in [Purpose::Backup, Purpose::Restore, Purpose::RestoreUsers] {
        let missing = privileges::check(&deployment, purpose).await.unwrap();
        assert!(
            missing
                .iter()
                .any(|missing| missing.resource == Resource::Cluster && missing.action == "appendOplogNote")
        );
        assert!(
            !missing
                .iter()
                .any(|missing| missing.resource == Resource::AnyCollection && missing.action == "find"),
            "{missing:?}"
        );
        // What the remedy says, word for word but for the shell around it.
        let role = privileges::role_definition(purpose, number);
        let remedy = privileges::remedy(&missing, purpose, number, Some(("admin", "reader")));
        let json = remedy
            .lines()
            .next()
            .unwrap()
            .strip_prefix("db.getSiblingDB(\"admin\").createRole(")
            .unwrap()
            .strip_suffix(')')
            .unwrap();
        let shown: Document = match Bson::try_from(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).unwrap(),
        )
        .unwrap()
        {
            Bson::Document(shown) => shown,
            other => panic!("{other}"),
        };
        assert_eq!(shown.get("privileges"), role.get("privileges"));
        server.admin(role).await.unwrap();
        server.admin(doc! { "grantRolesToUser": "reader", "roles": [purpose.role()] }).await.unwrap();
        assert_eq!(privileges::check(&deployment, purpose).await.unwrap(), []);
        server.admin(doc! { "revokeRolesFromUser": "reader", "roles": [purpose.role()] }).await.unwrap();
    }
    // The account that people have at hand is enough, too, though it may not read `system.views`.
    let root = connect(&server.uri()).await.unwrap();
    for purpose in [Purpose::Backup, Purpose::Restore, Purpose::RestoreUsers] {
        let missing = privileges::check(&root, purpose).await.unwrap();
        assert!(missing.iter().all(|missing| missing.optional), "{missing:?}");
    }
    snapshot(&root).await.unwrap();
    capture(&root).await.unwrap();
    let pinned = mongo::listing::pin(&root).await.unwrap();
    assert!(pinned.excluded.iter().any(|(namespace, _)| namespace.collection == "system.views"));
    assert!(pinned.collections.iter().any(|collection| collection.kind == CollectionKind::View));
}

fn server_version(text: &str) -> (u32, u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}

fn actions(role: &Document) -> Vec<(Document, String)> {
    let mut actions = Vec::new();
    for privilege in role.get_array("privileges").unwrap() {
        let privilege = privilege.as_document().unwrap();
        for action in privilege.get_array("actions").unwrap() {
            actions.push((
                privilege.get_document("resource").unwrap().clone(),
                action.as_str().unwrap().to_owned(),
            ));
        }
    }
    actions
}

fn without(role: &Document, resource: &Document, action: &str) -> Document {
    let mut role = role.clone();
    let privileges = role.get_array_mut("privileges").unwrap();
    for privilege in privileges.iter_mut() {
        let privilege = privilege.as_document_mut().unwrap();
        if privilege.get_document("resource").unwrap() == resource {
            privilege.get_array_mut("actions").unwrap().retain(|held| held.as_str() != Some(action));
        }
    }
    privileges.retain(|privilege| !privilege.as_document().unwrap().get_array("actions").unwrap().is_empty());
    role
}
