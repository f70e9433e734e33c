//! Flex clusters: their words, their paths, and the answer that the Atlas CLI waits for before it looks elsewhere.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::Outcome;
use common::{App, Request};
use model::{DeploymentKind, job::Work, role::Role};
use serde_json::{Value, json};

const UNKNOWN: &str = "32b6e34b3d91647abb20e7b8";
const FLEX: &str = "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API";

async fn flexible(app: &App) -> (catalog::Deployment, String) {
    let deployment = app.add("f1", DeploymentKind::Flex).await;
    (deployment, app.group("/flexClusters/f1"))
}

#[tokio::test]
async fn whoever_is_no_flex_cluster_is_told_so_first() {
    let app = App::start().await;
    app.add("s1", DeploymentKind::Serverless).await;
    for name in ["c1", "s1"] {
        let path = app.group(&format!("/flexClusters/{name}"));
        for (method, rest) in [
            ("GET", ""),
            ("GET", "/backup/snapshots"),
            ("GET", "/backup/restoreJobs"),
            ("GET", &format!("/backup/snapshots/{UNKNOWN}")),
            ("GET", &format!("/backup/restoreJobs/{UNKNOWN}")),
            ("POST", "/backup/restoreJobs"),
            ("POST", "/backup/download"),
        ] {
            // Before the body: it is that of a flex cluster, and this is none.
            let request = Request::new(method, &format!("{path}{rest}"));
            let body = app.send(&app.owner, request).await.refused(400, FLEX);
            assert_eq!(body["parameters"], json!([name]));
        }
    }
    app.get(&app.group("/flexClusters/nobody")).await.refused(404, "CLUSTER_NOT_FOUND");
    assert_eq!(app.get(&app.group("/flexClusters")).await.expect(200)["results"], json!([]));
    app.stop().await;
}

#[tokio::test]
async fn a_flex_cluster_has_paths_of_its_own() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let shown = app.get(&path).await.expect(200);
    assert_eq!(
        (&shown["id"], &shown["stateName"], &shown["mongoDBVersion"]),
        (&json!(deployment.id.to_string()), &json!("IDLE"), &json!("6.0.5"))
    );
    assert_eq!(shown["links"][0]["href"], format!("http://api.test:8080{path}"));
    let list = app.get(&app.group("/flexClusters")).await.expect(200);
    assert_eq!((&list["results"], &list["totalCount"]), (&json!([shown]), &json!(1)));
    for path in ["/clusters/f1", "/clusters/f1/backup/snapshots", "/clusters/f1/restoreJobs"] {
        app.get(&app.group(path)).await.refused(400, "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API");
    }
    let serverless = app.get(&app.group("/serverless/f1")).await;
    serverless.refused(400, "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API");
    assert_eq!(app.get(&app.group("/clusters")).await.expect(200)["totalCount"], 1, "c1 alone");
    let older = Request::new("GET", &path).header("Accept", "application/vnd.atlas.2024-10-23+json");
    app.send(&app.owner, older).await.refused(406, "INVALID_VERSION_DATE");
    app.stop().await;
}

/// Whoever asked for the backups of a serverless instance goes on doing so when it is a flex cluster.
#[tokio::test]
async fn backups_are_found_where_a_serverless_instance_has_them() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let snapshot = app.snapshot_of(&deployment).await.id.to_string();
    let before = app.group("/serverless/f1/backup");
    let listed = app.get(&format!("{before}/snapshots")).await.expect(200);
    assert_eq!((&listed["totalCount"], &listed["results"][0]["id"]), (&json!(1), &json!(snapshot)));
    let one = app.get(&format!("{before}/snapshots/{snapshot}")).await.expect(200);
    assert_eq!((&one, &one["serverlessInstanceName"]), (&listed["results"][0], &json!("f1")));
    let body = json!({
        "deliveryType": "automated", "snapshotId": snapshot, "targetClusterName": "f1",
        "targetGroupId": app.project.id.to_string(),
    });
    let asked = app.post(&format!("{before}/restoreJobs"), body).await.expect(200);
    let job = asked["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("{before}/restoreJobs/{job}")).await.expect(200)["id"], job);
    let jobs = app.get(&format!("{before}/restoreJobs")).await.expect(200);
    assert_eq!((&jobs["totalCount"], &jobs["results"][0]["id"]), (&json!(1), &json!(job)));
    // It is the same job in the words of flex.
    assert_eq!(
        app.get(&format!("{path}/backup/restoreJobs/{job}")).await.expect(200)["deliveryType"],
        "RESTORE"
    );
    app.stop().await;
}

