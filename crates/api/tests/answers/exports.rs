//! Export buckets and exports: what is asked for, shown, refused, and by whom.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::{Outcome, Snapshot};
use common::{App, Request};
use model::{job::Progress, role::Role};
use serde_json::{Value, json};

const ROLE: &str = "0123456789abcdef01234567";

/// A server that knows two places.
async fn start() -> App {
    App::start_with(|settings| {
        settings.export_places = ["archive", "other-place"].map(|name| name.parse().unwrap()).into();
    })
    .await
}

fn bucket_body(name: &str) -> Value {
    json!({"bucketName": name, "cloudProvider": "AWS", "iamRoleId": ROLE})
}

async fn bucket(app: &App) -> String {
    let made = app.post(&app.group("/backup/exportBuckets"), bucket_body("archive")).await.expect(200);
    made["_id"].as_str().unwrap().to_owned()
}

fn export_body(snapshot: &Snapshot, bucket: &str) -> Value {
    json!({"snapshotId": snapshot.id.to_string(), "exportBucketId": bucket})
}

#[tokio::test]
async fn a_bucket_is_a_place_that_the_configuration_names() {
    let app = start().await;
    let path = app.group("/backup/exportBuckets");
    let made = app.post(&path, bucket_body("archive")).await.expect(200);
    let id = made["_id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "_id": id, "bucketName": "archive", "cloudProvider": "AWS", "iamRoleId": ROLE,
            "links": [{"href": made["links"][0]["href"], "rel": "self"}], "requirePrivateNetworking": false,
        })
    );
    let refused = app.post(&path, bucket_body("elsewhere")).await.refused(400, "EXPORT_BUCKET_NAME_INVALID");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("archive, other-place") && detail.contains("[exports.elsewhere]"), "{detail}");
    let refused = app.post(&path, bucket_body("NOT_ONE")).await.refused(400, "EXPORT_BUCKET_NAME_INVALID");
    assert!(refused["detail"].as_str().unwrap().contains("3 to 63 lower-case letters"), "{refused}");
    let azure = json!({
        "cloudProvider": "AZURE", "bucketName": "archive", "roleId": ROLE,
        "serviceUrl": "https://account.blob.core.windows.net/c",
    });
    let refused = app.post(&path, azure).await.refused(403, "UNSUPPORTED_FOR_CURRENT_CONFIG");
    assert!(refused["badRequestDetail"]["fields"][0]["field"] == "cloudProvider", "{refused}");
    let listed = app.get(&path).await.expect(200);
    assert_eq!((&listed["results"], &listed["totalCount"]), (&json!([made]), &json!(1)));

    // Another project's buckets are not there.
    let elsewhere = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let key = app.key_in(&[Role::GroupOwner], Some(&elsewhere)).await;
    let theirs = format!("/api/atlas/v2/groups/{}/backup/exportBuckets", elsewhere.id);
    let listed = app.send(&key, Request::new("GET", &theirs)).await.expect(200);
    assert_eq!(listed["results"], json!([]));
    let one = app.send(&key, Request::new("GET", &format!("{theirs}/{id}"))).await;
    one.refused(404, "EXPORT_BUCKET_NOT_FOUND");
    app.delete(&format!("{path}/{id}")).await.expect(204);
    app.get(&format!("{path}/{id}")).await.refused(404, "EXPORT_BUCKET_NOT_FOUND");
}

