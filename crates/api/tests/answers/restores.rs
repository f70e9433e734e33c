//! Restore jobs: create, read, list, cancel; their legacy and serverless shapes.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::Outcome;
use common::{App, Request};
use model::{DeploymentKind, job::Work, role::Role};
use serde_json::{Value, json};

fn automated(app: &App, snapshot: &catalog::Snapshot) -> Value {
    json!({
        "deliveryType": "automated",
        "snapshotId": snapshot.id.to_string(),
        "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
    })
}

fn download(snapshot: &catalog::Snapshot) -> Value {
    json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()})
}

async fn one(app: &App, id: &Value) -> Value {
    app.get(&app.backup(&format!("/restoreJobs/{}", id.as_str().unwrap()))).await.expect(200)
}

#[tokio::test]
async fn the_answer_to_a_create_is_the_recorded_one() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let response = app.post(&app.backup("/restoreJobs"), automated(&app, &snapshot)).await;
    let body = response.expect(200);
    let (group, id) = (app.project.id, body["id"].as_str().unwrap());
    let base = format!("http://api.test:8080/api/atlas/v2/groups/{group}");
    // Byte for byte as recorded from Atlas, but for the members that D10 leaves out.
    assert_eq!(
        response.text(),
        format!(
            concat!(
                r#"{{"cancelled":false,"deliveryType":"automated","deliveryUrl":[],"expired":false,"failed":false,"id":"{id}","#,
                r#""links":[{{"href":"{base}/clusters/c1/backup/restoreJobs/{id}","rel":"self"}},"#,
                r#"{{"href":"{base}/clusters/c1/backup/snapshots/{snapshot}","rel":"https://cloud.mongodb.com/snapshot"}},"#,
                r#"{{"href":"{base}/clusters/c1","rel":"https://cloud.mongodb.com/cluster"}},"#,
                r#"{{"href":"{base}","rel":"https://cloud.mongodb.com/group"}}],"#,
                r#""snapshotId":"{snapshot}","targetClusterName":"c1","targetGroupId":"{group}","timestamp":"2025-11-22T00:00:00Z"}}"#
            ),
            id = id,
            base = base,
            group = group,
            snapshot = snapshot.id
        )
    );
    let read = app.get(&app.backup(&format!("/restoreJobs/{id}"))).await;
    assert_eq!(read.text(), response.text(), "GET shows what POST answered");
    let list =
        app.get(&app.backup("/restoreJobs?includeCount=true&itemsPerPage=100&pageNum=1")).await.expect(200);
    assert_eq!(list["results"], json!([body]));
    assert_eq!(list["totalCount"], 1);
    app.stop().await;
}

#[tokio::test]
async fn a_create_wakes_the_workers_and_is_written_down() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let poked = app.state.poke.clone();
    let woken = tokio::spawn(async move { poked.notified().await });
    let body = app.post(&app.backup("/restoreJobs"), automated(&app, &snapshot)).await.expect(200);
    woken.await.unwrap();
    let lease = app.claim(&["restore"]).await;
    let Work::Restore { restore_job_id } = lease.work else { panic!("{:?}", lease.work) };
    assert_eq!(restore_job_id.to_string(), body["id"].as_str().unwrap());
    let audit = app.changes().await;
    assert_eq!((audit[0].action.as_str(), &audit[0].who), ("restore.create", &app.owner.public));
    app.stop().await;
}