#[tokio::test]
async fn snapshots_have_the_words_of_flex() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let own = app.own("/clusters/f1/snapshots");
    let waiting = app.post(&own, json!({"retentionInDays": 2})).await.expect(201);
    let one = format!("{path}/backup/snapshots/{}", waiting["id"].as_str().unwrap());
    assert_eq!(
        app.get(&one).await.expect(200),
        json!({
            "expiration": "2025-11-24T00:00:00Z", "id": waiting["id"], "scheduledTime": "2025-11-22T00:00:00Z",
            "status": "QUEUED",
        })
    );
    let incomplete = json!({"snapshotId": waiting["id"], "targetDeploymentItemName": "f1"});
    let jobs = format!("{path}/backup/restoreJobs");
    app.post(&jobs, incomplete).await.refused(404, "TENANT_SNAPSHOT_NOT_FOUND");
    app.pass_seconds(30);
    app.complete_snapshot().await;
    let done = app.get(&one).await.expect(200);
    assert_eq!(
        done,
        json!({
            "expiration": "2025-11-24T00:00:30Z", "finishTime": "2025-11-22T00:00:30Z", "id": waiting["id"],
            "mongoDBVersion": "6.0.5", "scheduledTime": "2025-11-22T00:00:00Z", "status": "COMPLETED",
        })
    );
    let list = app.get(&format!("{path}/backup/snapshots")).await.expect(200);
    assert_eq!(list["results"], json!([done]));
    // Those of others are not among them.
    let others = app.snapshot().await;
    let theirs = format!("{path}/backup/snapshots/{}", others.id);
    app.get(&theirs).await.refused(404, "TENANT_SNAPSHOT_NOT_FOUND");
    let new = catalog::NewSnapshot {
        deployment_id: deployment.id,
        snapshot_type: catalog::SnapshotType::OnDemand,
        description: None,
        retention_days: None,
    };
    let failed = app.catalog.snapshots().request(new, app.now()).await.unwrap();
    let lease = app.claim(&["snapshot"]).await;
    let outcome = Outcome::Failed { error: "no".into() };
    app.catalog.jobs().finish(&lease, outcome, app.now()).await.unwrap();
    let shown = app.get(&format!("{path}/backup/snapshots/{}", failed.id)).await.expect(200);
    assert_eq!(shown["status"], "FAILED");
    app.stop().await;
}

#[tokio::test]
async fn a_restore_goes_into_a_deployment_by_its_name() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let snapshot = app.snapshot_of(&deployment).await;
    let jobs = format!("{path}/backup/restoreJobs");
    let id = snapshot.id.to_string();
    let body = json!({"snapshotId": id, "targetDeploymentItemName": "c1"});
    for (changes, status, code) in [
        (json!({"snapshotId": null}), 400, "MISSING_ATTRIBUTE"),
        (json!({"snapshotId": "xyz"}), 400, "INVALID_ATTRIBUTE"),
        (json!({"snapshotId": UNKNOWN}), 404, "TENANT_SNAPSHOT_NOT_FOUND"),
        (json!({"targetDeploymentItemName": null}), 400, "MISSING_ATTRIBUTE"),
        (json!({"targetDeploymentItemName": "nobody"}), 404, "CLUSTER_NOT_FOUND"),
        (json!({"targetDeploymentItemName": "a b"}), 400, "CLUSTER_NAME_INVALID"),
        (json!({"targetProjectId": "xyz"}), 400, "INVALID_ATTRIBUTE"),
        (json!({"targetProjectId": UNKNOWN}), 403, "CANNOT_RESTORE_TO_TARGET"),
        (json!({"surprise": 1}), 400, "INVALID_ATTRIBUTE"),
    ] {
        let mut wrong = body.clone();
        wrong.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        app.post(&jobs, wrong).await.refused(status, code);
    }
    let asked = app.post(&jobs, body).await.expect(200);
    assert_eq!(
        asked,
        json!({
            "deliveryType": "RESTORE", "id": asked["id"], "instanceName": "f1",
            "projectId": app.project.id.to_string(), "restoreScheduledDate": "2025-11-22T00:00:00Z",
            "snapshotFinishedDate": "2025-11-22T00:00:00Z", "snapshotId": id, "status": "QUEUED",
            "targetDeploymentItemName": "c1", "targetProjectId": app.project.id.to_string(),
        })
    );
    let lease = app.claim(&["restore"]).await;
    let Work::Restore { restore_job_id } = lease.work else { panic!("not a restore") };
    let one = format!("{jobs}/{restore_job_id}");
    assert_eq!(app.get(&one).await.expect(200)["status"], "RUNNING");
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    app.pass_seconds(60);
    let outcome = Outcome::RestoreFinished { receipt: json!({}) };
    app.catalog.jobs().finish(&lease, outcome, app.now()).await.unwrap();
    let done = app.get(&one).await.expect(200);
    assert_eq!(
        (&done["status"], &done["restoreFinishedDate"]),
        (&json!("COMPLETED"), &json!("2025-11-22T00:01:00Z"))
    );
    assert_eq!(app.get(&jobs).await.expect(200)["results"], json!([done]));
    app.get(&format!("{jobs}/{UNKNOWN}")).await.refused(404, "TENANT_RESTORE_NOT_FOUND");
    // A dedicated cluster's snapshot goes into no tenant.
    let dedicated = app.snapshot().await;
    let into = json!({
        "deliveryType": "automated", "snapshotId": dedicated.id.to_string(), "targetClusterName": "f1",
        "targetGroupId": app.project.id.to_string(),
    });
    app.post(&app.backup("/restoreJobs"), into).await.refused(400, "PROVIDER_BACKUP_NOT_SUPPORTED");
    app.stop().await;
}

