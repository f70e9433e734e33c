//! The backup compliance policy: what it asks for, what it forbids from then on, and who lifts it.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{App, Request, Response};
use model::role::Role;
use serde_json::{Value, json};

fn item(kind: &str, interval: i32, unit: &str, value: i32) -> Value {
    json!({"frequencyType": kind, "frequencyInterval": interval, "retentionUnit": unit, "retentionValue": value})
}

fn policy(changes: &Value) -> Value {
    let mut body = json!({
        "authorizedEmail": "it@example.com", "authorizedUserFirstName": "Ada", "authorizedUserLastName": "Byron",
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn put(app: &App, changes: Value) -> Response {
    put_with(app, "", changes).await
}

async fn put_with(app: &App, query: &str, changes: Value) -> Response {
    let path = app.group(&format!("/backupCompliancePolicy{query}"));
    app.send(&app.owner, Request::new("PUT", &path).json(&policy(&changes))).await
}

async fn get(app: &App) -> Value {
    app.get(&app.group("/backupCompliancePolicy")).await.expect(200)
}

async fn release(app: &App) {
    app.catalog.compliance().release(app.project.id).await.unwrap();
}

#[tokio::test]
async fn a_policy_is_shown_as_it_was_set() {
    let app = App::start().await;
    assert_eq!(get(&app).await, json!({}), "a project has none by itself");
    let wanted = json!({
        "encryptionAtRestEnabled": true, "onDemandPolicyItem": item("ondemand", 0, "days", 3),
        "projectId": app.project.id.to_string(), "scheduledPolicyItems": [item("daily", 1, "days", 7)],
    });
    let set = put(&app, wanted).await.expect(200);
    let (daily, on_demand) = (&set["scheduledPolicyItems"][0]["id"], &set["onDemandPolicyItem"]["id"]);
    assert!(daily.is_string() && on_demand.is_string(), "{set}");
    assert_eq!(
        set,
        json!({
            "authorizedEmail": "it@example.com", "authorizedUserFirstName": "Ada", "authorizedUserLastName": "Byron",
            "copyProtectionEnabled": false, "deletable": false, "encryptionAtRestEnabled": true, "pitEnabled": false,
            "onDemandPolicyItem": {
                "frequencyInterval": 0, "frequencyType": "ondemand", "id": on_demand, "retentionUnit": "days",
                "retentionValue": 3,
            },
            "projectId": app.project.id.to_string(), "restoreWindowDays": 0,
            "scheduledPolicyItems": [{
                "frequencyInterval": 1, "frequencyType": "daily", "id": daily, "retentionUnit": "days", "retentionValue": 7,
            }],
            "state": "ACTIVE", "updatedDate": "2025-11-22T00:00:00Z",
        })
    );
    assert_eq!(get(&app).await, set);
    // What is shown can be sent back, and what is added keeps the ids of what was there.
    let mut more = set.clone();
    more["scheduledPolicyItems"].as_array_mut().unwrap().push(item("weekly", 1, "weeks", 4));
    let again = put(&app, more).await.expect(200);
    assert_eq!(again["scheduledPolicyItems"][0], set["scheduledPolicyItems"][0]);
    assert_eq!(again["scheduledPolicyItems"][1]["frequencyType"], "weekly");
    assert_eq!(again["onDemandPolicyItem"], set["onDemandPolicyItem"]);
}

#[tokio::test]
async fn what_cannot_be_a_policy_is_refused() {
    let app = App::start().await;
    for (changes, status, code) in [
        (json!({"authorizedEmail": null}), 400, "MISSING_ATTRIBUTE"),
        (json!({"authorizedEmail": "nobody"}), 400, "INVALID_ATTRIBUTE"),
        (json!({"authorizedUserLastName": null}), 400, "MISSING_ATTRIBUTE"),
        (json!({"authorizedUserFirstName": " "}), 400, "INVALID_ATTRIBUTE"),
        (json!({"projectId": "0123456789abcdef01234567"}), 400, "INVALID_ATTRIBUTE"),
        (json!({"copyProtectionEnabled": 1}), 400, "INVALID_JSON_ATTRIBUTE"),
        (json!({"restoreWindowDays": -2}), 400, "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID"),
        (json!({"pitEnabled": true}), 400, "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID"),
        (
            json!({"pitEnabled": true, "restoreWindowDays": -1}),
            400,
            "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID",
        ),
        (json!({"scheduledPolicyItems": [item("daily", 29, "days", 7)]}), 400, "INVALID_BACKUP_POLICY"),
        (json!({"scheduledPolicyItems": [item("daily", -1, "days", 7)]}), 400, "INVALID_BACKUP_POLICY"),
        (json!({"scheduledPolicyItems": [item("hourly", 0, "days", 7)]}), 400, "INVALID_BACKUP_POLICY"),
        (
            json!({"scheduledPolicyItems": [{"frequencyType": "daily"}]}),
            400,
            "MISSING_POLICY_ITEM_PARAMETERS",
        ),
        (json!({"scheduledPolicyItems": [item("daily", 1, "days", 0)]}), 400, "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (
            json!({"scheduledPolicyItems": [item("daily", 1, "days", 9), item("weekly", 1, "weeks", 1)]}),
            400,
            "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID",
        ),
        (json!({"onDemandPolicyItem": item("daily", 1, "days", 7)}), 400, "INVALID_ENUM_VALUE"),
        (json!({"onDemandPolicyItem": item("ondemand", 41, "days", 7)}), 400, "INVALID_ATTRIBUTE"),
        (json!({"somethingElse": 1}), 400, "INVALID_ATTRIBUTE"),
    ] {
        put(&app, changes).await.refused(status, code);
    }
    put_with(&app, "?overwriteBackupPolicies=perhaps", json!({}))
        .await
        .refused(400, "INVALID_QUERY_PARAMETER");
    assert_eq!(get(&app).await, json!({}), "nothing was set");
    // The oldest version knows no names.
    let path = app.group("/backupCompliancePolicy");
    let old = Request::new("PUT", &path).header("Accept", "application/vnd.atlas.2023-01-01+json");
    let set = app.send(&app.owner, old.json(&json!({"authorizedEmail": "it@example.com"}))).await.expect(200);
    assert!(set.get("authorizedUserFirstName").is_none(), "{set}");
    let manager = app.key(&[Role::GroupBackupManager]).await;
    for method in ["GET", "PUT", "DELETE"] {
        app.send(&manager, Request::new(method, &path)).await.refused(403, "ACCESS_FORBIDDEN");
    }
}

/// As the Terraform provider sends it, which compares what it reads with what it wrote: intervals of all kinds, and a restore window
/// where operations are not recorded. Neither asks for anything.
#[tokio::test]
async fn what_is_not_heeded_is_shown_as_it_was_said() {
    let app = App::start().await;
    let items = json!([
        item("hourly", 6, "days", 7),
        item("daily", 0, "days", 7),
        item("weekly", 0, "weeks", 4),
        item("monthly", 0, "months", 12),
        item("yearly", 1, "years", 1),
    ]);
    let wanted = json!({
        "onDemandPolicyItem": item("ondemand", 1, "days", 3), "pitEnabled": false, "restoreWindowDays": 30,
        "scheduledPolicyItems": items,
    });
    let set = put(&app, wanted.clone()).await.expect(200);
    let intervals = |shown: &Value| -> Vec<Value> {
        let items = shown["scheduledPolicyItems"].as_array().unwrap();
        items.iter().map(|item| item["frequencyInterval"].clone()).collect()
    };
    assert_eq!(intervals(&set), [6, 0, 0, 0, 1]);
    assert_eq!(
        (&set["onDemandPolicyItem"]["frequencyInterval"], &set["pitEnabled"], &set["restoreWindowDays"]),
        (&1.into(), &false.into(), &30.into())
    );
    assert_eq!(get(&app).await, set);
    // Items keep their ids though they are sent without, and the intervals of others than hourly ones may change at will.
    let mut again = wanted.clone();
    again["scheduledPolicyItems"][2]["frequencyInterval"] = 3.into();
    again["restoreWindowDays"] = 1.into();
    let again = put(&app, again).await.expect(200);
    assert_eq!(intervals(&again), [6, 0, 3, 0, 1]);
    assert_eq!(again["scheduledPolicyItems"][3]["id"], set["scheduledPolicyItems"][3]["id"]);
    assert_eq!(again["restoreWindowDays"], 1, "so it may be less");
    let rarer = json!({"scheduledPolicyItems": [item("hourly", 8, "days", 7)]});
    put(&app, rarer).await.refused(400, "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID");

    let schedule = app.get(&app.backup("/schedule")).await.expect(200);
    let taken = schedule["policies"][0]["policyItems"].as_array().unwrap();
    let times: Vec<_> = taken.iter().map(|item| item["frequencyInterval"].as_i64().unwrap()).collect();
    assert_eq!(times, [6, 1, 6, 40, 1], "as Atlas begins, where no time was said");
    assert_eq!(schedule["restoreWindowDays"], 7, "as it was");
}

#[tokio::test]
async fn nobody_deletes_a_snapshot_early_or_keeps_it_shorter() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let one = app.backup(&format!("/snapshots/{}", snapshot.id));
    put(&app, json!({"onDemandPolicyItem": item("ondemand", 0, "days", 3)})).await.expect(200);
    let code = "CANNOT_DELETE_SNAPSHOT_WITH_BACKUP_COMPLIANCE_POLICY";
    app.delete(&one).await.refused(400, code);
    let keep = |days: i32| json!({"retentionUnit": "DAYS", "retentionValue": days});
    let code = "CANNOT_DECREASE_SNAPSHOT_RETENTION_WITH_BACKUP_COMPLIANCE_POLICY";
    app.patch(&one, keep(6)).await.refused(400, code);
    app.patch(&one, keep(8)).await.expect(200);
    app.patch(&one, keep(7)).await.refused(400, code);
    let snapshots = app.backup("/snapshots");
    let ask = |days: i32| json!({"description": "x", "retentionInDays": days});
    let code = "SNAPSHOT_RETENTION_LESS_THAN_BACKUP_COMPLIANCE_POLICY";
    let refused = app.post(&snapshots, ask(2)).await.refused(400, code);
    assert!(refused["detail"].as_str().unwrap().contains("3 days"), "{refused}");
    app.post(&snapshots, ask(3)).await.expect(200);
    app.complete_snapshot().await;
    // It goes by itself when its time is over, and may then be deleted by hand as well.
    app.pass_seconds(8 * 24 * 3600);
    assert!(app.catalog.snapshots().expired(app.now()).await.unwrap().iter().any(|s| s.id == snapshot.id));
    app.delete(&one).await.expect(204);
}

#[tokio::test]
async fn schedules_meet_the_policy_from_then_on() {
    let app = App::start().await;
    let path = app.backup("/schedule");
    let shown = app.get(&path).await.expect(200);
    let id = shown["policies"][0]["id"].clone();
    let of = |items: Value| json!({"policies": [{"id": id, "policyItems": items}]});
    app.patch(&path, of(json!([item("hourly", 6, "days", 2)]))).await.expect(200);
    let wanted =
        json!({"scheduledPolicyItems": [item("hourly", 6, "days", 3), item("weekly", 1, "weeks", 2)]});
    let code = "BACKUP_POLICIES_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    let refused = put_with(&app, "?overwriteBackupPolicies=false", wanted.clone()).await.refused(400, code);
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("weekly snapshots, kept for 2 weeks") && detail.contains(app.cluster.name.as_str())
    );
    assert_eq!(get(&app).await, json!({}), "refused as a whole");
    put(&app, wanted.clone()).await.expect(200);
    let items = app.get(&path).await.expect(200)["policies"][0]["policyItems"].clone();
    let told: Vec<_> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["frequencyType"].as_str().unwrap(), item["retentionValue"].as_i64().unwrap()))
        .collect();
    assert_eq!(told, [("hourly", 3), ("weekly", 2)]);
    put_with(&app, "?overwriteBackupPolicies=false", wanted).await.expect(200);

    let code = "BACKUP_POLICY_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    for items in [
        json!([item("hourly", 6, "days", 3)]),
        json!([item("hourly", 6, "days", 2), item("weekly", 1, "weeks", 2)]),
        json!([item("hourly", 8, "days", 3), item("weekly", 1, "weeks", 2)]),
        json!([item("hourly", 6, "days", 3), item("weekly", 1, "weeks", 1)]),
    ] {
        app.patch(&path, of(items)).await.refused(400, code);
    }
    app.delete(&path).await.refused(400, code);
    let more =
        json!([item("hourly", 4, "days", 3), item("daily", 1, "days", 9), item("weekly", 5, "weeks", 3)]);
    app.patch(&path, of(more)).await.expect(200);
    let mut fewer = of(json!([item("hourly", 4, "days", 3), item("weekly", 5, "weeks", 3)]));
    fewer["deleteSnapshots"] = true.into();
    let code = "CANNOT_DELETE_SNAPSHOT_WITH_BACKUP_COMPLIANCE_POLICY";
    app.patch(&path, fewer.clone()).await.refused(400, code);
    fewer["deleteSnapshots"] = false.into();
    app.patch(&path, fewer).await.expect(200);

    // A deployment that comes later begins with it.
    let body = json!({"name": "later", "uri": "mongodb://other:27017/?replicaSet=later"});
    app.post(&app.own("/clusters"), body).await.expect(201);
    let named = |name: &str| format!("/clusters/{name}/");
    let later = app.get(&path.replace(&named(app.cluster.name.as_str()), &named("later"))).await.expect(200);
    assert_eq!(later["policies"][0]["policyItems"].as_array().unwrap().len(), 2, "{later}");
}

