//! Restores to a point in time: from which snapshot, in which words, and why not. What is recorded is entered into the
//! catalog; nothing here knows a MongoDB.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::Outcome;
use common::{
    App, Request,
    recorder::{Recorder, second},
};
use model::{ContinuousBackup, DeploymentKind, RestoreWindowDays, role::Role, timeline::TimelineEnd};
use serde_json::{Value, json};

const REFUSED: &str = "INVALID_PIT_RESTORE_TIME";
const NO_BASE: &str = "UNABLE_T0_FIND_SNAPSHOT_PRIOR_TO_PIT_RESTORE_OPTIME";

/// The state at the beginning of a second after the tests begin.
fn at_second(app: &App, seconds: u32) -> Value {
    json!({
        "deliveryType": "pointInTime",
        "pointInTimeUTCSeconds": second(seconds, 0).seconds,
        "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
    })
}

/// The state after an operation.
fn after(app: &App, seconds: u32, increment: u32) -> Value {
    let time = second(seconds, increment);
    json!({
        "deliveryType": "pointInTime",
        "oplogInc": time.increment,
        "oplogTs": time.seconds,
        "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
    })
}

/// Recorded from second 5 to second 600, with snapshots of the seconds 10 and 100; it is second 600.
pub(crate) async fn recorded(app: &App) -> (Recorder, [catalog::Snapshot; 2]) {
    app.pass_seconds(600);
    let mut recorder = Recorder::start(app, &app.cluster, second(5, 1)).await;
    recorder.record(app, second(50, 1)).await;
    recorder.record(app, second(600, 1)).await;
    let first = app.snapshot_as_of(&app.cluster, second(10, 2)).await;
    let last = app.snapshot_as_of(&app.cluster, second(100, 3)).await;
    (recorder, [first, last])
}

/// Asks for a restore and cancels it, so that the next one may be asked for.
async fn asked(app: &App, body: Value) -> Value {
    let answer = app.post(&app.backup("/restoreJobs"), body).await.expect(200);
    app.delete(&app.backup(&format!("/restoreJobs/{}", answer["id"].as_str().unwrap()))).await.expect(204);
    answer
}

#[tokio::test]
async fn the_base_is_the_last_snapshot_that_is_not_later() {
    let app = App::start().await;
    let (_, [first, last]) = recorded(&app).await;
    for (body, base) in [
        (at_second(&app, 200), &last),
        (at_second(&app, 101), &last),
        // At the beginning of the second in which the snapshot was taken, its own operation had not happened.
        (at_second(&app, 100), &first),
        (after(&app, 100, 2), &first),
        (after(&app, 100, 3), &last),
        (after(&app, 100, 4), &last),
        (after(&app, 600, 1), &last),
        (after(&app, 10, 2), &first),
        (at_second(&app, 11), &first),
    ] {
        assert_eq!(asked(&app, body.clone()).await["snapshotId"], base.id.to_string(), "{body}");
    }
    // Clients send a snapshot along, and servers don't read it.
    for sent in [json!(first.id.to_string()), json!("32b6e34b3d91647abb20e7b8"), json!(null)] {
        let mut body = at_second(&app, 200);
        body["snapshotId"] = sent;
        assert_eq!(asked(&app, body).await["snapshotId"], last.id.to_string());
    }
    app.stop().await;
}