#[tokio::test]
async fn fields_follow_the_state() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = app.post(&app.backup("/restoreJobs"), automated(&app, &snapshot)).await.expect(200);
    let lease = app.claim(&["restore"]).await;
    let running = one(&app, &body["id"]).await;
    assert!(running.get("finishedAt").is_none() && running.get("expiresAt").is_none());
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    app.pass_seconds(60);
    app.catalog
        .jobs()
        .finish(&lease, Outcome::RestoreFinished { receipt: json!({"ok": 1}) }, app.now())
        .await
        .unwrap();
    let finished = one(&app, &body["id"]).await;
    assert_eq!(finished["finishedAt"], "2025-11-22T00:01:00Z");
    assert_eq!((&finished["failed"], &finished["cancelled"]), (&json!(false), &json!(false)));

    let body = app.post(&app.backup("/restoreJobs"), automated(&app, &snapshot)).await.expect(200);
    let lease = app.claim(&["restore"]).await;
    app.catalog.jobs().finish(&lease, Outcome::Failed { error: "no room".into() }, app.now()).await.unwrap();
    let failed = one(&app, &body["id"]).await;
    assert_eq!(failed["failed"], true);
    assert!(failed.get("finishedAt").is_none(), "absent, not null, unless it succeeded");
    let own = app
        .get(&app.own(&format!("/clusters/c1/restoreJobs/{}", body["id"].as_str().unwrap())))
        .await
        .expect(200);
    assert_eq!((&own["state"], &own["error"]), (&json!("failed"), &json!("no room")));
    app.stop().await;
}

#[tokio::test]
async fn a_download_shows_its_link_when_ready_and_until_its_hour_is_over() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    assert!(body.get("targetClusterName").is_none() && body.get("targetGroupId").is_none());
    assert_eq!(body["deliveryUrl"], json!([]));
    app.finish_download(b"x").await;
    let ready = one(&app, &body["id"]).await;
    let url = ready["deliveryUrl"][0].as_str().unwrap();
    assert!(url.starts_with("http://api.test:8080/download/restore-"), "{url}");
    assert!(url.ends_with(&format!("/restore-{}.tar.gz", snapshot.id)), "{url}");
    assert_eq!(ready["expiresAt"], "2025-11-22T01:00:00Z");
    assert!(ready.get("finishedAt").is_none(), "a download never finishes");
    app.pass_seconds(3_600);
    let expired = one(&app, &body["id"]).await;
    assert_eq!((&expired["expired"], &expired["deliveryUrl"]), (&json!(true), &json!([])));
    app.stop().await;
}

#[tokio::test]
async fn a_link_sealed_with_another_master_key_is_not_shown_and_breaks_nothing() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let body = app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    let lease = app.claim(&["download"]).await;
    let sealed = vault::MasterKey::generate().seal("download-token", b"token");
    let outcome = Outcome::DownloadReady {
        archive: json!({"bytes": 1, "sha256": "00", "tokenSealed": sealed}),
        url_token_sha256: "00".repeat(32),
        expires_at: app.now().plus_ms(1_000),
    };
    app.catalog.jobs().finish(&lease, outcome, app.now()).await.unwrap();
    assert_eq!(one(&app, &body["id"]).await["deliveryUrl"], json!([]));
    assert_eq!(app.get(&app.backup("/restoreJobs")).await.expect(200)["totalCount"], 1);
    app.stop().await;
}

