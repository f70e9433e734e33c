//! Users and roles, in `admin` and elsewhere.

use bson::doc;
use mongodb::{Client, Database};

pub(super) async fn load(client: &Client, database: &Database) -> anyhow::Result<()> {
    let (admin, name) = (client.database("admin"), database.name());
    database.collection("things").insert_one(doc! { "_id": 1 }).await?;
    database
        .run_command(doc! {
            "createRole": "reader",
            "privileges": [{ "resource": { "db": name, "collection": "things" }, "actions": ["find"] }],
            "roles": [],
        })
        .await?;
    admin
        .run_command(doc! {
            "createRole": "operator",
            "privileges": [{ "resource": { "cluster": true }, "actions": ["serverStatus", "inprog"] }],
            "roles": [{ "role": "reader", "db": name }, { "role": "read", "db": "bulk" }],
            "authenticationRestrictions": [{ "clientSource": ["127.0.0.1", "10.0.0.0/8"] }],
        })
        .await?;
    admin
        .run_command(doc! {
            "createUser": "olga", "pwd": "olga's $ecret @:/", "roles": ["operator", "clusterMonitor"],
            "customData": { "team": "storage", "since": 2019 },
        })
        .await?;
    database
        .run_command(doc! {
            "createUser": "Zoë o'Neil", "pwd": "p", "roles": ["reader", "readWrite"],
            "mechanisms": ["SCRAM-SHA-256"],
        })
        .await?;
    Ok(())
}
