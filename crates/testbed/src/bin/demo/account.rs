//! The account that Ebbtide uses: what docs/privileges.md asks for, and nothing more. No `root`, no `anyAction`.

use anyhow::Context;
use bson::{Document, doc};
use mongodb::Client;

/// The account's name.
pub(crate) const USER: &str = "ebbtide";
/// The account's password.
pub(crate) const PASSWORD: &str = "a demonstration";

/// Creates the role and the account, as a DBA would before `ebbtide cluster add`.
pub(crate) async fn create(client: &Client) -> anyhow::Result<()> {
    let version = testbed::data::server_version(client).await?;
    let admin = client.database("admin");
    let role = doc! { "createRole": USER, "privileges": privileges(version), "roles": [] };
    admin.run_command(role).await.context("create the role")?;
    let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": [USER] };
    admin.run_command(user).await.context("create the account")?;
    Ok(())
}

fn privileges(version: (i32, i32)) -> Vec<Document> {
    let on = |resource: Document, actions: &[&str]| doc! { "resource": resource, "actions": actions };
    let mut cluster = vec![
        "appendOplogNote",
        "getParameter",
        "setParameter",
        "inprog",
        "listDatabases",
        "replSetGetConfig",
        "replSetGetStatus",
        "serverStatus",
    ];
    if version >= (6, 0) {
        cluster.extend(["setUserWriteBlockMode", "bypassWriteBlockingMode"]);
    }
    let read = ["find", "listIndexes", "collStats"];
    let write = ["insert", "update", "remove", "bypassDocumentValidation", "createCollection"];
    let shape = ["dropCollection", "collMod", "createIndex", "dropIndex"];
    let everywhere =
        ["listCollections", "dbStats", "convertToCapped", "renameCollectionSameDB", "dropDatabase"];
    let all = [&read[..], &write, &shape];
    vec![
        on(doc! { "cluster": true }, &cluster),
        on(doc! { "db": "", "collection": "" }, &[all.concat(), everywhere.to_vec()].concat()),
        on(doc! { "db": "", "system_buckets": "" }, &all.concat()),
        on(doc! { "db": "", "collection": "system.js" }, &[&read[..], &write].concat()),
        on(doc! { "db": "", "collection": "system.views" }, &read),
        on(doc! { "db": "local", "collection": "oplog.rs" }, &["find", "collStats"]),
        on(doc! { "db": "config", "collection": "transactions" }, &["find"]),
        on(doc! { "db": "admin", "collection": "system.users" }, &["find"]),
        on(doc! { "db": "admin", "collection": "system.roles" }, &["find"]),
    ]
}