#[tokio::test]
async fn states_that_forbid_a_restore() {
    let app = App::start().await;
    let path = app.backup("/restoreJobs");
    // Incomplete.
    let taken = app
        .post(&app.backup("/snapshots"), json!({"description": "x", "retentionInDays": 1}))
        .await
        .expect(200);
    let mut body = json!({"deliveryType": "automated", "snapshotId": taken["id"], "targetClusterName": "c1", "targetGroupId": app.project.id.to_string()});
    app.post(&path, body.clone())
        .await
        .refused(409, "CANNOT_START_RESTORE_JOB_FOR_INCOMPLETE_CLUSTER_SNAPSHOT");
    body["deliveryType"] = json!("download");
    app.post(&path, body).await.refused(409, "CANNOT_DOWNLOAD_INCOMPLETE_SNAPSHOT");
    app.complete_snapshot().await;
    // Busy target.
    let snapshot = app.snapshot().await;
    app.post(&path, automated(&app, &snapshot)).await.expect(200);
    app.post(&path, automated(&app, &snapshot)).await.refused(409, "ATLAS_CLUSTER_RESTORE_IN_PROGRESS");
    // A second download of one snapshot.
    app.post(&path, download(&snapshot)).await.expect(200);
    app.post(&path, download(&snapshot)).await.refused(400, "CANNOT_DOWNLOAD_SNAPSHOT_CONCURRENTLY");
    // Deleted.
    let gone = app.snapshot().await;
    app.delete(&app.backup(&format!("/snapshots/{}", gone.id))).await.expect(204);
    app.post(&path, download(&gone)).await.refused(409, "CANNOT_START_RESTORE_JOB_FOR_DELETED_SNAPSHOT");
    // Of another cluster, and of none.
    let other = app.add("c2", DeploymentKind::ReplicaSet).await;
    let foreign = app.snapshot_of(&other).await;
    app.post(&path, download(&foreign)).await.refused(404, "SNAPSHOT_NOT_FOUND");
    // A target that is not there, and one of the wrong kind.
    let mut body = automated(&app, &snapshot);
    body["targetClusterName"] = json!("zz");
    app.post(&path, body.clone()).await.refused(404, "CLUSTER_NOT_FOUND");
    app.add("s1", DeploymentKind::Serverless).await;
    body["targetClusterName"] = json!("s1");
    app.post(&path, body).await.refused(400, "PROVIDER_BACKUP_NOT_SUPPORTED");
    app.stop().await;
}

/// A target that was seen as 5.0.4 last, with this connection string.
async fn seen_as_older(app: &App, name: &str, uri: &str) -> catalog::Deployment {
    let target = app.add(name, DeploymentKind::ReplicaSet).await;
    let facts = catalog::DeploymentFacts { mongodb_version: Some("5.0.4".into()), ..target.facts.clone() };
    let sealed = catalog::Sealed(app.sealer.0.seal(ebbtide_api::PURPOSE_URI, uri.as_bytes()));
    app.catalog.deployments().replace_uri(target.id, &sealed, &facts).await.unwrap();
    target
}

#[tokio::test]
async fn data_never_goes_to_an_older_release() {
    let app = App::start().await;
    seen_as_older(&app, "old", "mongodb://old").await;
    let snapshot = app.snapshot().await;
    let mut body = automated(&app, &snapshot);
    body["targetClusterName"] = json!("old");
    app.post(&app.backup("/restoreJobs"), body).await.refused(409, "INVALID_RESTORE_PROCESS");
    app.stop().await;
}

