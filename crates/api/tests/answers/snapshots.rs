//! Snapshots: take, read, list, keep, delete; registering what they are taken of.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::Outcome;
use common::{App, Request};
use model::{ClusterTime, DeploymentKind, role::Role};
use serde_json::json;

#[tokio::test]
async fn taking_one_answers_200_at_once() {
    let app = App::start().await;
    let response =
        app.post(&app.backup("/snapshots"), json!({"description": "before", "retentionInDays": 2})).await;
    let body = response.expect(200);
    let path = format!("http://api.test:8080{}", app.backup(""));
    assert_eq!(
        body,
        json!({
            "copyRegions": [], "createdAt": "2025-11-22T00:00:00Z", "description": "before",
            "expiresAt": "2025-11-24T00:00:00Z", "id": body["id"],
            "links": [
                {"href": format!("{path}/snapshots/{}", body["id"].as_str().unwrap()), "rel": "self"},
                {"href": path.trim_end_matches("/backup"), "rel": "https://cloud.mongodb.com/cluster"},
            ],
            "policyItems": [], "replicaSetName": "rs0", "snapshotType": "onDemand", "status": "queued",
            "storageSizeBytes": 0, "type": "replicaSet",
        })
    );
    app.post(&app.backup("/snapshots"), json!({})).await.refused(400, "UNFINISHED_ON_DEMAND_SNAPSHOT");
    app.pass_seconds(60);
    app.complete_snapshot().await;
    let done =
        app.get(&app.backup(&format!("/snapshots/{}", body["id"].as_str().unwrap()))).await.expect(200);
    assert_eq!((&done["status"], &done["mongodVersion"]), (&json!("completed"), &json!("6.0.5")));
    assert_eq!(
        (&done["createdAt"], &done["expiresAt"]),
        (&json!("2025-11-22T00:01:00Z"), &json!("2025-11-24T00:01:00Z"))
    );
    assert_eq!(done["storageSizeBytes"], 400);
    app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn bad_bodies() {
    let app = App::start().await;
    let path = app.backup("/snapshots");
    for (body, code) in [
        (json!({"retentionInDays": 0}), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (json!({"retentionInDays": -1}), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (json!({"retentionInDays": 1.5}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"retentionInDays": "1"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"retentionInDays": 2_000_000_000}), "INVALID_ATTRIBUTE"),
        (json!({"description": 1}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"description": "x".repeat(2000)}), "INVALID_ATTRIBUTE"),
        (json!({"retention": 1}), "INVALID_ATTRIBUTE"),
    ] {
        app.post(&path, body).await.refused(400, code);
    }
    assert_eq!(app.get(&path).await.expect(200)["totalCount"], 0);
    app.stop().await;
}

#[tokio::test]
async fn the_list_can_be_asked_for_a_time() {
    let app = App::start().await;
    let first = app.snapshot().await;
    app.pass_seconds(10);
    let path = app.backup("/snapshots");
    let all = app.get(&path).await.expect(200);
    assert_eq!(all["results"][0]["id"], first.id.to_string());
    let second = common::START / 1000;
    let found = |query: String| {
        let path = format!("{path}?{query}");
        let app = &app;
        async move { app.get(&path).await.expect(200)["totalCount"].clone() }
    };
    assert_eq!(found(format!("pointInTimeUtcSeconds={}", second + 1)).await, 1);
    assert_eq!(found(format!("pointInTimeUtcSeconds={}", second - 1)).await, 0);
    assert_eq!(found(format!("oplogTs={second}&oplogInc=3")).await, 1);
    assert_eq!(found(format!("oplogTs={second}&oplogInc=2")).await, 0);
    app.get(&format!("{path}?oplogTs=1")).await.refused(400, "MISSING_QUERY_PARAMETER");
    app.get(&format!("{path}?oplogTs=1&oplogInc=1&pointInTimeUtcSeconds=1"))
        .await
        .refused(400, "MUTUALLY_EXCLUSIVE_QUERY_PARAMETERS");
    app.get(&format!("{path}?pointInTimeUtcSeconds=x")).await.refused(400, "INVALID_QUERY_PARAMETER");
    app.stop().await;
}

#[tokio::test]
async fn the_one_closest_before_a_time_is_so_by_its_data_whenever_it_was_asked_for() {
    let app = App::start().await;
    let second = (common::START / 1000) as u32;
    let at = |increment| ClusterTime { seconds: second + 20, increment };
    let newest = app.snapshot_as_of(&app.cluster, at(2)).await;
    app.pass_seconds(60);
    let asked_last = app.snapshot_as_of(&app.cluster, at(1)).await;
    for (query, closest) in [
        (format!("pointInTimeUtcSeconds={}", second + 30), &newest),
        (format!("oplogTs={}&oplogInc=2", second + 20), &newest),
        (format!("oplogTs={}&oplogInc=1", second + 20), &asked_last),
    ] {
        let told = app.get(&app.backup(&format!("/snapshots?{query}"))).await.expect(200);
        assert_eq!(told["totalCount"], 1, "{query}");
        assert_eq!(told["results"][0]["id"], closest.id.to_string(), "{query}");
    }
    let all = app.get(&app.backup("/snapshots")).await.expect(200);
    assert_eq!(all["results"][0]["id"], asked_last.id.to_string(), "without a time by when it was asked for");
    app.stop().await;
}

#[tokio::test]
async fn retention_is_changed_in_capitals() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = app.backup(&format!("/snapshots/{}", snapshot.id));
    let patch = |body: serde_json::Value| app.send(&app.owner, Request::new("PATCH", &path).json(&body));
    let body = patch(json!({"retentionUnit": "WEEKS", "retentionValue": 2})).await.expect(200);
    assert_eq!(body["expiresAt"], "2025-12-06T00:00:00Z");
    for (body, code) in [
        (json!({"retentionUnit": "weeks", "retentionValue": 2}), "INVALID_ENUM_VALUE"),
        (json!({"retentionUnit": "WEEKS"}), "MISSING_ATTRIBUTE"),
        (json!({"retentionValue": 2}), "MISSING_ATTRIBUTE"),
        (json!({"retentionUnit": "WEEKS", "retentionValue": 0}), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (
            json!({"retentionUnit": "YEARS", "retentionValue": 2_000_000_000}),
            "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID",
        ),
    ] {
        patch(body).await.refused(400, code);
    }
    app.pass_seconds(10 * 86_400);
    patch(json!({"retentionUnit": "DAYS", "retentionValue": 1}))
        .await
        .refused(400, "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID");
    let queued = app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    let path = app.backup(&format!("/snapshots/{}", queued["id"].as_str().unwrap()));
    let request = Request::new("PATCH", &path).json(&json!({"retentionUnit": "DAYS", "retentionValue": 1}));
    app.send(&app.owner, request).await.refused(400, "CANNOT_MODIFY_IN_PROGRESS_SNAPSHOT_RETENTION");
    app.stop().await;
}

#[tokio::test]
async fn deleting_leaves_nothing_to_see() {
    let app = App::start().await;
    let queued = app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    let path = app.backup(&format!("/snapshots/{}", queued["id"].as_str().unwrap()));
    let body = app.delete(&path).await.refused(400, "CANNOT_DELETE_IN_PROGRESS_SNAPSHOT");
    assert_eq!(body["parameters"], json!([queued["id"]]));
    app.complete_snapshot().await;
    app.delete(&path).await.expect(204);
    app.delete(&path).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.get(&path).await.refused(404, "SNAPSHOT_NOT_FOUND");
    assert_eq!(app.get(&app.backup("/snapshots")).await.expect(200)["totalCount"], 0);
    let reader = app.key(&[Role::GroupReadOnly]).await;
    app.send(&reader, Request::new("DELETE", &path)).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_failed_one_says_so() {
    let app = App::start().await;
    let taken = app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    let lease = app.claim(&["snapshot"]).await;
    app.catalog
        .jobs()
        .finish(&lease, Outcome::Failed { error: "the window ran out".into() }, app.now())
        .await
        .unwrap();
    let id = taken["id"].as_str().unwrap();
    assert_eq!(app.get(&app.backup(&format!("/snapshots/{id}"))).await.expect(200)["status"], "failed");
    let own = app.get(&app.own(&format!("/clusters/c1/snapshots/{id}"))).await.expect(200);
    assert_eq!((&own["state"], &own["error"]), (&json!("failed"), &json!("the window ran out")));
    app.stop().await;
}

#[tokio::test]
async fn a_serverless_tenant_is_snapshotted_through_our_own_path() {
    let app = App::start().await;
    app.add("s1", DeploymentKind::Serverless).await;
    let taken = app.post(&app.own("/clusters/s1/snapshots"), json!({"retentionInDays": 1})).await.expect(201);
    assert_eq!(taken["state"], "queued");
    app.complete_snapshot().await;
    let list = app.get(&app.own("/clusters/s1/snapshots")).await.expect(200);
    assert_eq!(list["results"][0]["documents"], 10);
    app.delete(&app.own(&format!("/clusters/s1/snapshots/{}", taken["id"].as_str().unwrap())))
        .await
        .expect(204);
    app.stop().await;
}

#[tokio::test]
async fn deployments_are_checked_before_they_are_registered() {
    let app = App::start().await;
    let path = app.own("/clusters");
    let add = |name: &str, uri: &str, dry: bool| json!({"name": name, "uri": uri, "kind": "replicaSet", "dryRun": dry});
    let dry = app.post(&path, add("n1", "mongodb://u:hush@h/", true)).await.expect(200);
    assert_eq!((&dry["mongoDBVersion"], &dry["check"]["ok"]), (&json!("6.0.5"), &json!(true)));
    app.get(&app.own("/clusters/n1")).await.refused(404, "CLUSTER_NOT_FOUND");
    let refused = app.post(&path, add("n1", "mongodb://bad/", false)).await;
    let body = refused.refused(400, "VALIDATION_ERROR");
    assert!(
        body["detail"].as_str().unwrap().contains("find on config is missing; db.createRole(…)"),
        "{body}"
    );
    assert_eq!(
        body["badRequestDetail"]["fields"],
        json!([
            {"description": "MISSING_PRIVILEGE: find on config is missing", "field": "uri"},
            {"description": "db.createRole(…)", "field": "remedy"},
        ])
    );
    let dry = app.post(&path, add("n1", "mongodb://bad/", true)).await.expect(200);
    assert_eq!((&dry["dryRun"], &dry["check"]["ok"]), (&json!(true), &json!(false)));
    assert_eq!(dry["check"]["problems"][0]["code"], "MISSING_PRIVILEGE", "a question is answered: {dry}");
    app.get(&app.own("/clusters/n1")).await.refused(404, "CLUSTER_NOT_FOUND");
    let added = app.post(&path, add("n1", "mongodb://u:hush@h/", false)).await;
    assert_eq!(added.expect(201)["replicaSetName"], "rs0");
    assert!(!added.text().contains("hush"), "the connection string is shown");
    app.post(&path, add("n1", "mongodb://u:hush@h/", false)).await.refused(400, "DUPLICATE_CLUSTER_NAME");
    let row = app.catalog.deployments().by_name(app.project.id, "n1").await.unwrap().unwrap();
    assert_eq!(
        app.sealer.0.open("deployment-uri", &row.uri_sealed.0).unwrap().as_slice(),
        b"mongodb://u:hush@h/"
    );
    app.get(&app.group("/clusters/n1")).await.expect(200);
    app.delete(&app.own("/clusters/n1")).await.expect(204);
    app.get(&app.group("/clusters/n1")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.post(&path, add("n1", "mongodb://u:hush@h/", false)).await.expect(201);
    for (body, code) in [
        (json!({"uri": "x"}), "MISSING_ATTRIBUTE"),
        (json!({"name": "n2"}), "MISSING_ATTRIBUTE"),
        (json!({"name": "a b", "uri": "x"}), "CLUSTER_NAME_INVALID"),
        (json!({"name": "n2", "uri": "x", "kind": "sharded"}), "INVALID_ENUM_VALUE"),
        (json!({"name": "n2", "uri": ""}), "INVALID_ATTRIBUTE"),
        (json!({"name": "n2", "uri": "x", "password": "y"}), "INVALID_ATTRIBUTE"),
    ] {
        app.post(&path, body).await.refused(400, code);
    }
    let manager = app.key(&[Role::GroupBackupManager]).await;
    app.send(&manager, Request::new("POST", &path).json(&add("n3", "mongodb://h/", false)))
        .await
        .refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_busy_deployment_is_not_removed() {
    let app = App::start().await;
    app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    app.delete(&app.own("/clusters/c1")).await.refused(409, "RESOURCE_BUSY");
    app.get(&app.group("/clusters/c1")).await.expect(200);
    let lease = app.claim(&["snapshot"]).await;
    let before = json!({"previous_seconds": 300});
    let obligations = app.catalog.obligations();
    obligations.record(&lease, app.cluster.id, "historyWindow", &before, app.now()).await.unwrap();
    let failed = catalog::Outcome::Failed { error: "x".to_owned() };
    app.catalog.jobs().finish(&lease, failed, app.now()).await.unwrap();
    let refused = app.delete(&app.own("/clusters/c1")).await.refused(409, "RESOURCE_BUSY");
    assert!(refused["detail"].as_str().unwrap().contains("historyWindow"), "{refused}");
    app.delete(&app.own("/clusters/c1?force=maybe")).await.refused(400, "INVALID_QUERY_PARAMETER");
    app.delete(&app.own("/clusters/c1?force=true")).await.expect(204);
    assert_eq!(obligations.of_deployment(app.cluster.id).await.unwrap(), []);
    app.stop().await;
}

#[tokio::test]
async fn owners_manage_projects_and_credentials() {
    let app = App::start().await;
    app.post("/api/ebbtide/v1/groups", json!({"name": "p2"})).await.refused(403, "ACCESS_FORBIDDEN");
    let organization = app.key_in(&[Role::OrgOwner], None).await;
    let create = |name: &str| Request::new("POST", "/api/ebbtide/v1/groups").json(&json!({"name": name}));
    app.send(&organization, create("p2")).await.expect(201);
    app.send(&organization, create("p2")).await.refused(409, "GROUP_ALREADY_EXISTS");
    app.send(&organization, create(" ")).await.refused(400, "INVALID_ATTRIBUTE");
    // Entries of the log are in the order of their times.
    app.pass_seconds(1);
    let path = app.own("/credentials");
    let account = app
        .post(&path, json!({"kind": "serviceAccount", "roles": ["GROUP_READ_ONLY"], "description": "ci"}))
        .await
        .expect(201);
    assert!(account["clientSecret"].as_str().unwrap().starts_with("mdb_sa_sk_"));
    let list = app.get(&path).await;
    assert!(!list.text().contains("mdb_sa_sk_") && list.expect(200)["totalCount"] == 2);
    app.post(&path, json!({"roles": ["ORG_OWNER"]})).await.refused(403, "ACCESS_FORBIDDEN");
    app.post(&path, json!({"roles": ["KING"]})).await.refused(400, "INVALID_ENUM_VALUE");
    app.post(&path, json!({"roles": []})).await.refused(400, "MISSING_ATTRIBUTE");
    app.delete(&format!("{path}/xyz")).await.refused(404, "INVALID_KEY_ID");
    app.delete(&format!("{path}/32b6e34b3d91647abb20e7b8")).await.refused(404, "API_KEY_NOT_FOUND");
    // The organization's key has no role of this project's own to take away.
    let row = app
        .catalog
        .credentials()
        .by_public_name(catalog::CredentialKind::ApiKey, &organization.public)
        .await
        .unwrap();
    app.delete(&format!("{path}/{}", row.unwrap().id)).await.refused(404, "API_KEY_NOT_FOUND");
    let status = app.get("/api/ebbtide/v1/status").await;
    assert_eq!(status.expect(200)["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status.header("content-type"), Some("application/json"));
    let audit = app.send(&organization, Request::new("GET", "/api/ebbtide/v1/audit")).await.expect(200);
    let lines = audit["results"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["action"] == "credential.create"), "{lines:?}");
    app.get("/api/ebbtide/v1/audit").await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_credential_of_other_projects_too_leaves_this_one_and_stays() {
    let app = App::start().await;
    let key = app.key(&[Role::GroupReadOnly, Role::GroupBackupManager]).await;
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let credentials = app.catalog.credentials();
    let kind = catalog::CredentialKind::ApiKey;
    let id = credentials.by_public_name(kind, &key.public).await.unwrap().unwrap().id;
    let elsewhere = catalog::Grant { role: Role::GroupReadOnly, project: Some(other.id) };
    credentials.give(id, &[elsewhere]).await.unwrap();
    let path = app.own(&format!("/credentials/{id}"));
    app.delete(&path).await.expect(204);
    assert_eq!(credentials.get(id).await.unwrap().unwrap().grants, [elsewhere], "no role is left behind");
    app.send(&key, Request::new("GET", &app.group(""))).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    let there = format!("/api/atlas/v2/groups/{}", other.id);
    app.send(&key, Request::new("GET", &there)).await.expect(200);
    app.delete(&path).await.refused(404, "API_KEY_NOT_FOUND");
    app.stop().await;
}