#[tokio::test]
async fn operations_are_recorded_as_long_as_the_policy_says() {
    let app = App::start().await;
    let wanted = json!({"pitEnabled": true, "restoreWindowDays": 5});
    let code = "BACKUP_POLICIES_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    let refused = put(&app, wanted.clone()).await.refused(400, code);
    assert!(refused["detail"].as_str().unwrap().contains("--pit on"), "{refused}");
    let own = app.own(&format!("/clusters/{}", app.cluster.name));
    let record = |enabled: bool, days: i32| json!({"continuousBackup": {"pitEnabled": enabled, "restoreWindowDays": days}});
    app.patch(&own, record(true, 2)).await.expect(200);
    let set = put(&app, wanted).await.expect(200);
    assert_eq!((&set["pitEnabled"], &set["restoreWindowDays"]), (&true.into(), &5.into()));
    let path = app.backup("/schedule");
    assert_eq!(app.get(&path).await.expect(200)["restoreWindowDays"], 5, "it was made longer");
    app.patch(&own, record(false, 5)).await.refused(400, "CANNOT_DISABLE_PIT_WITH_BACKUUP_COMPLIANCE_POLICY");
    app.patch(&own, record(true, 4)).await.refused(400, "CANNOT_DECREASE_PIT_WINDOW_WITH_BCP");
    app.patch(&own, record(true, 6)).await.expect(200);
    let days = |days: i32| json!({"restoreWindowDays": days});
    app.patch(&path, days(4)).await.refused(400, "CANNOT_DECREASE_PIT_WINDOW_WITH_BCP");
    app.patch(&path, days(5)).await.expect(200);
    let mut later = json!({"name": "later", "uri": "mongodb://other:27017/?replicaSet=later"});
    let code = "BACKUP_POLICIES_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    let unmet = app.post(&app.own("/clusters"), later.clone()).await.refused(400, code);
    assert!(unmet["detail"].as_str().unwrap().contains("--pit"), "{unmet}");
    later["continuousBackup"] = json!({"pitEnabled": true});
    let added = app.post(&app.own("/clusters"), later).await.expect(201);
    assert!(added["continuousBackup"]["restoreWindowDays"].as_u64().unwrap() >= 5, "{added}");
}