#[tokio::test]
async fn a_target_that_was_upgraded_since_it_was_seen_is_not_refused() {
    let app = App::start().await;
    let upgraded = seen_as_older(&app, "upgraded", "mongodb://upgraded").await;
    let snapshot = app.snapshot().await;
    let mut body = automated(&app, &snapshot);
    body["targetClusterName"] = json!("upgraded");
    app.post(&app.backup("/restoreJobs"), body.clone()).await.expect(200);
    let seen = app.catalog.deployments().get(upgraded.id).await.unwrap().unwrap().facts;
    assert_eq!(seen.mongodb_version.as_deref(), Some("6.0.5"), "what was seen is kept for lists");
    // Whoever doesn't answer is left to the worker, which says why.
    seen_as_older(&app, "away", "mongodb://bad").await;
    body["targetClusterName"] = json!("away");
    app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn a_point_in_time_is_checked_in_full() {
    let app = App::start().await;
    let path = app.backup("/restoreJobs");
    let valid = json!({"deliveryType": "pointInTime", "targetClusterName": "c1", "targetGroupId": app.project.id.to_string(), "pointInTimeUTCSeconds": 1_763_000_000});
    app.post(&path, valid.clone()).await.refused(400, "INVALID_PIT_RESTORE_TIME");
    let mut unknown_target = valid.clone();
    unknown_target["targetClusterName"] = json!("zz");
    app.post(&path, unknown_target).await.refused(404, "CLUSTER_NOT_FOUND");
    let mut incomplete = valid;
    incomplete["targetClusterName"] = Value::Null;
    app.post(&path, incomplete).await.refused(400, "MISSING_ATTRIBUTE");
    app.stop().await;
}

#[tokio::test]
async fn terraform_without_a_delivery_type_gets_400() {
    let app = App::start().await;
    let response = app
        .post(
            &app.backup("/restoreJobs"),
            json!({"deliveryType": "", "snapshotId": "32b6e34b3d91647abb20e7b8"}),
        )
        .await;
    response.refused(400, "INVALID_ENUM_VALUE");
    app.stop().await;
}

#[tokio::test]
async fn each_operator_may_do_its_own() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = app.backup("/restoreJobs");
    let post = |body: Value| Request::new("POST", &path).json(&body);
    let recovery = app.key(&[Role::GroupBackupRecoveryOperator]).await;
    let export = app.key(&[Role::GroupBackupExportOperator]).await;
    app.send(&recovery, post(download(&snapshot))).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&export, post(automated(&app, &snapshot))).await.refused(403, "ACCESS_FORBIDDEN");
    let restore = app.send(&recovery, post(automated(&app, &snapshot))).await.expect(200);
    let fetch = app.send(&export, post(download(&snapshot))).await.expect(200);
    let one = |id: &Value| app.backup(&format!("/restoreJobs/{}", id.as_str().unwrap()));
    app.send(&export, Request::new("DELETE", &one(&restore["id"]))).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&recovery, Request::new("DELETE", &one(&fetch["id"]))).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&recovery, Request::new("DELETE", &one(&restore["id"]))).await.expect(204);
    app.send(&export, Request::new("DELETE", &one(&fetch["id"]))).await.expect(204);
    let creator = app.key(&[Role::GroupBackupCreator]).await;
    app.send(&creator, post(download(&snapshot))).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_restore_into_another_project_needs_rights_on_both_sides() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    common::deployment(&app.catalog, &other, "d1", DeploymentKind::ReplicaSet).await;
    let path = app.backup("/restoreJobs");
    let body = json!({"deliveryType": "automated", "snapshotId": snapshot.id.to_string(), "targetClusterName": "d1", "targetGroupId": other.id.to_string()});
    app.post(&path, body.clone()).await.refused(403, "CANNOT_RESTORE_TO_TARGET");
    // A project that is not there looks the same to those without rights.
    let mut nowhere = body.clone();
    nowhere["targetGroupId"] = json!("32b6e34b3d91647abb20e7b8");
    app.post(&path, nowhere.clone()).await.refused(403, "CANNOT_RESTORE_TO_TARGET");
    let everywhere = app.key_in(&[Role::OrgOwner], None).await;
    app.send(&everywhere, Request::new("POST", &path).json(&nowhere)).await.refused(404, "GROUP_NOT_FOUND");
    let answer = app.send(&everywhere, Request::new("POST", &path).json(&body)).await.expect(200);
    assert_eq!(
        (&answer["targetClusterName"], &answer["targetGroupId"]),
        (&json!("d1"), &json!(other.id.to_string()))
    );
    app.stop().await;
}

