//! Snapshots and checkpoints on their legacy pages: the same snapshots, what is changed of them, and the modes in which
//! there are no such pages.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::App;
use ebbtide_api::LegacyMode;
use model::role::Role;
use serde_json::{Value, json};

const UNKNOWN: &str = "32b6e34b3d91647abb20e7b8";

fn one(app: &App, snapshot: &catalog::Snapshot) -> String {
    app.group(&format!("/clusters/c1/snapshots/{}", snapshot.id))
}

#[tokio::test]
async fn a_snapshot_has_its_legacy_shape() {
    let app = App::start().await;
    app.pass_seconds(90);
    let snapshot = app.snapshot().await;
    let response = app.get(&one(&app, &snapshot)).await;
    assert_eq!(response.header("deprecation"), Some("Mon, 23 Mar 2020 00:00:00 GMT"));
    let taken = json!({"date": "2025-11-22T00:00:00Z", "increment": 3});
    assert_eq!(
        response.expect(200),
        json!({
            "clusterId": app.cluster.id.to_string(),
            "clusterName": "c1",
            "complete": true,
            "created": taken,
            "doNotDelete": false,
            "expires": "2025-11-29T00:01:30Z",
            "groupId": app.project.id.to_string(),
            "id": snapshot.id.to_string(),
            "incremental": false,
            "lastOplogAppliedTimestamp": taken,
            "links": [{"href": format!("http://api.test:8080{}", one(&app, &snapshot)), "rel": "self"}],
            "parts": [{
                "clusterId": app.cluster.id.to_string(),
                "completedTime": "2025-11-22T00:01:30Z",
                "dataSizeBytes": 1000,
                "encryptionEnabled": false,
                "fcv": "6.0",
                "mongodVersion": "6.0.5",
                "replicaSetName": "rs0",
                "storageSizeBytes": 400,
                "typeName": "REPLICA_SET",
            }],
        })
    );
    app.stop().await;
}