#[tokio::test]
async fn a_server_without_places_says_how_to_name_one() {
    let app = App::start().await;
    let refused = app.post(&app.group("/backup/exportBuckets"), bucket_body("archive")).await;
    let refused = refused.refused(400, "EXPORT_BUCKET_NAME_INVALID");
    assert!(
        refused["detail"].as_str().unwrap().contains("it knows: none. Put [exports.archive]"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_export_is_shown_in_each_of_its_states() {
    let app = start().await;
    let (snapshot, bucket) = (app.snapshot().await, bucket(&app).await);
    let path = app.backup("/exports");
    let asked = app.post(&path, export_body(&snapshot, &bucket)).await.expect(200);
    assert_eq!((&asked["state"], &asked["customData"]), (&json!("Queued"), &json!([])));
    assert_eq!(asked["exportStatus"], json!({"exportedCollections": 0, "totalCollections": 0}));
    let prefix = asked["prefix"].as_str().unwrap();
    assert!(
        prefix.starts_with(&format!("exported_snapshots/5ebb71de0000000000000001/{}/c1/", app.project.id))
    );
    let one = format!("{path}/{}", asked["id"].as_str().unwrap());
    app.post(&path, export_body(&snapshot, &bucket)).await.refused(409, "RESOURCE_BUSY");
    let used = app.group(&format!("/backup/exportBuckets/{bucket}"));
    app.delete(&used).await.refused(400, "EXPORT_BUCKET_DELETE_FAILED");

    let lease = app.claim(&["export"]).await;
    let progress = Progress { collections_done: 1, collections_total: 4, ..Progress::default() };
    app.catalog.jobs().heartbeat(&lease, app.now(), 30_000, Some(&progress), None).await.unwrap();
    let shown = app.get(&one).await.expect(200);
    assert_eq!(shown["state"], "InProgress");
    assert_eq!(shown["exportStatus"], json!({"exportedCollections": 1, "totalCollections": 4}));
    let failed = Outcome::Failed { error: "no space is left at /backup".to_owned() };
    app.catalog.jobs().finish(&lease, failed, app.now()).await.unwrap();
    let shown = app.get(&one).await.expect(200);
    assert_eq!(
        (&shown["state"], &shown["stateReason"]["message"]),
        (&json!("Failed"), &json!("no space is left at /backup"))
    );
    assert!(shown["finishedAt"].is_string());
    let own = app
        .get(&app.own(&format!("/clusters/c1/exports/{}", shown["id"].as_str().unwrap())))
        .await
        .expect(200);
    assert_eq!((&own["state"], &own["error"]), (&json!("failed"), &json!("no space is left at /backup")));
    assert_eq!(own["progress"]["collectionsTotal"], 4);

    app.pass_seconds(60);
    let again = app.post(&path, export_body(&snapshot, &bucket)).await.expect(200);
    let lease = app.claim(&["export"]).await;
    app.catalog.jobs().finish(&lease, Outcome::ExportFinished, app.now()).await.unwrap();
    let listed = app.get(&path).await.expect(200);
    assert_eq!((&listed["results"][0]["state"], &listed["results"][1]), (&json!("Successful"), &shown));
    assert_eq!(listed["results"][0]["id"], again["id"]);
    app.delete(&used).await.expect(204);
}

#[tokio::test]
async fn paths_have_names_where_the_schedule_says_so() {
    let app = start().await;
    let (snapshot, bucket) = (app.snapshot().await, bucket(&app).await);
    let set = app.patch(&app.backup("/schedule"), json!({"useOrgAndGroupNamesInExportPrefix": true})).await;
    set.expect(200);
    let asked = app.post(&app.backup("/exports"), export_body(&snapshot, &bucket)).await.expect(200);
    let wanted = format!("exported_snapshots/Ebbtide/{}/c1/", app.project.name);
    assert!(asked["prefix"].as_str().unwrap().starts_with(&wanted), "{asked}");
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused() {
    let app = start().await;
    let (snapshot, bucket) = (app.snapshot().await, bucket(&app).await);
    let path = app.backup("/exports");
    let body = export_body(&snapshot, &bucket);
    for (field, value, status, code) in [
        ("snapshotId", json!(null), 400, "MISSING_ATTRIBUTE"),
        ("exportBucketId", json!(null), 400, "MISSING_ATTRIBUTE"),
        ("snapshotId", json!("xyz"), 404, "INVALID_SNAPSHOT_ID"),
        ("snapshotId", json!(ROLE), 404, "SNAPSHOT_NOT_FOUND"),
        ("exportBucketId", json!(ROLE), 404, "EXPORT_BUCKET_NOT_FOUND"),
        ("customData", json!({}), 400, "INVALID_JSON_ATTRIBUTE"),
        ("customData", json!([{"key": "a"}]), 400, "MISSING_ATTRIBUTE"),
        ("customData", json!([{"key": "a", "value": 1}]), 400, "INVALID_JSON_ATTRIBUTE"),
        ("customData", json!([{"key": "a", "value": "b", "more": 1}]), 400, "INVALID_ATTRIBUTE"),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value;
        app.post(&path, wrong).await.refused(status, code);
    }
    app.get(&format!("{path}/{ROLE}")).await.refused(404, "RESOURCE_NOT_FOUND");
    app.get(&format!("{path}/xyz")).await.refused(404, "RESOURCE_NOT_FOUND");
    let waiting = app.post(&app.backup("/snapshots"), json!({})).await.expect(200);
    let mut early = body.clone();
    early["snapshotId"] = waiting["id"].clone();
    app.post(&path, early).await.refused(409, "CANNOT_DOWNLOAD_INCOMPLETE_SNAPSHOT");
    app.catalog.snapshots().delete(snapshot.id, app.now()).await.unwrap();
    app.post(&path, body).await.refused(404, "SNAPSHOT_NOT_FOUND");
}

#[tokio::test]
async fn who_may_export_is_who_may_download() {
    let app = start().await;
    let (snapshot, bucket) = (app.snapshot().await, bucket(&app).await);
    let buckets = app.group("/backup/exportBuckets");
    let exports = app.backup("/exports");
    for (role, lists, exported, registers) in [
        (Role::GroupReadOnly, false, false, false),
        (Role::GroupBackupCreator, false, false, false),
        (Role::GroupBackupRecoveryOperator, true, false, false),
        (Role::GroupBackupExportOperator, true, true, false),
        (Role::GroupBackupManager, true, true, true),
    ] {
        let key = app.key(&[role]).await;
        let may = |allowed: bool, status: u16| if allowed { status } else { 403 };
        let get = app.send(&key, Request::new("GET", &exports)).await;
        assert_eq!(get.status, may(lists, 200), "{role:?}");
        let seen = app.send(&key, Request::new("GET", &buckets)).await;
        assert_eq!(seen.status, 200, "{role:?}");
        let made = app.send(&key, Request::new("POST", &buckets).json(&bucket_body("archive"))).await;
        assert_eq!(made.status, may(registers, 200), "{role:?}");
        let asked =
            app.send(&key, Request::new("POST", &exports).json(&export_body(&snapshot, &bucket))).await;
        assert_eq!(asked.status, may(exported, 200), "{role:?}");
        if exported {
            let lease = app.claim(&["export"]).await;
            app.catalog.jobs().finish(&lease, Outcome::ExportFinished, app.now()).await.unwrap();
        }
    }
}
