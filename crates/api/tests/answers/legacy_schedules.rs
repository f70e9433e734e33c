//! The schedule in its legacy form: the one of Cloud Backup in other words, or a refusal.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::ScheduleChange;
use common::App;
use model::{ContinuousBackup, RestoreWindowDays, role::Role};
use serde_json::{Value, json};

fn whole() -> Value {
    json!({
        "dailySnapshotRetentionDays": 7,
        "monthlySnapshotRetentionMonths": 13,
        "snapshotIntervalHours": 6,
        "snapshotRetentionDays": 2,
        "weeklySnapshotRetentionWeeks": 4,
    })
}

fn path(app: &App) -> String {
    app.group("/clusters/c1/snapshotSchedule")
}

fn items(app_schedule: &Value) -> Vec<String> {
    let items = app_schedule["policies"][0]["policyItems"].as_array().unwrap();
    let told = |item: &Value| {
        format!(
            "{} {} {} {}",
            item["frequencyType"].as_str().unwrap(),
            item["frequencyInterval"],
            item["retentionValue"],
            item["retentionUnit"].as_str().unwrap()
        )
    };
    items.iter().map(told).collect()
}

#[tokio::test]
async fn it_is_the_schedule_of_cloud_backup_in_other_words() {
    let app = App::start().await;
    let path = path(&app);
    app.get(&path).await.refused(404, "BACKUP_CONFIG_NOT_FOUND");
    app.patch(&path, json!({"snapshotIntervalHours": 6})).await.refused(400, "MISSING_ATTRIBUTE");
    let mut shown = whole();
    shown["clusterCheckpointIntervalMin"] = 15.into();
    shown["clusterId"] = app.cluster.id.to_string().into();
    shown["groupId"] = app.project.id.to_string().into();
    shown["links"] = json!([{"href": format!("http://api.test:8080{path}"), "rel": "self"}]);
    shown["pointInTimeWindowHours"] = 0.into();
    assert_eq!(app.patch(&path, whole()).await.expect(200), shown);
    assert_eq!(app.get(&path).await.expect(200), shown);
    let newer = app.get(&app.backup("/schedule")).await.expect(200);
    assert_eq!(
        items(&newer),
        ["hourly 6 2 days", "daily 1 7 days", "weekly 6 4 weeks", "monthly 40 13 months"]
    );
    assert!(newer["nextSnapshot"].is_string());

    // What a client was shown comes back; in part; and items keep their ids and their days.
    assert_eq!(app.patch(&path, shown.clone()).await.expect(200), shown);
    let mut policies = newer["policies"].clone();
    policies[0]["policyItems"][2]["frequencyInterval"] = 1.into();
    let moved =
        app.patch(&app.backup("/schedule"), json!({"policies": policies, "referenceHourOfDay": 3})).await;
    let moved = moved.expect(200);
    let part = app.patch(&path, json!({"weeklySnapshotRetentionWeeks": 8})).await.expect(200);
    assert_eq!(
        (&part["weeklySnapshotRetentionWeeks"], &part["snapshotIntervalHours"]),
        (&json!(8), &json!(6))
    );
    let after = app.get(&app.backup("/schedule")).await.expect(200);
    assert_eq!(items(&after)[2], "weekly 1 8 weeks");
    assert_eq!(after["referenceHourOfDay"], 3);
    for item in 0..4 {
        let id = |schedule: &Value| schedule["policies"][0]["policyItems"][item]["id"].clone();
        assert_eq!(id(&after), id(&moved));
    }
    let daily = json!({"snapshotIntervalHours": 24, "snapshotRetentionDays": 5, "dailySnapshotRetentionDays": 15,
        "weeklySnapshotRetentionWeeks": 0, "monthlySnapshotRetentionMonths": 0});
    let once = app.patch(&path, daily).await.expect(200);
    assert_eq!(
        (&once["snapshotIntervalHours"], &once["dailySnapshotRetentionDays"]),
        (&json!(24), &json!(15))
    );
    assert_eq!(items(&app.get(&app.backup("/schedule")).await.expect(200)), ["daily 1 15 days"]);
    app.delete(&app.backup("/schedule")).await.expect(200);
    app.get(&path).await.refused(404, "BACKUP_CONFIG_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn what_it_cannot_say_is_refused_and_changes_nothing() {
    let app = App::start().await;
    let path = path(&app);
    let before = app.patch(&path, whole()).await.expect(200);
    for (body, code) in [
        (json!({"snapshotIntervalHours": 7}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"snapshotRetentionDays": 6}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"dailySnapshotRetentionDays": -1}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"snapshotIntervalHours": 24}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"dailySnapshotRetentionDays": 360}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"snapshotIntervalHours": "6"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"snapshotIntervalHours": 6.0}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"clusterCheckpointIntervalMin": 30}), "INVALID_CLUSTER_CHECKPOINT_INTERVAL"),
        (json!({"clusterId": "32b6e34b3d91647abb20e7b8"}), "INVALID_ATTRIBUTE"),
        (json!({"pointInTimeWindowHours": 24}), "CANNOT_SET_POINT_IN_TIME_WINDOW"),
        (json!({"referenceHourOfDay": 1}), "INVALID_ATTRIBUTE"),
    ] {
        let refused = app.patch(&path, body.clone()).await.refused(400, code);
        assert!(!refused["detail"].as_str().unwrap().contains("%s"), "{refused}");
    }
    assert_eq!(app.get(&path).await.expect(200), before);

    // A schedule that the legacy words do not reach is shown elsewhere, and not flattened.
    let newer = app.get(&app.backup("/schedule")).await.expect(200);
    let mut policies = newer["policies"].clone();
    let yearly = json!({"frequencyType": "yearly", "frequencyInterval": 12, "retentionUnit": "years", "retentionValue": 2});
    policies[0]["policyItems"].as_array_mut().unwrap().push(yearly);
    app.patch(&app.backup("/schedule"), json!({"policies": policies})).await.expect(200);
    let kept = app.catalog.schedules().get(app.cluster.id).await.unwrap();
    app.get(&path).await.refused(400, "INCORRECT_BACKUP_API_ENDPOINT");
    app.patch(&path, whole()).await.refused(400, "INCORRECT_BACKUP_API_ENDPOINT");
    assert_eq!(app.catalog.schedules().get(app.cluster.id).await.unwrap(), kept);
    app.stop().await;
}