#[tokio::test]
async fn an_answer_has_the_time_in_the_words_of_the_request() {
    let app = App::start().await;
    let (_, [_, last]) = recorded(&app).await;
    let answer = app.post(&app.backup("/restoreJobs"), after(&app, 200, 7)).await.expect(200);
    let time = second(200, 7);
    assert_eq!((&answer["oplogTs"], &answer["oplogInc"]), (&json!(time.seconds), &json!(7)));
    assert_eq!(answer["desiredTimestamp"], json!({"date": "2025-11-22T00:03:20Z", "increment": 7}));
    assert!(answer.get("pointInTimeUTCSeconds").is_none());
    assert_eq!((&answer["deliveryType"], &answer["deliveryUrl"]), (&json!("pointInTime"), &json!([])));
    assert_eq!(
        (&answer["snapshotId"], &answer["timestamp"]),
        (&json!(last.id.to_string()), &json!("2025-11-22T00:10:00Z"))
    );
    assert_eq!((&answer["targetClusterName"], &answer["links"][0]["rel"]), (&json!("c1"), &json!("self")));
    let one = app.backup(&format!("/restoreJobs/{}", answer["id"].as_str().unwrap()));
    assert_eq!(app.get(&one).await.expect(200), answer, "GET shows what POST answered");
    assert_eq!(app.get(&app.backup("/restoreJobs")).await.expect(200)["results"], json!([answer]));

    let audit = app.changes().await;
    assert_eq!(audit[0].action, "restore.create");
    assert_eq!(
        audit[0].detail["pointInTime"],
        json!({"operation": {"seconds": time.seconds, "increment": 7}})
    );
    // One restore at a time, of whatever kind.
    app.post(&app.backup("/restoreJobs"), at_second(&app, 200))
        .await
        .refused(409, "ATLAS_CLUSTER_RESTORE_IN_PROGRESS");

    let lease = app.claim(&["restore"]).await;
    assert!(app.catalog.restores().begin_cut_over(&lease, app.now()).await.unwrap());
    app.delete(&one).await.refused(400, "CANNOT_CANCEL_AUTOMATED_RESTORE");
    app.catalog
        .jobs()
        .finish(&lease, Outcome::RestoreFinished { receipt: json!({}) }, app.now())
        .await
        .unwrap();
    assert_eq!(app.get(&one).await.expect(200)["finishedAt"], "2025-11-22T00:10:00Z");

    let answer = app.post(&app.backup("/restoreJobs"), at_second(&app, 200)).await.expect(200);
    assert_eq!(answer["pointInTimeUTCSeconds"], time.seconds);
    for absent in ["oplogTs", "oplogInc", "desiredTimestamp"] {
        assert!(answer.get(absent).is_none(), "{absent}");
    }
    let own = app.own(&format!("/clusters/c1/restoreJobs/{}", answer["id"].as_str().unwrap()));
    let own = app.get(&own).await.expect(200);
    assert_eq!((&own["pointInTimeUTCSeconds"], &own["state"]), (&json!(time.seconds), &json!("queued")));
    app.stop().await;
}

#[tokio::test]
async fn the_legacy_list_tells_the_time_that_is_restored() {
    let app = App::start().await;
    recorded(&app).await;
    asked(&app, after(&app, 200, 7)).await;
    app.pass_seconds(1);
    asked(&app, at_second(&app, 300)).await;
    let list = app.get(&app.group("/clusters/c1/restoreJobs")).await.expect(200);
    let (newest, oldest) = (&list["results"][0], &list["results"][1]);
    assert_eq!(oldest["timestamp"], json!({"date": "2025-11-22T00:03:20Z", "increment": 7}));
    assert_eq!(newest["timestamp"], json!({"date": "2025-11-22T00:05:00Z", "increment": 0}));
    for job in [newest, oldest] {
        assert_eq!(job["delivery"]["methodName"], "AUTOMATED_RESTORE");
        assert_eq!(job["delivery"]["targetClusterName"], "c1");
    }
    app.stop().await;
}

#[tokio::test]
async fn atlas_s_null_timestamp_gives_way_to_a_real_one() {
    let quirks = ebbtide_api::Quirks { null_desired_timestamp: true, ..ebbtide_api::Quirks::default() };
    let app = App::start_with(|settings| settings.quirks = quirks).await;
    recorded(&app).await;
    let by_second = asked(&app, at_second(&app, 200)).await;
    assert_eq!(by_second["desiredTimestamp"], json!({"date": null, "increment": null, "time": null}));
    let by_operation = asked(&app, after(&app, 200, 7)).await;
    let shown = json!({"date": "2025-11-22T00:03:20Z", "increment": 7, "time": null});
    assert_eq!(by_operation["desiredTimestamp"], shown);
    app.stop().await;
}

#[tokio::test]
async fn without_a_record_there_is_no_point_in_time() {
    let app = App::start().await;
    app.pass_seconds(600);
    let path = app.backup("/restoreJobs");
    app.snapshot_as_of(&app.cluster, second(10, 1)).await;
    let off = app.post(&path, at_second(&app, 200)).await.refused(400, REFUSED);
    let detail = off["detail"].as_str().unwrap();
    assert!(detail.starts_with("Please provide a valid UTC time or an operation time (ts). "), "{detail}");
    assert!(detail.contains("Continuous backup of c1 is switched off"), "{detail}");
    assert_eq!(off["parameters"], json!([]));
    app.patch(&app.own("/clusters/c1"), json!({"continuousBackup": {"pitEnabled": true}})).await.expect(200);
    let on = app.post(&path, at_second(&app, 200)).await.refused(400, REFUSED);
    assert!(on["detail"].as_str().unwrap().contains("is switched on, and nothing is recorded yet"), "{on}");
    // Recorded, and no snapshot lies on the record: the one of second 10 is older.
    let mut recorder = Recorder::start(&app, &app.cluster, second(20, 1)).await;
    recorder.record(&app, second(600, 1)).await;
    let body = app.post(&path, at_second(&app, 200)).await.refused(404, NO_BASE);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with("Unable to find snapshot prior to pit restore optime. "), "{detail}");
    assert!(detail.contains("before the next snapshot on the record"), "{detail}");
    assert_eq!(app.get(&path).await.expect(200)["totalCount"], 0, "what is refused leaves nothing");
    app.stop().await;
}