#[tokio::test]
async fn a_download_can_be_fetched_for_four_hours() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let snapshot = app.snapshot_of(&deployment).await;
    let download = format!("{path}/backup/download");
    let asked = app.post(&download, json!({"snapshotId": snapshot.id.to_string()})).await.expect(200);
    assert_eq!((&asked["deliveryType"], &asked["status"]), (&json!("DOWNLOAD"), &json!("QUEUED")));
    assert!(asked.get("snapshotUrl").is_none() && asked.get("targetDeploymentItemName").is_none());
    app.finish_download(b"x").await;
    let one = format!("{path}/backup/restoreJobs/{}", asked["id"].as_str().unwrap());
    let ready = app.get(&one).await.expect(200);
    assert_eq!(
        (&ready["status"], &ready["expirationDate"]),
        (&json!("COMPLETED"), &json!("2025-11-22T04:00:00Z"))
    );
    let url = ready["snapshotUrl"].as_str().unwrap().strip_prefix("http://api.test:8080").unwrap().to_owned();
    for _ in 0..3 {
        app.pass_seconds(4_000);
        assert_eq!(app.plain(Request::new("GET", &url)).await.status, 200);
    }
    app.pass_seconds(4 * 3_600 - 3 * 4_000);
    app.plain(Request::new("GET", &url)).await.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
    assert!(app.get(&one).await.expect(200).get("snapshotUrl").is_none());
    app.stop().await;
}

#[tokio::test]
async fn each_right_opens_its_own_page() {
    let app = App::start().await;
    let (deployment, path) = flexible(&app).await;
    let snapshot = app.snapshot_of(&deployment).await;
    let restore = json!({"snapshotId": snapshot.id.to_string(), "targetDeploymentItemName": "f1"});
    let fetch = json!({"snapshotId": snapshot.id.to_string()});
    let asks: [(&str, &Value); 2] = [("restoreJobs", &restore), ("download", &fetch)];
    for (role, allowed) in [
        (Role::GroupReadOnly, [false, false]),
        (Role::GroupBackupRecoveryOperator, [true, false]),
        (Role::GroupBackupExportOperator, [false, true]),
    ] {
        let key = app.key(&[role]).await;
        app.send(&key, Request::new("GET", &format!("{path}/backup/restoreJobs"))).await.expect(200);
        for ((rest, body), allowed) in asks.into_iter().zip(allowed) {
            let request = Request::new("POST", &format!("{path}/backup/{rest}")).json(body);
            let answer = app.send(&key, request).await;
            if allowed {
                answer.expect(200);
            } else {
                answer.refused(403, "ACCESS_FORBIDDEN");
            }
        }
    }
    app.stop().await;
}