#[tokio::test]
async fn the_window_is_that_of_continuous_backup() {
    let app = App::start().await;
    let path = path(&app);
    app.patch(&path, whole()).await.expect(200);
    let window = RestoreWindowDays::new(2).unwrap();
    let settings = ContinuousBackup { pit_enabled: true, restore_window_days: window };
    app.catalog.timelines().set_continuous_backup(app.cluster.id, settings).await.unwrap();
    // What is remembered of deployments is forgotten by a change.
    app.pass_seconds(60);
    assert_eq!(app.get(&path).await.expect(200)["pointInTimeWindowHours"], 48);
    for hours in [0, 1, 25, -24, 24 * 366, i32::MAX] {
        let body = json!({"pointInTimeWindowHours": hours});
        app.patch(&path, body).await.refused(400, "CANNOT_SET_POINT_IN_TIME_WINDOW");
    }
    let longer = app.patch(&path, json!({"pointInTimeWindowHours": 72})).await.expect(200);
    assert_eq!(longer["pointInTimeWindowHours"], 72);
    assert_eq!(app.get(&path).await.expect(200), longer);
    assert_eq!(app.get(&app.backup("/schedule")).await.expect(200)["restoreWindowDays"], 3);
    app.stop().await;
}

#[tokio::test]
async fn exports_of_a_schedule_stay_as_they_are() {
    let app = App::start().await;
    app.patch(&path(&app), whole()).await.expect(200);
    let new = catalog::NewExportBucket {
        project_id: app.project.id,
        place: "archive".parse().unwrap(),
        iam_role_id: "32b6e34b3d91647abb20e7b8".to_owned(),
    };
    let bucket = app.catalog.export_buckets().add(new, app.now()).await.unwrap();
    let seen = app.catalog.schedules().get(app.cluster.id).await.unwrap().unwrap();
    let export = model::schedule::ExportPolicy {
        bucket_id: bucket.id,
        frequency: model::schedule::FrequencyType::Monthly,
    };
    let change = ScheduleChange {
        of_revision: Some(seen.revision),
        auto_export: model::schedule::AutoExport::On(export),
        names_in_exports: false,
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
        copies: Default::default(),
        delete_copies: vec![],
        schedule: seen.schedule,
    };
    app.catalog.schedules().change(app.cluster.id, &change, app.now()).await.unwrap();
    app.patch(&path(&app), json!({"snapshotRetentionDays": 3})).await.expect(200);
    let kept = app.catalog.schedules().get(app.cluster.id).await.unwrap().unwrap();
    assert_eq!(kept.auto_export, change.auto_export);
    app.stop().await;
}

#[tokio::test]
async fn readers_see_it_and_owners_change_it() {
    let app = App::start().await;
    app.patch(&path(&app), whole()).await.expect(200);
    let manager = app.key(&[Role::GroupBackupManager]).await;
    app.send(&manager, common::Request::new("GET", &path(&app))).await.expect(200);
    let change = common::Request::new("PATCH", &path(&app)).json(&whole());
    app.send(&manager, change).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}