#[tokio::test]
async fn a_refusal_says_why_and_what_can_be_restored() {
    let app = App::start().await;
    let (mut recorder, _) = recorded(&app).await;
    // A gap from second 600 to second 700, then a record on which the first snapshot is of second 800.
    recorder.end(&app, TimelineEnd::RolledOver, "the oplog was too small").await;
    app.pass_seconds(400);
    recorder.begin_anew(&app, second(700, 1)).await;
    recorder.record(&app, second(900, 1)).await;
    app.snapshot_as_of(&app.cluster, second(800, 1)).await;
    let first = "from 2025-11-22T00:00:10Z (1763769610,2) to 2025-11-22T00:10:00Z (1763770200,1)";
    let second_range = "from 2025-11-22T00:13:20Z (1763770400,1) to 2025-11-22T00:15:00Z (1763770500,1)";
    let path = app.backup("/restoreJobs");
    for (body, status, code, why) in [
        (at_second(&app, 4), 404, NO_BASE, "No snapshot of c1 leads to 2025-11-22T00:00:04Z"),
        (after(&app, 10, 1), 404, NO_BASE, "No snapshot of c1 leads to"),
        (at_second(&app, 750), 404, NO_BASE, "No snapshot of c1 leads to"),
        (
            at_second(&app, 650),
            400,
            REFUSED,
            "were not recorded: the record ends at 2025-11-22T00:10:00Z (1763770200,1) \
            (rolledOver: the oplog was too small)",
        ),
        (after(&app, 600, 2), 400, REFUSED, "were not recorded"),
        (at_second(&app, 980), 400, REFUSED, "the record ends at 2025-11-22T00:15:00Z (1763770500,1) so far"),
        (at_second(&app, 1_001), 400, REFUSED, "has not come yet"),
    ] {
        let refused = app.post(&path, body.clone()).await.refused(status, code);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{body}: {detail}");
        let ranges = detail.split("What can be restored: ").nth(1);
        assert_eq!(ranges, Some(format!("{first}, {second_range}.").as_str()), "{detail}");
    }
    for good in [after(&app, 600, 1), after(&app, 800, 1), at_second(&app, 900)] {
        asked(&app, good).await;
    }
    app.stop().await;
}

#[tokio::test]
async fn what_lies_before_the_window_is_refused_although_it_is_there() {
    let app = App::start().await;
    let (mut recorder, _) = recorded(&app).await;
    let day = ContinuousBackup { pit_enabled: true, restore_window_days: RestoreWindowDays::MIN };
    app.catalog.timelines().set_continuous_backup(app.cluster.id, day).await.unwrap();
    app.pass_seconds(86_400 - 300);
    recorder.record(&app, second(86_700, 1)).await;
    // It is a day after second 300.
    let path = app.backup("/restoreJobs");
    asked(&app, at_second(&app, 300)).await;
    let refused = app.post(&path, after(&app, 299, 9)).await.refused(400, REFUSED);
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains(
            "lies before the restore window (restoreWindowDays: 1), which begins at 2025-11-22T00:05:00Z"
        ),
        "{detail}"
    );
    assert!(detail.contains("What can be restored: from 2025-11-22T00:05:00Z (1763769900,0) to"), "{detail}");
    app.patch(&app.own("/clusters/c1"), json!({"continuousBackup": {"restoreWindowDays": 2}}))
        .await
        .expect(200);
    asked(&app, after(&app, 299, 9)).await;
    app.stop().await;
}

/// The window is counted by the clock of the deployment, which need not go as ours.
#[tokio::test]
async fn a_deployment_whose_clock_is_behind_can_be_restored_all_the_same() {
    let app = App::start().await;
    app.pass_seconds(30 * 86_400);
    recorded(&app).await;
    let shown = app.get(&app.own("/clusters/c1/timeline")).await.expect(200);
    let to = second(600, 1).seconds;
    assert!(shown["restorable"][0]["to"]["seconds"].as_u64() == Some(u64::from(to)), "{shown}");
    asked(&app, at_second(&app, 500)).await;
    app.stop().await;
}

