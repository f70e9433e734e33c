//! Projects: made, renamed, deleted when nothing is in them any more.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{App, Request, Response};
use model::role::Role;
use serde_json::{Value, json};

const PATH: &str = "/api/atlas/v2/groups";
const ORGANIZATION: &str = "5ebb71de0000000000000001";

fn body(name: &str) -> Value {
    json!({"name": name, "orgId": ORGANIZATION})
}

async fn post(app: &App, account: &common::Key, body: &Value) -> Response {
    app.send(account, Request::new("POST", PATH).json(body)).await
}

#[tokio::test]
async fn a_project_is_made_renamed_and_deleted() {
    let app = App::start().await;
    let org = app.key_in(&[Role::OrgOwner], None).await;
    let mut whole = body("lab");
    whole["tags"] = json!([]);
    whole["withDefaultAlertsSettings"] = json!(true);
    let made = post(&app, &org, &whole).await.expect(200);
    assert_eq!(
        (&made["name"], &made["orgId"], &made["clusterCount"]),
        (&json!("lab"), &json!(ORGANIZATION), &json!(0))
    );
    let id = made["id"].as_str().unwrap();
    let one = format!("{PATH}/{id}");
    let get = async || app.send(&org, Request::new("GET", &one)).await;
    assert_eq!(get().await.expect(200), made);
    post(&app, &org, &body("lab")).await.refused(409, "GROUP_ALREADY_EXISTS");

    let patch = async |body: Value| app.send(&org, Request::new("PATCH", &one).json(&body)).await;
    patch(json!({"name": app.project.name})).await.refused(409, "GROUP_ALREADY_EXISTS");
    app.pass_seconds(1);
    let renamed = patch(json!({"name": "laboratory", "tags": []})).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["id"]), (&json!("laboratory"), &made["id"]));
    assert_eq!(get().await.expect(200), renamed);
    assert_eq!(patch(json!({})).await.expect(200), renamed);
    let named = app.send(&org, Request::new("GET", &format!("{PATH}/byName/laboratory"))).await.expect(200);
    assert_eq!(named, renamed);
    app.pass_seconds(1);
    post(&app, &org, &body("lab")).await.expect(200);
    app.pass_seconds(1);
    app.send(&org, Request::new("DELETE", &one)).await.expect(204);
    get().await.refused(404, "GROUP_NOT_FOUND");
    app.send(&org, Request::new("DELETE", &one)).await.refused(404, "GROUP_NOT_FOUND");
    let changes = app.changes().await;
    let told: Vec<_> = changes.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(
        &told[..4],
        ["project.delete", "project.create", "project.update", "project.create"],
        "{changes:#?}"
    );
    app.stop().await;
}

#[tokio::test]
async fn a_project_that_holds_something_stays() {
    let app = App::start().await;
    let one = app.group("");
    let told = app.delete(&one).await.refused(409, "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS");
    assert!(told["detail"].as_str().unwrap().ends_with(" It has 1 registered deployments."), "{told}");
    let snapshot = app.snapshot().await;
    app.catalog.deployments().remove(app.cluster.id, app.now()).await.unwrap();
    let told = app.delete(&one).await.refused(409, "RESOURCE_BUSY");
    assert!(
        told["detail"].as_str().unwrap().contains("1 snapshots of deployments that were removed"),
        "{told}"
    );
    app.get(&one).await.expect(200);
    app.catalog.snapshots().delete(snapshot.id, app.now()).await.unwrap();
    app.delete(&one).await.expect(204);
    // Whoever had a role in it alone is nobody now.
    app.get(&one).await.refused(401, "UNEXPECTED_ERROR");
    app.stop().await;
}

/// Another server has deleted it, and this one still knows it.
#[tokio::test]
async fn a_project_that_goes_under_a_request_is_not_found() {
    let app = App::start().await;
    let lab = app.catalog.projects().create("lab", app.now()).await.unwrap();
    let owner = app.key_in(&[Role::GroupOwner], Some(&lab)).await;
    let reader = catalog::Grant { role: Role::GroupReadOnly, project: Some(app.project.id) };
    let found =
        app.catalog.credentials().by_public_name(catalog::CredentialKind::ApiKey, &owner.public).await;
    app.catalog.credentials().give(found.unwrap().unwrap().id, &[reader]).await.unwrap();
    let listed = app.send(&owner, Request::new("GET", PATH)).await.expect(200);
    assert_eq!(listed["totalCount"], 2);
    app.catalog.projects().delete(lab.id, app.now()).await.unwrap();
    let new = json!({"name": "orders", "uri": "mongodb://db1/?replicaSet=rs0"});
    let path = format!("/api/ebbtide/v1/groups/{}/clusters", lab.id);
    app.send(&owner, Request::new("POST", &path).json(&new)).await.refused(404, "GROUP_NOT_FOUND");
    // What is left of its roles is remembered for a moment, and shows what is left.
    let listed = app.send(&owner, Request::new("GET", PATH)).await.expect(200);
    assert_eq!((&listed["totalCount"], &listed["results"][0]["name"]), (&json!(1), &json!(app.project.name)));
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_project_is_refused() {
    let app = App::start().await;
    let org = app.key_in(&[Role::OrgOwner], None).await;
    let with = |name: &str, value: Value| {
        let mut changed = body("lab");
        changed[name] = value;
        changed
    };
    for (body, status, code) in [
        (json!({"orgId": ORGANIZATION}), 400, "MISSING_ATTRIBUTE"),
        (json!({"name": "lab"}), 400, "MISSING_ATTRIBUTE"),
        (with("orgId", json!("5ebb71de00000000000000ff")), 400, "INVALID_ATTRIBUTE"),
        (with("name", json!("")), 400, "INVALID_ATTRIBUTE"),
        (with("name", json!(" lab")), 400, "INVALID_ATTRIBUTE"),
        (with("name", json!("a/b")), 400, "INVALID_ATTRIBUTE"),
        (with("name", json!("x".repeat(65))), 400, "INVALID_ATTRIBUTE"),
        (with("owner", json!("me")), 400, "INVALID_ATTRIBUTE"),
        (with("tags", json!([{"key": "a", "value": "b"}])), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
        (with("withDefaultAlertsSettings", json!(false)), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
        (with("regionUsageRestrictions", json!("GOV_REGIONS_ONLY")), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
    ] {
        post(&app, &org, &body).await.refused(status, code);
    }
    let owned =
        Request::new("POST", &format!("{PATH}?projectOwnerId=0123456789abcdef01234567")).json(&body("lab"));
    app.send(&org, owned).await.refused(403, "UNSUPPORTED_FOR_CURRENT_CONFIG");
    app.patch(&app.group(""), json!({"name": "a/b"})).await.refused(400, "INVALID_ATTRIBUTE");
    // Owners of a project make none, and whoever reads one changes none.
    post(&app, &app.owner, &body("lab")).await.refused(403, "ACCESS_FORBIDDEN");
    let reader = app.key(&[Role::GroupReadOnly]).await;
    let group = app.group("");
    app.send(&reader, Request::new("PATCH", &group).json(&json!({"name": "b"})))
        .await
        .refused(403, "ACCESS_FORBIDDEN");
    app.send(&reader, Request::new("DELETE", &group)).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}
