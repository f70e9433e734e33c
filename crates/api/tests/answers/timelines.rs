//! Continuous backup as Ebbtide's own paths show and change it.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{
    App, Request,
    recorder::{Recorder, second},
};
use model::{ContinuousBackup, RestoreWindowDays, role::Role, timeline::TimelineEnd};
use serde_json::{Value, json};

fn change(continuous: Value) -> Value {
    json!({"continuousBackup": continuous})
}

#[tokio::test]
async fn continuous_backup_is_changed_in_part_and_written_down() {
    let app = App::start().await;
    let path = app.own("/clusters/c1");
    let shown = async || app.get(&path).await.expect(200)["continuousBackup"].clone();
    assert_eq!(shown().await, json!({"pitEnabled": false, "restoreWindowDays": 7}));
    assert_eq!(app.get(&app.group("/clusters/c1")).await.expect(200)["pitEnabled"], false);
    let poked = app.state.poke.clone();
    let woken = tokio::spawn(async move { poked.notified().await });
    let changed = app.patch(&path, change(json!({"pitEnabled": true}))).await.expect(200);
    woken.await.unwrap();
    assert_eq!(changed["continuousBackup"], json!({"pitEnabled": true, "restoreWindowDays": 7}));
    assert_eq!(shown().await, changed["continuousBackup"]);
    assert_eq!(app.get(&app.group("/clusters/c1")).await.expect(200)["pitEnabled"], true);
    app.patch(&path, change(json!({"restoreWindowDays": 365}))).await.expect(200);
    assert_eq!(shown().await, json!({"pitEnabled": true, "restoreWindowDays": 365}));
    app.pass_seconds(1);
    app.patch(&path, change(json!({"pitEnabled": false, "restoreWindowDays": 1}))).await.expect(200);
    assert_eq!(shown().await, json!({"pitEnabled": false, "restoreWindowDays": 1}));
    assert_eq!(app.get(&app.group("/clusters")).await.expect(200)["results"][0]["pitEnabled"], false);
    let audit = app.changes().await;
    let last = &audit[0];
    assert_eq!(
        (last.action.as_str(), last.subject.as_str()),
        ("cluster.update", app.cluster.id.to_string().as_str())
    );
    assert_eq!(
        last.detail,
        json!({
            "continuousBackup": {"pitEnabled": false, "restoreWindowDays": 1},
            "continuousBackupBefore": {"pitEnabled": true, "restoreWindowDays": 365},
            "name": "c1",
        })
    );
    app.stop().await;
}

#[tokio::test]
async fn a_change_that_is_none_or_not_understood_is_refused() {
    let app = App::start().await;
    let path = app.own("/clusters/c1");
    for (body, code) in [
        (json!({}), "MISSING_ONE_OF_ATTRIBUTES"),
        (change(json!(null)), "MISSING_ONE_OF_ATTRIBUTES"),
        (change(json!({})), "MISSING_ONE_OF_ATTRIBUTES"),
        (change(json!({"pitEnabled": null})), "MISSING_ONE_OF_ATTRIBUTES"),
        (change(json!(true)), "INVALID_JSON_ATTRIBUTE"),
        (change(json!({"pitEnabled": 1})), "INVALID_JSON_ATTRIBUTE"),
        (change(json!({"restoreWindowDays": 1.5})), "INVALID_JSON_ATTRIBUTE"),
        (change(json!({"restoreWindowDays": 0})), "INVALID_RESTORE_WINDOW"),
        (change(json!({"restoreWindowDays": -1})), "INVALID_RESTORE_WINDOW"),
        (change(json!({"restoreWindowDays": 366})), "INVALID_RESTORE_WINDOW"),
        (change(json!({"pitEnabled": true, "surprise": 1})), "INVALID_ATTRIBUTE"),
        (json!({"continuousBackup": {"pitEnabled": true}, "name": "c2"}), "INVALID_ATTRIBUTE"),
        (json!({"pitEnabled": true}), "INVALID_ATTRIBUTE"),
    ] {
        app.patch(&path, body.clone()).await.refused(400, code);
    }
    let long = app.patch(&path, change(json!({"restoreWindowDays": 366}))).await.expect(400);
    assert!(long["detail"].as_str().unwrap().contains("1 to 365 days"), "{long}");
    app.patch(&app.own("/clusters/zz"), change(json!({"pitEnabled": true})))
        .await
        .refused(404, "CLUSTER_NOT_FOUND");
    let manager = app.key(&[Role::GroupBackupManager]).await;
    let by_manager = Request::new("PATCH", &path).json(&change(json!({"pitEnabled": true})));
    app.send(&manager, by_manager).await.refused(403, "ACCESS_FORBIDDEN");
    let row = app.catalog.deployments().get(app.cluster.id).await.unwrap().unwrap();
    assert_eq!(row.continuous, ContinuousBackup::default(), "what is refused changes nothing");
    assert_eq!(app.changes().await, []);
    app.stop().await;
}

