//! How a registered deployment is reached: its connection string is replaced by one that leads to the same replica set.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::Deployment;
use common::{App, Request};
use model::role::Role;
use serde_json::{Value, json};

const FIRST: &str = "mongodb://u:hush-first@h/?replicaSet=rs1";
const SECOND: &str = "mongodb://u:hush-second@h/?replicaSet=rs1";

async fn row(app: &App, name: &str) -> Deployment {
    app.catalog.deployments().by_name(app.project.id, name).await.unwrap().unwrap()
}

/// The connection string that the catalog has.
async fn kept(app: &App, name: &str) -> String {
    let sealed = row(app, name).await.uri_sealed;
    String::from_utf8(app.sealer.0.open("deployment-uri", &sealed.0).unwrap().to_vec()).unwrap()
}

async fn registered() -> App {
    let app = App::start().await;
    app.post(&app.own("/clusters"), json!({"name": "n1", "uri": FIRST})).await.expect(201);
    app
}

#[tokio::test]
async fn a_connection_string_is_replaced_and_told_to_nobody() {
    let app = registered().await;
    let path = app.own("/clusters/n1");
    app.get(&path).await.expect(200);
    app.pass_seconds(60);
    let poked = app.state.poke.clone();
    let woken = tokio::spawn(async move { poked.notified().await });
    let answer = app.patch(&path, json!({"uri": SECOND})).await;
    let changed = answer.expect(200);
    woken.await.unwrap();
    assert_eq!((&changed["check"]["ok"], &changed["replicaSetName"]), (&json!(true), &json!("rs1")));
    assert_eq!(changed["checkedAt"], "2025-11-22T00:01:00Z", "what was seen is what is known from now on");
    assert_eq!(changed["continuousBackup"], json!({"pitEnabled": false, "restoreWindowDays": 7}));
    assert!(!answer.text().contains("hush"), "the connection string is shown");
    assert_eq!(kept(&app, "n1").await, SECOND);
    assert_eq!(app.get(&path).await.expect(200)["checkedAt"], changed["checkedAt"]);

    let both = json!({"uri": FIRST, "continuousBackup": {"pitEnabled": true}});
    let changed = app.patch(&path, both).await.expect(200);
    assert_eq!(changed["continuousBackup"], json!({"pitEnabled": true, "restoreWindowDays": 7}));
    assert_eq!(kept(&app, "n1").await, FIRST);
    assert!(row(&app, "n1").await.continuous.pit_enabled);
    let audit = app.changes().await;
    let details: Vec<&Value> = audit.iter().map(|entry| &entry.detail).collect();
    assert!(details.contains(&&json!({"name": "n1", "uri": "replaced"})), "{details:?}");
    assert!(!format!("{details:?}").contains("hush"), "{details:?}");
    app.stop().await;
}

#[tokio::test]
async fn it_leads_to_the_replica_set_that_is_registered() {
    let app = registered().await;
    let path = app.own("/clusters/n1");
    let elsewhere = "mongodb://u:hush-third@h/?replicaSet=rs2";
    let wanted = json!({"uri": elsewhere, "continuousBackup": {"pitEnabled": true}});
    let answer = app.patch(&path, wanted).await;
    let refused = answer.refused(400, "VALIDATION_ERROR");
    let told = refused["badRequestDetail"]["fields"][0]["description"].as_str().unwrap();
    assert!(told.starts_with("OTHER_REPLICA_SET: "), "{told}");
    for said in ["rs2 (id id-of-rs2)", "rs1 (id id-of-rs1)", "register that one as another cluster"] {
        assert!(told.contains(said), "{told}");
    }
    assert!(!answer.text().contains("hush"), "{}", answer.text());
    // A set that does not tell its id may be any.
    app.patch(&path, json!({"uri": "mongodb://h/"})).await.refused(400, "VALIDATION_ERROR");
    assert_eq!(kept(&app, "n1").await, FIRST);
    assert!(!row(&app, "n1").await.continuous.pit_enabled, "a refusal changes nothing");

    // Of the first one no id was seen yet.
    app.patch(&app.own("/clusters/c1"), json!({"uri": elsewhere})).await.expect(200);
    assert_eq!(row(&app, "c1").await.facts.replica_set_id.as_deref(), Some("id-of-rs2"));
    app.patch(&app.own("/clusters/c1"), json!({"uri": FIRST})).await.refused(400, "VALIDATION_ERROR");
    app.stop().await;
}

#[tokio::test]
async fn what_would_not_be_registered_is_not_taken() {
    let app = registered().await;
    let path = app.own("/clusters/n1");
    for (uri, code) in [
        ("mongodb://u:hush@away/?replicaSet=rs1", "UNREACHABLE"),
        ("mongodb://u:hush@malformed/?replicaSet=rs1", "INVALID_CONNECTION_STRING"),
        ("mongodb://u:hush@bad/?replicaSet=rs1", "MISSING_PRIVILEGE"),
    ] {
        let answer = app.patch(&path, json!({"uri": uri})).await;
        let refused = answer.refused(400, "VALIDATION_ERROR");
        let told = refused["badRequestDetail"]["fields"][0]["description"].as_str().unwrap();
        assert!(told.starts_with(code) && !answer.text().contains("hush"), "{}", answer.text());
        let added = app.post(&app.own("/clusters"), json!({"name": "n2", "uri": uri})).await;
        assert_eq!(added.refused(400, "VALIDATION_ERROR"), refused, "as a registration is refused");
    }
    for (body, code) in [
        (json!({"uri": ""}), "INVALID_ATTRIBUTE"),
        (json!({"uri": "x".repeat(8 * 1024 + 1)}), "INVALID_ATTRIBUTE"),
        (json!({"uri": 1}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"uri": null}), "MISSING_ONE_OF_ATTRIBUTES"),
        (json!({"uri": SECOND, "continuousBackup": {}}), "MISSING_ONE_OF_ATTRIBUTES"),
        (json!({"uri": SECOND, "kind": "serverless"}), "INVALID_ATTRIBUTE"),
    ] {
        app.patch(&path, body).await.refused(400, code);
    }
    let change = json!({"uri": SECOND});
    app.patch(&app.own("/clusters/zz"), change.clone()).await.refused(404, "CLUSTER_NOT_FOUND");
    for role in [Role::GroupBackupManager, Role::GroupReadOnly] {
        let key = app.key(&[role]).await;
        let by_others = Request::new("PATCH", &path).json(&change);
        app.send(&key, by_others).await.refused(403, "ACCESS_FORBIDDEN");
    }
    assert_eq!(kept(&app, "n1").await, FIRST);
    app.delete(&path).await.expect(204);
    app.patch(&path, change).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}