#[tokio::test]
async fn the_list_is_of_complete_ones_unless_others_are_asked_for() {
    let app = App::start().await;
    let done = app.snapshot().await;
    app.pass_seconds(1);
    let waiting = app.post(&app.backup("/snapshots"), json!({"retentionInDays": 2})).await.expect(200);
    let path = app.group("/clusters/c1/snapshots");
    let done = json!(done.id.to_string());
    for (query, ids) in [
        ("", vec![&done]),
        ("?completed=true", vec![&done]),
        ("?completed=false", vec![&waiting["id"]]),
        ("?completed=all", vec![&waiting["id"], &done]),
    ] {
        let list = app.get(&format!("{path}{query}")).await.expect(200);
        let listed: Vec<&Value> =
            list["results"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!((listed, &list["totalCount"]), (ids.clone(), &json!(ids.len())), "{query}");
    }
    let shown = &app.get(&format!("{path}?completed=false")).await.expect(200)["results"][0];
    assert_eq!((&shown["complete"], &shown["incremental"]), (&json!(false), &json!(false)));
    assert_eq!(shown["created"], json!({"date": "2025-11-22T00:00:01Z"}));
    assert!(shown.get("lastOplogAppliedTimestamp").is_none());
    for wrong in ["completed=yes", "completed=", "pageNum=0"] {
        app.get(&format!("{path}?{wrong}")).await.refused(400, "INVALID_QUERY_PARAMETER");
    }
    let id = waiting["id"].as_str().unwrap();
    let one = format!("{path}/{id}");
    let change = json!({"expires": "2026-01-01T00:00:00Z"});
    app.patch(&one, change).await.refused(400, "CANNOT_MODIFY_IN_PROGRESS_SNAPSHOT_RETENTION");
    app.patch(&one, json!({"doNotDelete": true}))
        .await
        .refused(400, "CANNOT_MODIFY_IN_PROGRESS_SNAPSHOT_RETENTION");
    app.delete(&one).await.refused(400, "CANNOT_DELETE_IN_PROGRESS_SNAPSHOT");
    app.stop().await;
}

#[tokio::test]
async fn its_expiry_is_changed_everywhere() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let one = one(&app, &snapshot);
    let changed = app.patch(&one, json!({"expires": "2026-01-02T04:04:05+01:00"})).await.expect(200);
    assert_eq!(changed["expires"], "2026-01-02T03:04:05Z");
    // A client sends back what it was shown.
    let mut sent = changed.clone();
    sent["expires"] = "2026-03-01T00:00:00Z".into();
    assert_eq!(app.patch(&one, sent).await.expect(200)["expires"], "2026-03-01T00:00:00Z");
    let newer = app.get(&app.backup(&format!("/snapshots/{}", snapshot.id))).await.expect(200);
    assert_eq!(newer["expiresAt"], "2026-03-01T00:00:00Z");
    for (body, code) in [
        (json!({}), "MISSING_ONE_OF_ATTRIBUTES"),
        (json!({"expires": "2026-03-01"}), "INVALID_DATE_FORMAT"),
        (json!({"expires": "soon"}), "INVALID_DATE_FORMAT"),
        (json!({"expires": 1}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"expires": "2025-11-22T00:00:00Z"}), "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID"),
        (json!({"expires": "2199-01-01T00:00:00Z"}), "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID"),
        (json!({"doNotDelete": "yes"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"doNotDelete": true, "expires": "2026-03-01T00:00:00Z"}), "VALIDATION_ERROR"),
        (json!({"retentionInDays": 2}), "INVALID_ATTRIBUTE"),
    ] {
        app.patch(&one, body.clone()).await.refused(400, code);
    }
    assert_eq!(app.get(&one).await.expect(200)["expires"], "2026-03-01T00:00:00Z", "nothing was changed");
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_to_be_deleted_is_deleted_by_nobody() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let one = one(&app, &snapshot);
    let newer = app.backup(&format!("/snapshots/{}", snapshot.id));
    let kept = app.patch(&one, json!({"doNotDelete": true})).await.expect(200);
    assert_eq!(kept["doNotDelete"], true);
    assert!(kept.get("expires").is_none());
    assert!(app.get(&newer).await.expect(200).get("expiresAt").is_none());
    app.pass_seconds(400 * 86_400);
    assert_eq!(app.catalog.snapshots().expired(app.now()).await.unwrap(), []);
    app.delete(&one).await.refused(403, "CANNOT_MODIFY_SNAPSHOT");
    app.delete(&newer).await.refused(403, "CANNOT_MODIFY_SNAPSHOT");
    let later = json!({"retentionUnit": "YEARS", "retentionValue": 9});
    app.patch(&newer, later).await.refused(403, "CANNOT_MODIFY_SNAPSHOT");
    app.patch(&one, json!({"expires": "2030-01-01T00:00:00Z"})).await.refused(403, "CANNOT_MODIFY_SNAPSHOT");
    let free = json!({"doNotDelete": false, "expires": "2030-01-01T00:00:00Z"});
    let free = app.patch(&one, free).await.expect(200);
    assert_eq!((&free["doNotDelete"], &free["expires"]), (&json!(false), &json!("2030-01-01T00:00:00Z")));
    app.delete(&one).await.expect(204);
    app.get(&one).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.delete(&one).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.patch(&one, json!({"doNotDelete": true})).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn readers_read_and_owners_change() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let one = one(&app, &snapshot);
    for role in [Role::GroupReadOnly, Role::GroupBackupManager] {
        let key = app.key(&[role]).await;
        app.send(&key, common::Request::new("GET", &one)).await.expect(200);
        let change = common::Request::new("PATCH", &one).json(&json!({"doNotDelete": true}));
        app.send(&key, change).await.refused(403, "ACCESS_FORBIDDEN");
        app.send(&key, common::Request::new("DELETE", &one)).await.refused(403, "ACCESS_FORBIDDEN");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_replica_set_has_no_checkpoints() {
    let app = App::start().await;
    let path = app.group("/clusters/c1/backupCheckpoints");
    let list = app.get(&path).await.expect(200);
    assert_eq!((&list["results"], &list["totalCount"]), (&json!([]), &json!(0)));
    let body = app.get(&format!("{path}/{UNKNOWN}")).await.refused(404, "CHECKPOINT_NOT_FOUND");
    assert_eq!(body["parameters"], json!([UNKNOWN, "c1"]));
    app.get(&format!("{path}/xyz")).await.refused(404, "INVALID_CHECKPOINT_ID");
    app.get(&app.group("/clusters/nobody/backupCheckpoints")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn legacy_pages_can_be_empty_or_refused() {
    for mode in [LegacyMode::Empty, LegacyMode::Refuse] {
        let app = App::start_with(|settings| settings.legacy_mode = mode).await;
        let snapshot = app.snapshot().await;
        let download = json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()});
        let job = app.post(&app.backup("/restoreJobs"), download).await.expect(200);
        let job = app.group(&format!("/clusters/c1/restoreJobs/{}", job["id"].as_str().unwrap()));
        let (one, jobs) = (one(&app, &snapshot), app.group("/clusters/c1/restoreJobs"));
        let list = app.group("/clusters/c1/snapshots");
        let schedule = app.group("/clusters/c1/snapshotSchedule");
        let elsewhere = "INCORRECT_BACKUP_API_ENDPOINT";
        if mode == LegacyMode::Empty {
            assert_eq!(app.get(&list).await.expect(200)["totalCount"], 0);
            app.get(&one).await.refused(404, "SNAPSHOT_NOT_FOUND");
            app.delete(&one).await.refused(404, "SNAPSHOT_NOT_FOUND");
            app.patch(&one, json!({"doNotDelete": true})).await.refused(404, "SNAPSHOT_NOT_FOUND");
            app.get(&job).await.refused(404, "RESTORE_JOB_NOT_FOUND");
            app.get(&app.group("/clusters/c1/backupCheckpoints")).await.expect(200);
        } else {
            for path in [&list, &one, &jobs, &job] {
                app.get(path).await.refused(400, elsewhere);
            }
            app.delete(&one).await.refused(400, elsewhere);
            app.patch(&one, json!({"doNotDelete": true})).await.refused(400, elsewhere);
            let checkpoints = app.get(&app.group("/clusters/c1/backupCheckpoints")).await;
            checkpoints.refused(400, "CHECKPOINTS_ONLY_ON_CONTINOUS_BACKUP");
        }
        let wanted = json!({"snapshotId": snapshot.id.to_string(), "delivery": {"methodName": "HTTP"}});
        app.post(&jobs, wanted).await.refused(400, elsewhere);
        let body = app.get(&schedule).await.refused(400, elsewhere);
        assert_eq!(body["parameters"], json!([app.backup("/schedule")]));
        app.patch(&schedule, json!({"snapshotIntervalHours": 6})).await.refused(400, elsewhere);
        app.get(&app.backup(&format!("/snapshots/{}", snapshot.id))).await.expect(200);
        app.stop().await;
    }
}