#[tokio::test]
async fn cancelling_in_every_state() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = |id: &Value| app.backup(&format!("/restoreJobs/{}", id.as_str().unwrap()));
    let create = |body: Value| app.post(&app.backup("/restoreJobs").leak()[..], body);
    // Queued: at once, and again without harm.
    let body = create(automated(&app, &snapshot)).await.expect(200);
    let response = app.delete(&path(&body["id"])).await;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(response.header("content-type"), Some("application/vnd.atlas.2023-01-01+json;charset=utf-8"));
    assert!(response.header("content-length").is_none());
    assert_eq!(one(&app, &body["id"]).await["cancelled"], true);
    app.delete(&path(&body["id"])).await.expect(204);
    // Running: shown as cancelled only when the worker has let go.
    let body = create(automated(&app, &snapshot)).await.expect(200);
    let lease = app.claim(&["restore"]).await;
    app.delete(&path(&body["id"])).await.expect(204);
    assert_eq!(one(&app, &body["id"]).await["cancelled"], false, "a worker may still write");
    app.catalog.jobs().finish(&lease, Outcome::Cancelled, app.now()).await.unwrap();
    assert_eq!(one(&app, &body["id"]).await["cancelled"], true);
    // In the cut-over: too late.
    let body = create(automated(&app, &snapshot)).await.expect(200);
    let lease = app.claim(&["restore"]).await;
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    let refused = app.delete(&path(&body["id"])).await.refused(400, "CANNOT_CANCEL_AUTOMATED_RESTORE");
    assert_eq!(refused["detail"], "Automated restore cannot be cancelled.");
    app.catalog
        .jobs()
        .finish(&lease, Outcome::RestoreFinished { receipt: json!({}) }, app.now())
        .await
        .unwrap();
    app.delete(&path(&body["id"])).await.refused(400, "CANNOT_CANCEL_AUTOMATED_RESTORE");
    // A download that waits, and one that has expired.
    let body = create(download(&snapshot)).await.expect(200);
    app.finish_download(b"x").await;
    app.delete(&path(&body["id"])).await.expect(204);
    let shown = one(&app, &body["id"]).await;
    assert_eq!((&shown["cancelled"], &shown["deliveryUrl"]), (&json!(true), &json!([])));
    let body = create(download(&snapshot)).await.expect(200);
    app.finish_download(b"x").await;
    app.pass_seconds(3_601);
    // Whether that was written down by then or not.
    for _ in 0..2 {
        assert_eq!(one(&app, &body["id"]).await["expired"], true);
        let refused = app.delete(&path(&body["id"])).await.refused(400, "ALREADY_EXPIRED");
        assert!(refused["detail"].as_str().unwrap().contains("nothing left to cancel"), "{refused}");
        app.catalog.restores().expire_due(app.now()).await.unwrap();
    }
    app.delete(&app.backup("/restoreJobs/32b6e34b3d91647abb20e7b8"))
        .await
        .refused(404, "RESTORE_JOB_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let app = App::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let snapshot = app.snapshot().await;
        app.pass_seconds(1);
        ids.push(app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200)["id"].clone());
    }
    let page = app.get(&app.backup("/restoreJobs?itemsPerPage=2&pretty=true")).await;
    let body = page.expect(200);
    assert_eq!(body["totalCount"], 3);
    let found: Vec<_> = body["results"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(found, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(body["results"][0]["links"].as_array().unwrap().len(), 4);
    let path = format!("http://api.test:8080{}", app.backup("/restoreJobs"));
    assert_eq!(
        body["links"],
        json!([
            {"href": format!("{path}?pretty=true&pageNum=1&itemsPerPage=2"), "rel": "self"},
            {"href": format!("{path}?pretty=true&itemsPerPage=2&pageNum=2"), "rel": "next"},
        ])
    );
    let last =
        app.get(&app.backup("/restoreJobs?itemsPerPage=2&pageNum=2&includeCount=false")).await.expect(200);
    assert!(last.get("totalCount").is_none());
    assert_eq!(last["results"].as_array().unwrap().len(), 1);
    assert_eq!(app.get(&app.backup("/restoreJobs?pageNum=9")).await.expect(200)["results"], json!([]));
    for bad in ["pageNum=0", "itemsPerPage=501", "includeCount=maybe"] {
        app.get(&app.backup(&format!("/restoreJobs?{bad}"))).await.refused(400, "INVALID_QUERY_PARAMETER");
    }
    app.stop().await;
}
