//! The shapes that a restore job has elsewhere: legacy, serverless, Ebbtide's own; and the quirks of Atlas.
#![allow(clippy::unwrap_used)]

use ebbtide_api as api;

use crate::common;

use catalog::Outcome;
use common::{App, Request};
use model::{DeploymentKind, job::Progress, role::Role};
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

#[tokio::test]
async fn the_legacy_list_shows_the_same_jobs_in_the_old_shape() {
    let app = App::start().await;
    // Completed a while after the time of its data.
    app.pass_seconds(90);
    let snapshot = app.snapshot().await;
    let restore = app.post(&app.backup("/restoreJobs"), automated(&app, &snapshot)).await.expect(200);
    app.pass_seconds(1);
    let fetch = app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    let path = app.group("/clusters/c1/restoreJobs");
    let list = app.get(&path).await.expect(200);
    assert_eq!(list["totalCount"], 2);
    let (newest, oldest) = (&list["results"][0], &list["results"][1]);
    assert_eq!((&newest["id"], &oldest["id"]), (&fetch["id"], &restore["id"]));
    assert_eq!(oldest["delivery"]["methodName"], "AUTOMATED_RESTORE");
    assert_eq!(oldest["delivery"]["targetClusterName"], "c1");
    assert_eq!(
        newest["delivery"],
        json!({"expirationHours": 1, "maxDownloads": 1, "methodName": "HTTP", "statusName": "NOT_STARTED"})
    );
    assert_eq!((&newest["statusName"], &newest["clusterName"]), (&json!("IN_PROGRESS"), &json!("c1")));
    let time = json!({"date": "2025-11-22T00:00:00Z", "increment": 3});
    assert_eq!((&newest["timestamp"], &oldest["timestamp"]), (&time, &time));
    assert_eq!(newest["links"].as_array().unwrap().len(), 1);
    assert!(newest.get("hashes").is_none());
    app.finish_download(b"x").await;
    let ready = app.get(&path).await.expect(200)["results"][0].clone();
    assert_eq!(
        (&ready["statusName"], &ready["delivery"]["statusName"]),
        (&json!("FINISHED"), &json!("READY"))
    );
    assert_eq!(ready["delivery"]["url"], ready["delivery"]["urlV2"]);
    assert_eq!(ready["hashes"][0]["typeName"], "SHA1");
    let one = app.get(&format!("{path}/{}", fetch["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(one["timestamp"], time);
    // Only jobs of sharded clusters come in batches.
    let batch = app.get(&format!("{path}?batchId=32b6e34b3d91647abb20e7b8")).await.expect(200);
    assert_eq!((&batch["totalCount"], &batch["results"]), (&json!(0), &json!([])));
    app.get(&format!("{path}?batchId=x")).await.refused(400, "INVALID_QUERY_PARAMETER");
    app.stop().await;
}

#[tokio::test]
async fn the_legacy_list_can_be_empty_or_refused() {
    let app = App::start_with(|settings| settings.legacy_mode = api::LegacyMode::Refuse).await;
    let body =
        app.get(&app.group("/clusters/c1/restoreJobs")).await.refused(400, "INCORRECT_BACKUP_API_ENDPOINT");
    assert_eq!(body["parameters"], json!([app.backup("/restoreJobs")]));
    app.stop().await;
    let app = App::start_with(|settings| settings.legacy_mode = api::LegacyMode::Empty).await;
    let snapshot = app.snapshot().await;
    app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    assert_eq!(app.get(&app.group("/clusters/c1/restoreJobs")).await.expect(200)["totalCount"], 0);
    app.stop().await;
}

#[tokio::test]
async fn serverless_instances_have_their_own_paths() {
    let app = App::start().await;
    let instance = app.add("s1", DeploymentKind::Serverless).await;
    let snapshot = app.snapshot_of(&instance).await;
    let path = app.group("/serverless/s1/backup/restoreJobs");
    let body = app.post(&path, download(&snapshot)).await.expect(200);
    assert_eq!(body["targetClusterName"], "s1", "the schema wants a target even of a download");
    assert_eq!(body["targetGroupId"], app.project.id.to_string());
    let list = app.get(&path).await.expect(200);
    assert_eq!(list["results"], json!([body]));
    app.get(&format!("{path}/{}", body["id"].as_str().unwrap())).await.expect(200);
    let snapshots = app.get(&app.group("/serverless/s1/backup/snapshots")).await.expect(200);
    assert_eq!(snapshots["results"][0]["serverlessInstanceName"], "s1");
    assert!(snapshots["results"][0].get("replicaSetName").is_none());
    app.get(&app.group(&format!("/serverless/s1/backup/snapshots/{}", snapshot.id))).await.expect(200);
    assert_eq!(app.get(&app.group("/serverless")).await.expect(200)["totalCount"], 1);
    assert_eq!(app.get(&app.group("/serverless/s1")).await.expect(200)["stateName"], "IDLE");
    // Each kind under its own path only.
    app.get(&app.group("/serverless/c1/backup/restoreJobs"))
        .await
        .refused(400, "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API");
    app.get(&app.group("/clusters/s1/backup/restoreJobs"))
        .await
        .refused(400, "CANNOT_USE_SERVERLESS_INSTANCE_IN_CLUSTER_API");
    app.get(&app.group("/serverless/zz/backup/restoreJobs"))
        .await
        .refused(404, "SERVERLESS_INSTANCE_NOT_FOUND");
    let manager = app.key(&[Role::GroupBackupManager]).await;
    app.send(&manager, Request::new("GET", &path)).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn d9_d10_quirks_of_atlas_are_off_and_can_be_had() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let job = app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    assert!(job.get("desiredTimestamp").is_none());
    let shown = app.get(&app.backup(&format!("/snapshots/{}", snapshot.id))).await.expect(200);
    assert!(shown.get("frequencyType").is_none());
    app.stop().await;
    let quirks = api::Quirks { ondemand_frequency_type: true, null_desired_timestamp: true };
    let app = App::start_with(|settings| settings.quirks = quirks).await;
    let snapshot = app.snapshot().await;
    let job = app.post(&app.backup("/restoreJobs"), download(&snapshot)).await.expect(200);
    assert_eq!(job["desiredTimestamp"], json!({"date": null, "increment": null, "time": null}));
    let shown = app.get(&app.backup(&format!("/snapshots/{}", snapshot.id))).await.expect(200);
    assert_eq!(shown["frequencyType"], "ondemand");
    app.stop().await;
}

#[tokio::test]
async fn own_paths_show_progress_and_take_choices() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = app.own("/clusters/c1/restoreJobs");
    let mut body = automated(&app, &snapshot);
    body["withUsers"] = json!(true);
    body["inPlace"] = json!(true);
    body["indexCommitQuorum"] = json!("majority");
    body["dryRun"] = json!(true);
    let plan = app.post(&path, body.clone()).await.expect(200);
    assert_eq!((&plan["dryRun"], &plan["documents"]), (&json!(true), &json!(10)));
    let loaded = |plan: &Value| (plan["timeSeriesBytes"].clone(), plan["bytesLoadedInCutOver"].clone());
    assert_eq!(loaded(&plan), (json!(300), json!(1000)), "in place, all of it");
    assert!(plan["expectedOutageSeconds"].as_u64().unwrap() > 0);
    let mut staged = body.clone();
    staged["inPlace"] = json!(false);
    assert_eq!(loaded(&app.post(&path, staged).await.expect(200)), (json!(300), json!(300)));
    let mut archive = download(&snapshot);
    archive["dryRun"] = json!(true);
    let plan = app.post(&path, archive).await.expect(200);
    assert_eq!(plan["timeSeriesBytes"], 300);
    assert!(plan.get("expectedOutageSeconds").is_none(), "a download keeps nobody out");
    assert_eq!(app.get(&path).await.expect(200)["totalCount"], 0, "a dry run writes nothing");
    body["dryRun"] = json!(false);
    for (name, value) in [("rewind", json!("maybe")), ("rewind", json!(1)), ("planOnly", json!("yes"))] {
        let mut wrong = body.clone();
        wrong[name] = value;
        app.post(&path, wrong).await.expect(400);
    }
    body["rewind"] = json!("only");
    body["planOnly"] = json!(true);
    let job = app.post(&path, body.clone()).await.expect(201);
    let options = json!({
        "inPlace": true, "indexCommitQuorum": "majority", "planOnly": true, "rewind": "only", "withUsers": true,
    });
    assert_eq!(job["options"], options);
    assert_eq!(job["state"], "queued");
    let lease = app.claim(&["restore"]).await;
    let progress =
        Progress { phase: "load".into(), documents_done: 5, documents_total: 10, ..Progress::default() };
    app.catalog.jobs().heartbeat(&lease, app.now(), 60_000, Some(&progress), None).await.unwrap();
    let one = format!("{path}/{}", job["id"].as_str().unwrap());
    let shown = app.get(&one).await.expect(200);
    assert_eq!((&shown["state"], &shown["progress"]["phase"]), (&json!("running"), &json!("load")));
    assert_eq!((&shown["progress"]["documentsDone"], &shown["attempts"]), (&json!(5), &json!(1)));
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    app.catalog
        .jobs()
        .finish(&lease, Outcome::RestoreFinished { receipt: json!({"equal": true}) }, app.now())
        .await
        .unwrap();
    let shown = app.get(&one).await.expect(200);
    assert_eq!((&shown["state"], &shown["receipt"]["equal"]), (&json!("finished"), &json!(true)));
    for (name, value) in [
        ("fence", json!("maybe")),
        ("indexDeadlineSeconds", json!(0)),
        ("indexCommitQuorum", json!([])),
        ("indexCommitQuorum", json!("everybody")),
        ("withUsers", json!(1)),
        ("surprise", json!(1)),
    ] {
        let mut body = body.clone();
        body[name] = value;
        assert_eq!(app.post(&path, body).await.status, 400, "{name}");
    }
    // The Atlas path takes none of it.
    let mut strict = automated(&app, &snapshot);
    strict["withUsers"] = json!(true);
    app.post(&app.backup("/restoreJobs"), strict).await.refused(400, "INVALID_ATTRIBUTE");
    app.stop().await;
}

#[tokio::test]
async fn a_part_is_selected_on_own_paths_and_what_makes_no_sense_is_refused() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = app.own("/clusters/c1/restoreJobs");
    let with = |selection: Value| {
        let mut body = automated(&app, &snapshot);
        body["selection"] = selection;
        body
    };
    for (selection, why) in [
        (json!("shop"), "invalid type"),
        (json!({}), "nothing is selected"),
        (json!({"namespaces": "shop"}), "invalid type"),
        (json!({"namespaces": []}), "nothing is selected"),
        (json!({"namespaces": ["*"]}), "name the database"),
        (json!({"namespaces": ["local.oplog.rs"]}), "belong to the server"),
        (json!({"namespaces": ["shop"], "except": ["shop.x"]}), "unknown field"),
        (json!({"namespaces": ["shop"], "renames": [{"from": "shop.a"}]}), "missing field"),
        (json!({"namespaces": ["shop"], "renames": [{"from": "shop.a", "to": "shop.a$"}]}), "shop.a$"),
        (json!({"namespaces": ["shop"], "renames": [{"from": "bank.a", "to": "bank.b"}]}), "not selected"),
        (
            json!({"namespaces": ["shop.a", "shop.b"], "renames": [{"from": "shop.a", "to": "shop.b"}]}),
            "both become shop.b",
        ),
        (
            json!({"namespaces": ["shop", "bank"], "renames": [{"from": "bank", "to": "sHop"}, {"from": "shop", "to": "shop"}]}),
            "the same",
        ),
        (
            json!({"namespaces": ["shop.a", "bank"], "renames": [{"from": "bank", "to": "sHop"}]}),
            "beside each other",
        ),
    ] {
        let answer = app.post(&path, with(selection.clone())).await;
        let problem = answer.refused(400, "INVALID_ATTRIBUTE");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{selection}: {problem}");
    }
    let orders = json!({"namespaces": ["shop.orders"]});
    let mut users = with(orders.clone());
    users["withUsers"] = json!(true);
    app.post(&path, users).await.refused(400, "INVALID_ATTRIBUTE");
    let mut archive = download(&snapshot);
    archive["selection"] = orders.clone();
    app.post(&path, archive).await.refused(400, "INVALID_ATTRIBUTE");
    // The Atlas path takes none of it.
    app.post(&app.backup("/restoreJobs"), with(orders.clone())).await.refused(400, "INVALID_ATTRIBUTE");

    let renames = json!([{"from": "shop.orders", "to": "shop.orders_old"}]);
    let mut body = with(json!({"namespaces": ["shop.orders"], "renames": renames, "overwrite": true}));
    body["dryRun"] = json!(true);
    let plan = app.post(&path, body.clone()).await.expect(200);
    assert_eq!(plan["options"]["selection"]["renames"], renames);
    for whole in ["collections", "documents", "logicalBytes", "timeSeriesBytes", "expectedOutageSeconds"] {
        assert!(plan.get(whole).is_none(), "{whole} is that of everything");
    }
    assert_eq!(app.get(&path).await.expect(200)["totalCount"], 0);
    body["dryRun"] = json!(false);
    let job = app.post(&path, body.clone()).await.expect(201);
    assert_eq!(job["options"]["selection"], body["selection"]);
    // Atlas shows it as any other.
    let shown =
        app.get(&app.backup(&format!("/restoreJobs/{}", job["id"].as_str().unwrap()))).await.expect(200);
    assert!(shown.get("options").is_none() && shown.get("selection").is_none(), "{shown}");
    app.stop().await;
}