#[tokio::test]
async fn a_registration_says_what_is_recorded() {
    let app = App::start().await;
    let path = app.own("/clusters");
    let add = |name: &str, continuous: Value| json!({"name": name, "uri": "mongodb://h/", "continuousBackup": continuous});
    let added =
        app.post(&path, add("n1", json!({"pitEnabled": true, "restoreWindowDays": 3}))).await.expect(201);
    assert_eq!(added["continuousBackup"], json!({"pitEnabled": true, "restoreWindowDays": 3}));
    let added = app.post(&path, add("n2", json!(null))).await.expect(201);
    assert_eq!(added["continuousBackup"], json!({"pitEnabled": false, "restoreWindowDays": 7}));
    app.post(&path, add("n3", json!({"restoreWindowDays": 0}))).await.refused(400, "INVALID_RESTORE_WINDOW");
    app.post(&path, add("n3", json!({"surprise": 0}))).await.refused(400, "INVALID_ATTRIBUTE");
    app.get(&app.own("/clusters/n3")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn what_differs_from_the_record_is_shown() {
    let app = App::start().await;
    let path = app.own("/clusters/c1/timeline");
    let nothing = app.get(&path).await.expect(200);
    assert_eq!((&nothing["defects"], &nothing["liveCheck"]), (&json!([]), &Value::Null));
    let now = model::WallTime(1_767_323_045_000);
    let uuid = model::CollectionUuid([7; 16]);
    let defect = catalog::Defect {
        deployment_id: app.cluster.id,
        collection: uuid,
        namespace: "shop.items".to_owned(),
        found: model::ClusterTime { seconds: 1_767_323_044, increment: 3 },
        found_at: now,
        what: "one document".to_owned(),
    };
    app.catalog.defects().record(&defect).await.unwrap();
    let claimed = app.catalog.live_checks().claim(app.cluster.id, "s", now, 1000).await.unwrap();
    let (lease, mut round) = claimed.unwrap();
    round.next = None;
    (round.documents, round.bytes, round.completed_at) = (7, 700, Some(now));
    app.catalog.live_checks().save(&lease, &round, now, 1000).await.unwrap();
    let shown = app.get(&path).await.expect(200);
    let expected = json!({
        "clusterTime": {"date": "2026-01-02T03:04:04Z", "increment": 3, "seconds": 1_767_323_044},
        "collectionUuid": uuid.to_string(),
        "foundAt": now.to_rfc3339(),
        "namespace": "shop.items",
        "what": "one document",
    });
    assert_eq!(shown["defects"], json!([expected]));
    let expected = json!({
        "bytes": 700,
        "documents": 7,
        "lastThroughAt": now.to_rfc3339(),
        "roundBeganAt": now.to_rfc3339(),
        "roundIsThrough": true,
    });
    assert_eq!(shown["liveCheck"], expected);
    app.stop().await;
}

#[tokio::test]
async fn a_timeline_is_shown_with_what_it_makes_restorable() {
    let app = App::start().await;
    let path = app.own("/clusters/c1/timeline");
    let nothing = app.get(&path).await.expect(200);
    assert_eq!((&nothing["restorable"], &nothing["timelines"]), (&json!([]), &json!([])));
    assert_eq!((&nothing["clusterName"], nothing.get("capture")), (&json!("c1"), None));
    assert_eq!(nothing["continuousBackup"], json!({"pitEnabled": false, "restoreWindowDays": 7}));
    app.pass_seconds(600);
    let mut recorder = Recorder::start(&app, &app.cluster, second(5, 1)).await;
    recorder.record(&app, second(600, 1)).await;
    let ended = recorder.timeline();
    app.snapshot_as_of(&app.cluster, second(10, 2)).await;
    recorder.end(&app, TimelineEnd::RolledOver, "the oplog was too small").await;
    app.pass_seconds(10);
    recorder.begin_anew(&app, second(605, 1)).await;
    let status = json!({
        "position": {"seconds": 5, "increment": 6}, "behindSeconds": 2, "oplogWindowSeconds": 86_400, "waitingSlices": 1,
        "warning": null,
    });
    recorder.say(&app, &status).await;
    let shown = app.get(&path).await.expect(200);
    let time = |seconds: u32, increment: u32, date: &str| json!({"date": date, "increment": increment, "seconds": second(seconds, 0).seconds});
    assert_eq!(
        shown["restorable"],
        json!([{
            "from": time(10, 2, "2025-11-22T00:00:10Z"), "timelineId": ended.to_string(),
            "to": time(600, 1, "2025-11-22T00:10:00Z"),
        }])
    );
    assert_eq!(
        shown["timelines"][1],
        json!({
            "durableEnd": time(600, 1, "2025-11-22T00:10:00Z"), "end": time(600, 1, "2025-11-22T00:10:00Z"),
            "endDetail": "the oplog was too small", "endReason": "rolledOver", "endedAt": "2025-11-22T00:10:00Z",
            "id": ended.to_string(), "replicaSetName": "rs0", "start": time(5, 1, "2025-11-22T00:00:05Z"),
            "startedAt": "2025-11-22T00:10:00Z", "state": "ended",
        })
    );
    let open = &shown["timelines"][0];
    assert_eq!((&open["state"], &open["id"]), (&json!("open"), &json!(recorder.timeline().to_string())));
    assert!(open.get("endReason").is_none() && open.get("endedAt").is_none());
    assert_eq!(
        shown["capture"],
        json!({
            "active": true, "behindSeconds": 2, "oplogWindowSeconds": 86_400,
            "position": {"increment": 6, "seconds": 5}, "updatedAt": "2025-11-22T00:10:10Z", "waitingSlices": 1,
        })
    );
    // Whoever recorded is silent, and half of what was recorded is older than the window.
    let day = ContinuousBackup { pit_enabled: true, restore_window_days: RestoreWindowDays::MIN };
    app.catalog.timelines().set_continuous_backup(app.cluster.id, day).await.unwrap();
    app.pass_seconds(86_400 - 310);
    let shown = app.get(&path).await.expect(200);
    assert_eq!(shown["capture"]["active"], false);
    assert_eq!(shown["restorable"][0]["from"], time(300, 0, "2025-11-22T00:05:00Z"));
    app.pass_seconds(301);
    assert_eq!(app.get(&path).await.expect(200)["restorable"], json!([]));
    let reader = app.key(&[Role::GroupReadOnly]).await;
    app.send(&reader, Request::new("GET", &path)).await.expect(200);
    app.get(&app.own("/clusters/zz/timeline")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}