#[tokio::test]
async fn a_change_that_is_refused_in_one_thing_changes_no_other() {
    let app = App::start().await;
    let own = app.own(&format!("/clusters/{}", app.cluster.name));
    let recorded = json!({"pitEnabled": true, "restoreWindowDays": 5});
    app.patch(&own, json!({"continuousBackup": recorded})).await.expect(200);
    put(&app, recorded).await.expect(200);
    let row = async || app.catalog.deployments().get(app.cluster.id).await.unwrap().unwrap();
    let (before, told) = (row().await, app.changes().await);
    let uri = "mongodb://other:27017/?replicaSet=rs1";
    let mut both = json!({"uri": uri, "continuousBackup": {"pitEnabled": false}});
    let code = "CANNOT_DISABLE_PIT_WITH_BACKUUP_COMPLIANCE_POLICY";
    app.patch(&own, both.clone()).await.refused(400, code);
    assert_eq!(row().await, before, "the connection string is the old one");
    assert_eq!(app.changes().await, told);
    both["continuousBackup"] = json!({"restoreWindowDays": 6});
    app.patch(&own, both).await.expect(200);
    let after = row().await;
    let kept = app.sealer.0.open(ebbtide_api::PURPOSE_URI, &after.uri_sealed.0).unwrap();
    assert_eq!(
        (kept.as_slice(), after.continuous.restore_window_days.days()),
        (uri.as_bytes(), 6),
        "what may be is made together"
    );
}

#[tokio::test]
async fn a_policy_asks_for_less_only_after_it_was_released() {
    let app = App::start().await;
    let path = app.group("/backupCompliancePolicy");
    app.delete(&path).await.expect(204);
    let weekly = |weeks: i32| json!({"scheduledPolicyItems": [item("weekly", 1, "weeks", weeks)]});
    put(&app, weekly(3)).await.expect(200);
    let code = "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID";
    let refused = put(&app, weekly(2)).await.refused(400, code);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("kept for 3 weeks") && detail.contains("release-compliance-policy"), "{detail}");
    put(&app, json!({})).await.refused(400, code);
    app.delete(&path).await.refused(400, code);
    put(&app, weekly(4)).await.expect(200);
    release(&app).await;
    assert_eq!(get(&app).await["deletable"], true);
    let set = put(&app, weekly(2)).await.expect(200);
    assert_eq!(set["deletable"], false, "that was for once");
    app.delete(&path).await.refused(400, code);
    release(&app).await;
    app.delete(&path).await.expect(204);
    assert_eq!(get(&app).await, json!({}));
    app.delete(&app.backup("/schedule")).await.expect(200);
}