#[tokio::test]
async fn a_record_that_is_seconds_behind_is_waited_for() {
    let app = App::start().await;
    let (recorder, [_, last]) = recorded(&app).await;
    let path = app.backup("/restoreJobs");
    app.pass_seconds(59);
    assert_eq!(asked(&app, at_second(&app, 659)).await["snapshotId"], last.id.to_string());
    assert_eq!(asked(&app, after(&app, 600, 2)).await["snapshotId"], last.id.to_string());
    app.post(&path, at_second(&app, 660)).await.refused(400, REFUSED);
    // A minute behind, and nobody knows whether it will come.
    app.pass_seconds(1);
    recorder.say(&app, &json!({})).await;
    app.post(&path, at_second(&app, 660)).await.refused(400, REFUSED);
    asked(&app, at_second(&app, 659)).await;
    // Nobody records any more.
    app.pass_seconds(61);
    app.post(&path, at_second(&app, 659)).await.refused(400, REFUSED);
    assert!(recorder.say(&app, &json!({})).await == catalog::Renewal::Continue);
    asked(&app, at_second(&app, 659)).await;
    app.stop().await;
}

#[tokio::test]
async fn an_ended_record_is_not_waited_for() {
    let app = App::start().await;
    let (mut recorder, _) = recorded(&app).await;
    recorder.end(&app, TimelineEnd::RolledBack, "").await;
    app.pass_seconds(5);
    let refused = app.post(&app.backup("/restoreJobs"), at_second(&app, 603)).await.refused(400, REFUSED);
    assert!(refused["detail"].as_str().unwrap().contains("(1763770200,1) (rolledBack)."), "{refused}");
    app.stop().await;
}

#[tokio::test]
async fn the_target_is_checked_as_that_of_any_restore() {
    let app = App::start().await;
    recorded(&app).await;
    let path = app.backup("/restoreJobs");
    let into = |name: &str| {
        let mut body = at_second(&app, 200);
        body["targetClusterName"] = json!(name);
        body
    };
    app.post(&path, into("zz")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.add("s1", DeploymentKind::Serverless).await;
    app.post(&path, into("s1")).await.refused(400, "PROVIDER_BACKUP_NOT_SUPPORTED");
    let older = json!({"name": "old", "uri": "mongodb://old"});
    app.post(&app.own("/clusters"), older).await.expect(201);
    app.post(&path, into("old")).await.refused(409, "INVALID_RESTORE_PROCESS");
    app.add("d1", DeploymentKind::ReplicaSet).await;
    assert_eq!(app.post(&path, into("d1")).await.expect(200)["targetClusterName"], "d1");
    // The right to download is not the right to restore.
    let exporter = app.key(&[Role::GroupBackupExportOperator]).await;
    app.send(&exporter, Request::new("POST", &path).json(&into("c1"))).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn a_plan_of_a_point_in_time_tells_its_base_and_writes_nothing() {
    let app = App::start().await;
    let (_, [_, last]) = recorded(&app).await;
    let path = app.own("/clusters/c1/restoreJobs");
    let dry = |mut body: Value| {
        body["dryRun"] = json!(true);
        body
    };
    let plan = app.post(&path, dry(after(&app, 200, 7))).await.expect(200);
    assert_eq!((&plan["snapshotId"], &plan["oplogInc"]), (&json!(last.id.to_string()), &json!(7)));
    assert_eq!((&plan["deliveryType"], &plan["documents"]), (&json!("pointInTime"), &json!(10)));
    assert!(plan["expectedOutageSeconds"].as_u64().unwrap() > 0);
    app.post(&path, dry(at_second(&app, 4))).await.refused(404, NO_BASE);
    assert_eq!(app.get(&path).await.expect(200)["totalCount"], 0, "a dry run writes nothing");
    assert_eq!(app.post(&path, at_second(&app, 200)).await.expect(201)["state"], "queued");
    app.stop().await;
}

#[tokio::test]
async fn a_serverless_instance_goes_back_in_time_too() {
    let app = App::start().await;
    let instance = app.add("s1", DeploymentKind::Serverless).await;
    app.pass_seconds(600);
    let mut recorder = Recorder::start(&app, &instance, second(5, 1)).await;
    recorder.record(&app, second(600, 1)).await;
    let base = app.snapshot_as_of(&instance, second(10, 1)).await;
    let mut body = after(&app, 200, 7);
    body["targetClusterName"] = json!("s1");
    let path = app.group("/serverless/s1/backup/restoreJobs");
    let answer = app.post(&path, body.clone()).await.expect(200);
    assert_eq!((&answer["snapshotId"], &answer["oplogInc"]), (&json!(base.id.to_string()), &json!(7)));
    assert_eq!(app.get(&path).await.expect(200)["results"], json!([answer]));
    let shown = app.get(&app.group("/serverless/s1")).await.expect(200);
    assert_eq!(shown["serverlessBackupOptions"], json!({"serverlessContinuousBackupEnabled": true}));
    // What another deployment has recorded doesn't count.
    app.post(&app.backup("/restoreJobs"), after(&app, 200, 7)).await.refused(400, REFUSED);
    app.stop().await;
}
