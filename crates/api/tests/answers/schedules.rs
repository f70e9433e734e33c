//! Backup schedules: shown, changed in part, refused, deleted; and what becomes of the snapshots that they took.
#![allow(clippy::unwrap_used)]

use crate::common;

use catalog::{Snapshot, Taken};
use common::{ACCEPT, App, Request, Response};
use model::{DeploymentKind, WallTime, role::Role, schedule::Step};
use serde_json::{Value, json};

const ZONE: &str = "0123456789abcdef01234567";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

struct Schedules {
    app: App,
    path: String,
    /// The id of the policy.
    policy: String,
}

impl Schedules {
    async fn start() -> Self {
        Self::over(App::start().await).await
    }

    async fn over(app: App) -> Self {
        let path = app.backup("/schedule");
        let shown = app.get(&path).await.expect(200);
        let policy = shown["policies"][0]["id"].as_str().unwrap().to_owned();
        Self { app, path, policy }
    }

    async fn get(&self) -> Value {
        self.app.get(&self.path).await.expect(200)
    }

    async fn patch(&self, body: Value) -> Response {
        self.app.patch(&self.path, body).await
    }

    /// Replaces the items.
    async fn set(&self, items: Value) -> Response {
        self.patch(json!({"policies": [{"id": self.policy, "policyItems": items}]})).await
    }

    async fn refused(&self, body: Value, status: u16, code: &str) -> Value {
        self.patch(body).await.refused(status, code)
    }

    /// What the engine does now: takes what is due and completes it.
    async fn take(&self) -> Option<Snapshot> {
        let (schedules, now) = (self.app.catalog.schedules(), self.app.now());
        let seen = schedules.get(self.app.cluster.id).await.unwrap()?;
        let Step::Take(due) = seen.schedule.step(seen.handled_until, now) else { return None };
        let Taken::Queued(snapshot) = schedules.take(&seen, &due, now).await.unwrap() else { return None };
        self.app.complete_snapshot().await;
        self.app.catalog.snapshots().get(snapshot.id).await.unwrap()
    }
}

fn item(kind: &str, interval: i32, unit: &str, value: i32) -> Value {
    json!({"frequencyType": kind, "frequencyInterval": interval, "retentionUnit": unit, "retentionValue": value})
}

fn with_id(mut item: Value, id: &Value) -> Value {
    item["id"] = id.clone();
    item
}

fn extra(kind: &str, days: i32) -> Value {
    json!({"extraRetentionSettings": [{"frequencyType": kind, "retentionDays": days}]})
}

/// As Atlas begins.
fn default_items() -> Value {
    json!([
        item("hourly", 6, "days", 7),
        item("daily", 1, "days", 7),
        item("weekly", 6, "weeks", 4),
        item("monthly", 40, "months", 12),
        item("yearly", 12, "years", 1),
    ])
}

#[tokio::test]
async fn a_deployment_begins_without_and_shows_it() {
    let s = Schedules::start().await;
    let path = format!("http://api.test:8080{}", s.path);
    let expected = json!({
        "autoExportEnabled": false, "clusterId": s.app.cluster.id.to_string(), "clusterName": "c1",
        "copyPolicyItemsEnabled": false, "copySettings": [], "extraRetentionSettings": [],
        "links": [
            {"href": path, "rel": "self"},
            {"href": path.trim_end_matches("/clusters/c1/backup/schedule"), "rel": "https://cloud.mongodb.com/group"},
        ],
        "policies": [{"id": s.policy, "policyItems": []}],
        "referenceHourOfDay": 18, "referenceMinuteOfHour": 0, "restoreWindowDays": 7,
        "useOrgAndGroupNamesInExportPrefix": false,
    });
    assert_eq!(s.get().await, expected);
    // Deleting what is not there changes nothing and says so in the same words.
    assert_eq!(s.app.delete(&s.path).await.expect(200), expected);
    s.app.pass_seconds(400 * DAY);
    assert_eq!(s.take().await, None, "nothing is taken by itself");
    s.app.stop().await;
}

#[tokio::test]
async fn the_versions_are_told_apart() {
    let s = Schedules::start().await;
    for (date, resource, deprecated) in [
        ("2023-01-01", "2023-01-01", true),
        ("2024-05-30", "2023-01-01", true),
        ("2024-08-05", "2024-08-05", false),
        ("2025-03-12", "2024-08-05", false),
    ] {
        let accept = format!("application/vnd.atlas.{date}+json");
        for method in ["GET", "PATCH", "DELETE"] {
            let request = Request::new(method, &s.path).header("Accept", &accept);
            let request = if method == "PATCH" { request.json(&json!({})) } else { request };
            let answer = s.app.send(&s.app.owner, request).await;
            answer.expect(200);
            let told = format!("application/vnd.atlas.{resource}+json;charset=utf-8");
            assert_eq!(answer.header("content-type"), Some(told.as_str()));
            let (since, until) = (answer.header("deprecation"), answer.header("sunset"));
            let expected = ("Mon, 5 Aug 2024 00:00:00 GMT", "Thu, 1 Jul 2027 00:00:00 GMT");
            assert_eq!((since, until), (deprecated.then_some(expected.0), deprecated.then_some(expected.1)));
        }
        let body = json!({"autoCopySettingsEnabled": false});
        let request = Request::new("PATCH", &s.path).header("Accept", &accept).json(&body);
        let answer = s.app.send(&s.app.owner, request).await;
        if deprecated {
            answer.refused(400, "INVALID_ATTRIBUTE");
        } else {
            answer.expect(200);
        }
    }
    s.app.stop().await;
}

#[tokio::test]
async fn a_change_says_only_what_changes() {
    let s = Schedules::start().await;
    let made = s.set(default_items()).await.expect(200);
    assert_eq!(made["nextSnapshot"], "2025-11-22T06:00:00Z");
    let items = made["policies"][0]["policyItems"].as_array().unwrap().clone();
    for (made, asked) in items.iter().zip(default_items().as_array().unwrap()) {
        assert_eq!(made["id"].as_str().unwrap().len(), 24);
        assert_eq!(made, &with_id(asked.clone(), &made["id"]));
    }
    assert_eq!(s.get().await, made);

    let hour = s.patch(json!({"referenceHourOfDay": 3, "referenceMinuteOfHour": 59})).await.expect(200);
    assert_eq!((&hour["referenceHourOfDay"], &hour["referenceMinuteOfHour"]), (&json!(3), &json!(59)));
    assert_eq!(
        (&hour["policies"], &hour["nextSnapshot"]),
        (&made["policies"], &json!("2025-11-22T03:59:00Z"))
    );
    let minute = s.patch(json!({"referenceMinuteOfHour": 0})).await.expect(200);
    assert_eq!((&minute["referenceHourOfDay"], &minute["referenceMinuteOfHour"]), (&json!(3), &json!(0)));
    let window = s.patch(json!({"restoreWindowDays": 3})).await.expect(200);
    assert_eq!((&window["restoreWindowDays"], &window["policies"]), (&json!(3), &made["policies"]));
    let own = s.app.get(&s.app.own("/clusters/c1")).await.expect(200);
    assert_eq!(own["continuousBackup"]["restoreWindowDays"], 3, "it is the window of the deployment");
    // What was shown can be sent back.
    assert_eq!(s.patch(s.get().await).await.expect(200), s.get().await);

    // An item with its id is the same one; one without is new; one that is not named is gone.
    let kept = with_id(item("hourly", 12, "days", 8), &items[0]["id"]);
    let fewer = s.set(json!([kept, item("weekly", 6, "weeks", 5)])).await.expect(200);
    let now = fewer["policies"][0]["policyItems"].as_array().unwrap();
    assert_eq!((now.len(), &now[0]), (2, &kept));
    assert!(items.iter().all(|item| item["id"] != now[1]["id"]), "it has an id of its own");

    let deleted = s.app.delete(&s.path).await.expect(200);
    assert_eq!(deleted["policies"], json!([{"id": s.policy, "policyItems": []}]));
    assert!(deleted.get("nextSnapshot").is_none() && deleted["restoreWindowDays"] == 3);
    assert_eq!(s.get().await, deleted);
    s.refused(json!({"policies": [{"id": s.policy, "policyItems": [kept]}]}), 400, "INVALID_POLICY_ITEM_ID")
        .await;
    // As Terraform makes one: DELETE, GET, PATCH under the policy's id.
    s.set(default_items()).await.expect(200);
    s.app.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_told() {
    let s = Schedules::start().await;
    let made = s.set(default_items()).await.expect(200);
    let hourly_id = made["policies"][0]["policyItems"][0]["id"].clone();
    let of = |items: Value| json!({"policies": [{"id": s.policy, "policyItems": items}]});
    let without = |name: &str| {
        let mut item = item("daily", 1, "days", 7);
        item.as_object_mut().unwrap().remove(name);
        of(json!([item]))
    };
    let good = json!([item("daily", 1, "days", 7)]);
    let unknown = "0123456789abcdef01234567";
    for (body, code) in [
        (json!({"policies": []}), "INVALID_NUM_OF_POLICIES"),
        (
            json!({"policies": [{"id": s.policy, "policyItems": good}, {"id": s.policy, "policyItems": good}]}),
            "INVALID_NUM_OF_POLICIES",
        ),
        (json!({"policies": [{"id": unknown, "policyItems": good}]}), "INVALID_POLICY_ID"),
        (json!({"policies": [{"id": "xyz", "policyItems": good}]}), "INVALID_POLICY_ID"),
        (json!({"policies": [{"policyItems": good}]}), "MISSING_ATTRIBUTE"),
        (json!({"policies": [{"id": s.policy}]}), "MISSING_ATTRIBUTE"),
        (of(json!([])), "INVALID_NUM_OF_POLICY_ITEMS"),
        (of(json!([with_id(item("daily", 1, "days", 7), &json!(unknown))])), "INVALID_POLICY_ITEM_ID"),
        (of(json!([with_id(item("daily", 1, "days", 7), &json!("xyz"))])), "INVALID_POLICY_ITEM_ID"),
        (of(json!([with_id(item("daily", 1, "days", 7), &hourly_id)])), "INVALID_FREQUENCY_TYPE_CHANGE"),
        (without("frequencyType"), "MISSING_POLICY_ITEM_PARAMETERS"),
        (without("frequencyInterval"), "MISSING_POLICY_ITEM_PARAMETERS"),
        (without("retentionUnit"), "MISSING_POLICY_ITEM_PARAMETERS"),
        (without("retentionValue"), "MISSING_POLICY_ITEM_PARAMETERS"),
        (of(json!([item("ondemand", 1, "days", 7)])), "INVALID_ENUM_VALUE"),
        (of(json!([item("DAILY", 1, "days", 7)])), "INVALID_ENUM_VALUE"),
        (of(json!([item("daily", 1, "DAYS", 7)])), "INVALID_ENUM_VALUE"),
        (of(json!([item("daily", 1, "days", 0)])), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (of(json!([item("daily", 1, "days", -7)])), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (of(json!([item("daily", 1, "years", 101)])), "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID"),
        (of(json!([item("hourly", 3, "days", 7)])), "INVALID_BACKUP_POLICY"),
        (of(json!([item("monthly", 29, "months", 7)])), "INVALID_BACKUP_POLICY"),
        (of(json!([item("daily", 1, "days", 7), item("daily", 1, "days", 8)])), "INVALID_BACKUP_POLICY"),
        (of(json!([item("weekly", 1, "weeks", 7), item("weekly", 1, "weeks", 8)])), "INVALID_BACKUP_POLICY"),
        (of(json!([item("daily", 1, "days", 30), item("weekly", 6, "weeks", 4)])), "INVALID_BACKUP_POLICY"),
        (of(json!([item("yearly", 1, "months", 11)])), "INVALID_BACKUP_POLICY"),
        (of(json!([{"frequency": 1}])), "INVALID_ATTRIBUTE"),
        (of(json!(["daily"])), "INVALID_JSON_ATTRIBUTE"),
        (of(json!({})), "INVALID_JSON_ATTRIBUTE"),
        (json!({"policies": {}}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"referenceHourOfDay": 24}), "INVALID_REFERENCE_HOUR_OF_DAY"),
        (json!({"referenceHourOfDay": -1}), "INVALID_REFERENCE_HOUR_OF_DAY"),
        (json!({"referenceMinuteOfHour": 60}), "INVALID_REFERENCE_MINUTE_OF_HOUR"),
        (json!({"referenceHourOfDay": "18"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"restoreWindowDays": 0}), "INVALID_RESTORE_WINDOW"),
        (json!({"restoreWindowDays": -1}), "INVALID_RESTORE_WINDOW"),
        (json!({"restoreWindowDays": 366}), "INVALID_RESTORE_WINDOW"),
        (json!({"schedule": {}}), "INVALID_ATTRIBUTE"),
        (json!({"updateSnapshots": "yes"}), "INVALID_JSON_ATTRIBUTE"),
        (json!({"useOrgAndGroupNamesInExportPrefix": "yes"}), "INVALID_JSON_ATTRIBUTE"),
        (extra("daily", 3), "INVALID_ENUM_VALUE"),
        (extra("DAILY", 0), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (extra("DAILY", -3), "ATTRIBUTE_NEGATIVE_OR_ZERO"),
        (extra("DAILY", 36_501), "INVALID_BACKUP_POLICY"),
        (json!({"extraRetentionSettings": [{"frequencyType": "DAILY"}]}), "MISSING_ATTRIBUTE"),
        (json!({"extraRetentionSettings": [{"retentionDays": 3}]}), "MISSING_ATTRIBUTE"),
        (
            json!({"extraRetentionSettings": [
                {"frequencyType": "DAILY", "retentionDays": 3}, {"frequencyType": "DAILY", "retentionDays": 4},
            ]}),
            "INVALID_BACKUP_POLICY",
        ),
    ] {
        let refused = s.patch(body.clone()).await;
        assert_eq!(refused.json()["errorCode"], code, "{body}");
        refused.refused(400, code);
    }
    let told = s.refused(of(json!([item("hourly", 3, "days", 7)])), 400, "INVALID_BACKUP_POLICY").await;
    assert_eq!(
        told["detail"],
        "Invalid Backup Policy: an hourly frequency has the interval 1, 2, 4, 6, 8 or 12 (hours), not 3."
    );
    assert_eq!(s.get().await, made, "a refusal changes nothing");
    s.app.stop().await;
}

#[tokio::test]
async fn what_is_not_done_is_refused_and_not_forgotten() {
    let s = Schedules::start().await;
    for body in [
        json!({"copyPolicyItemsEnabled": true}),
        json!({"autoCopySettingsEnabled": true}),
        json!({"updateCopySnapshots": true}),
        json!({"deleteCopySnapshots": true}),
    ] {
        let refused = s.refused(body.clone(), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG").await;
        let name = body.as_object().unwrap().keys().next().unwrap();
        assert_eq!(&refused["badRequestDetail"]["fields"][0]["field"], name, "{refused}");
    }
    let items = json!([{"frequencyType": "daily", "retentionUnit": "days", "retentionValue": 3}]);
    let copies =
        json!({"copySettings": [{"regionName": "EU_WEST_1", "zoneId": ZONE, "copyPolicyItems": items}]});
    let refused = s.refused(copies, 403, "UNSUPPORTED_FOR_CURRENT_CONFIG").await;
    assert!(refused["detail"].to_string().contains("has no retention of its own"), "{refused}");
    // To say that none of it is wanted is no request for it.
    let nothing = json!({
        "autoExportEnabled": false, "copySettings": [], "copyPolicyItemsEnabled": false, "extraRetentionSettings": [],
        "deleteCopiedBackups": [], "deleteCopySnapshots": false, "updateCopySnapshots": false,
        "autoCopySettingsEnabled": false, "useOrgAndGroupNamesInExportPrefix": false,
    });
    s.patch(nothing).await.expect(200);
    s.app.stop().await;
}

#[tokio::test]
async fn what_is_copied_to_other_vaults_is_set_and_shown() {
    let app = App::start_with(|settings| {
        settings.copy_regions = ["EU_WEST_1", "CENTRAL_US"].map(|name| name.parse().unwrap()).into();
    })
    .await;
    let s = Schedules::over(app).await;
    let one = json!({
        "cloudProvider": "AWS", "frequencies": ["DAILY", "ON_DEMAND"], "regionName": "EU_WEST_1",
        "shouldCopyOplogs": true, "zoneId": ZONE,
    });
    let two = json!({
        "cloudProvider": "AZURE", "lastNumberOfSnapshots": 3, "regionName": "CENTRAL_US", "shouldCopyOplogs": false,
        "zoneId": ZONE,
    });
    let both =
        s.patch(json!({"copySettings": [one, two], "copyPolicyItemsEnabled": false})).await.expect(200);
    assert_eq!(both["copySettings"], json!([one, two]));
    assert_eq!(both["policies"][0]["policyItems"], json!([]), "what is taken is another matter");
    assert_eq!(s.get().await, both);
    // Without a word about them they stay; in the words of the older version a zone is something else.
    s.set(json!([item("daily", 1, "days", 7)])).await.expect(200);
    let old =
        |method| Request::new(method, &s.path).header("Accept", "application/vnd.atlas.2023-01-01+json");
    let shown = s.app.send(&s.app.owner, old("GET")).await.expect(200);
    let mut spoken = one.clone();
    spoken["replicationSpecId"] = spoken.as_object_mut().unwrap().remove("zoneId").unwrap();
    assert_eq!(shown["copySettings"][0], spoken);
    let set = old("PATCH").json(&json!({"copySettings": [spoken]}));
    assert_eq!(s.app.send(&s.app.owner, set).await.expect(200)["copySettings"], json!([spoken]));
    assert_eq!(s.get().await["copySettings"], json!([one]));
    let set = old("PATCH").json(&json!({"copySettings": [one]}));
    s.app.send(&s.app.owner, set).await.refused(400, "INVALID_ATTRIBUTE");

    // Whoever said no zone is shown one, and can send it back.
    let mut nowhere = spoken.clone();
    nowhere.as_object_mut().unwrap().remove("replicationSpecId");
    let set = old("PATCH").json(&json!({"copySettings": [nowhere]}));
    s.app.send(&s.app.owner, set).await.expect(200);
    let shown = s.get().await["copySettings"].clone();
    assert_eq!(shown[0]["zoneId"], s.app.cluster.id.to_string());
    assert_eq!(s.patch(json!({"copySettings": shown})).await.expect(200)["copySettings"], shown);
    s.patch(json!({"copySettings": [one]})).await.expect(200);

    let with = |name: &str, value: Value| {
        let mut setting = one.clone();
        setting[name] = value;
        json!({"copySettings": [setting]})
    };
    for (body, code) in [
        (with("regionName", json!("EU_WEST_2")), "INVALID_BACKUP_POLICY"),
        (with("regionName", json!("eu-west-1")), "INVALID_BACKUP_POLICY"),
        (with("regionName", Value::Null), "MISSING_ATTRIBUTE"),
        (with("zoneId", Value::Null), "MISSING_ATTRIBUTE"),
        (with("zoneId", json!("here")), "INVALID_ATTRIBUTE"),
        (with("cloudProvider", json!("IBM")), "INVALID_ENUM_VALUE"),
        (with("frequencies", json!(["DAILY", "SOMETIMES"])), "INVALID_ENUM_VALUE"),
        (with("frequencies", json!(["DAILY", "DAILY"])), "INVALID_BACKUP_POLICY"),
        (with("frequencies", json!([])), "INVALID_BACKUP_POLICY"),
        (with("frequencies", json!("DAILY")), "INVALID_JSON_ATTRIBUTE"),
        (with("lastNumberOfSnapshots", json!(3)), "INVALID_BACKUP_POLICY"),
        (with("surprise", json!(3)), "INVALID_ATTRIBUTE"),
        (json!({"copySettings": [one, one]}), "INVALID_BACKUP_POLICY"),
        (
            json!({"copySettings": [two, {"regionName": "EU_WEST_1", "zoneId": ZONE, "lastNumberOfSnapshots": 501}]}),
            "INVALID_BACKUP_POLICY",
        ),
        (
            json!({"deleteCopiedBackups": [{"regionName": "EU_WEST_1", "zoneId": ZONE}]}),
            "INVALID_BACKUP_POLICY",
        ),
        (json!({"deleteCopiedBackups": [{"zoneId": ZONE}]}), "MISSING_ATTRIBUTE"),
    ] {
        s.refused(body, 400, code).await;
    }
    let unknown = s.refused(with("regionName", json!("EU_WEST_2")), 400, "INVALID_BACKUP_POLICY").await;
    let why = unknown["detail"].as_str().unwrap();
    assert!(why.contains("it knows: CENTRAL_US, EU_WEST_1") && why.contains("[copies.EU_WEST_2]"), "{why}");
    assert_eq!(s.get().await["copySettings"], json!([one]), "a refusal changes nothing");

    // What is whole in another vault is told; what is not, on our own pages alone.
    let snapshot = s.app.snapshot().await;
    let path = s.app.backup(&format!("/snapshots/{}", snapshot.id));
    s.app.catalog.copies().decide(s.app.now()).await.unwrap();
    assert_eq!(s.app.get(&path).await.expect(200)["copyRegions"], json!([]));
    let own = s.app.own(&format!("/clusters/{}/snapshots/{}", s.app.cluster.name, snapshot.id));
    let shown = s.app.get(&own).await.expect(200);
    assert_eq!(shown["copies"][0]["state"], "wanted", "{shown}");
    let region = "EU_WEST_1".parse().unwrap();
    let lease = s.app.catalog.copies().claim(&region, s.app.now(), 60_000).await.unwrap().unwrap();
    s.app.catalog.copies().made(&lease, snapshot.id, s.app.now()).await.unwrap();
    assert_eq!(s.app.get(&path).await.expect(200)["copyRegions"], json!(["EU_WEST_1"]));
    let listed = s.app.get(&s.app.backup("/snapshots")).await.expect(200);
    assert_eq!(listed["results"][0]["copyRegions"], json!(["EU_WEST_1"]));
    let copies = json!([{
        "madeAt": shown["copies"][0]["requestedAt"], "region": "EU_WEST_1",
        "requestedAt": shown["copies"][0]["requestedAt"], "state": "made",
    }]);
    assert_eq!(s.app.get(&own).await.expect(200)["copies"], copies);
    let none =
        json!({"copySettings": [], "deleteCopiedBackups": [{"regionName": "EU_WEST_1", "zoneId": ZONE}]});
    assert_eq!(s.patch(none).await.expect(200)["copySettings"], json!([]));
    assert_eq!(s.app.get(&path).await.expect(200)["copyRegions"], json!([]));
    let lines = s.app.changes().await;
    let told: Vec<_> = lines.iter().filter_map(|line| line.detail.get("copiesDeleted")).collect();
    assert_eq!(told, [&json!(1)], "{lines:?}");
    s.app.stop().await;
}

#[tokio::test]
async fn what_is_exported_by_itself_is_set_and_shown() {
    let s = Schedules::start().await;
    let new = catalog::NewExportBucket {
        project_id: s.app.project.id,
        place: "archive".parse().unwrap(),
        iam_role_id: "0123456789abcdef01234567".to_owned(),
    };
    let bucket = s.app.catalog.export_buckets().add(new, s.app.now()).await.unwrap().id;
    let unknown = "0123456789abcdef01234567";
    let export = |id: &str, frequency: &str| json!({"exportBucketId": id, "frequencyType": frequency});
    for (body, status, code) in [
        (json!({"autoExportEnabled": true}), 400, "MISSING_ATTRIBUTE"),
        (json!({"export": {"frequencyType": "monthly"}}), 400, "MISSING_ATTRIBUTE"),
        (json!({"export": {"exportBucketId": bucket.to_string()}}), 400, "MISSING_ATTRIBUTE"),
        (
            json!({"export": export(unknown, "monthly"), "autoExportEnabled": true}),
            404,
            "EXPORT_BUCKET_NOT_FOUND",
        ),
        (json!({"export": export(unknown, "monthly")}), 404, "EXPORT_BUCKET_NOT_FOUND"),
        (json!({"export": export("xyz", "monthly")}), 404, "EXPORT_BUCKET_NOT_FOUND"),
        (json!({"export": export(&bucket.to_string(), "hourly")}), 400, "INVALID_ENUM_VALUE"),
        (json!({"export": export(&bucket.to_string(), "now")}), 400, "INVALID_ENUM_VALUE"),
    ] {
        s.refused(body, status, code).await;
    }
    let monthly = export(&bucket.to_string(), "monthly");
    let set = s.patch(json!({"export": monthly, "autoExportEnabled": true})).await.expect(200);
    assert_eq!((&set["export"], &set["autoExportEnabled"]), (&monthly, &json!(true)));
    assert_eq!(s.get().await, set);
    let used = s.app.group(&format!("/backup/exportBuckets/{bucket}"));
    s.app.delete(&used).await.refused(400, "EXPORT_BUCKET_DELETE_FAILED");
    // What else is changed leaves it as it is, and a part of it may be changed.
    let later = s.patch(json!({"referenceHourOfDay": 4})).await.expect(200);
    assert_eq!((&later["export"], &later["autoExportEnabled"]), (&monthly, &json!(true)));
    for wanted in [true, false] {
        let named = s.patch(json!({"useOrgAndGroupNamesInExportPrefix": wanted})).await.expect(200);
        let again = s.patch(json!({"referenceHourOfDay": 4})).await.expect(200);
        assert_eq!(named["useOrgAndGroupNamesInExportPrefix"], wanted);
        assert_eq!(again["useOrgAndGroupNamesInExportPrefix"], wanted, "what is left out stays");
    }
    let yearly = s.patch(json!({"export": {"frequencyType": "yearly"}})).await.expect(200);
    assert_eq!(yearly["export"], export(&bucket.to_string(), "yearly"));
    let off = s.patch(json!({"export": yearly["export"], "autoExportEnabled": false})).await.expect(200);
    assert_eq!((&off["export"], &off["autoExportEnabled"]), (&yearly["export"], &json!(false)));
    let on = s.patch(json!({"autoExportEnabled": true})).await.expect(200);
    assert_eq!((&on["export"], &on["autoExportEnabled"]), (&yearly["export"], &json!(true)));
    // Switched off with nothing said of what is exported, there is nothing. The Terraform provider asks for that when both are
    // taken out of a configuration, and would ask for ever if it were shown on.
    let none = s.patch(json!({"autoExportEnabled": false})).await.expect(200);
    assert_eq!((none.get("export"), &none["autoExportEnabled"]), (None, &json!(false)));
    assert_eq!(s.get().await, none);
    s.refused(json!({"autoExportEnabled": true}), 400, "MISSING_ATTRIBUTE").await;
    s.patch(json!({"export": yearly["export"], "autoExportEnabled": false})).await.expect(200);
    s.app.delete(&used).await.expect(204);
    // What was shown can be sent back, and cannot be switched on any more.
    assert_eq!(
        s.patch(json!({"export": off["export"], "referenceHourOfDay": 5})).await.expect(200)["export"],
        off["export"]
    );
    s.refused(json!({"autoExportEnabled": true}), 404, "EXPORT_BUCKET_NOT_FOUND").await;
    s.app.stop().await;
}

#[tokio::test]
async fn who_may_change_it_and_for_what() {
    let s = Schedules::start().await;
    let body = json!({"referenceHourOfDay": 4});
    for (role, may) in [
        (Role::GroupBackupManager, true),
        (Role::GroupReadOnly, false),
        (Role::GroupBackupCreator, false),
        (Role::GroupBackupRecoveryOperator, false),
        (Role::GroupBackupExportOperator, false),
    ] {
        let key = s.app.key(&[role]).await;
        s.app.send(&key, Request::new("GET", &s.path)).await.expect(200);
        let changes = [Request::new("PATCH", &s.path).json(&body), Request::new("DELETE", &s.path)];
        for request in changes {
            let answer = s.app.send(&key, request).await;
            if may {
                answer.expect(200);
            } else {
                answer.refused(403, "ACCESS_FORBIDDEN");
            }
        }
    }
    s.app.add("s1", DeploymentKind::Serverless).await;
    let tenant = s.app.group("/clusters/s1/backup/schedule");
    s.app.get(&tenant).await.refused(400, "CANNOT_USE_SERVERLESS_INSTANCE_IN_CLUSTER_API");
    let nobody = s.app.group("/clusters/nobody/backup/schedule");
    s.app.get(&nobody).await.refused(404, "CLUSTER_NOT_FOUND");
    s.app.catalog.deployments().remove(s.app.cluster.id, s.app.now()).await.unwrap();
    // It is remembered for a moment; what is written finds out at once.
    s.patch(json!({"restoreWindowDays": 2})).await.refused(404, "CLUSTER_NOT_FOUND");
    s.app.delete(&s.path).await.refused(404, "CLUSTER_NOT_FOUND");
    s.app.stop().await;
}

#[tokio::test]
async fn every_change_is_written_down() {
    let s = Schedules::start().await;
    s.app.pass_seconds(1);
    s.set(json!([item("daily", 1, "days", 7)])).await.expect(200);
    s.app.pass_seconds(1);
    s.patch(json!({"restoreWindowDays": 2, "updateSnapshots": true})).await.expect(200);
    s.app.pass_seconds(1);
    s.app.delete(&s.path).await.expect(200);
    s.app.pass_seconds(1);
    s.app.delete(&s.path).await.expect(200);
    let log = s.app.changes().await;
    let told: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(told, ["schedule.delete", "schedule.update", "schedule.update"], "newest first, and no more");
    assert!(log.iter().all(|entry| entry.who == s.app.owner.public && entry.detail["cluster"] == "c1"));
    assert_eq!(log[2].detail["policyItems"][0]["frequencyType"], "daily");
    assert_eq!(
        (&log[1].detail["restoreWindowDays"], &log[1].detail["snapshotsKeptAnew"]),
        (&json!(2), &json!(0))
    );
    s.app.stop().await;
}

#[tokio::test]
async fn snapshots_say_what_took_them_and_follow_when_they_are_asked_to() {
    let s = Schedules::start().await;
    let made = s.set(json!([item("hourly", 6, "days", 2), item("daily", 1, "days", 7)])).await.expect(200);
    let ids = made["policies"][0]["policyItems"].as_array().unwrap();
    let (hourly_id, daily_id) = (ids[0]["id"].clone(), ids[1]["id"].clone());
    s.app.pass_seconds(6 * HOUR);
    let hourly = s.take().await.unwrap();
    s.app.pass_seconds(12 * HOUR);
    let daily = s.take().await.unwrap();
    assert_eq!(s.take().await, None);
    let show =
        async |snapshot: &Snapshot| s.app.get(&s.app.backup(&format!("/snapshots/{}", snapshot.id))).await;
    let shown = show(&hourly).await.expect(200);
    assert_eq!((&shown["snapshotType"], &shown["frequencyType"]), (&json!("scheduled"), &json!("hourly")));
    assert_eq!(
        (&shown["policyItems"], &shown["expiresAt"]),
        (&json!([hourly_id]), &json!("2025-11-24T06:00:00Z"))
    );
    let shown = show(&daily).await.expect(200);
    assert_eq!(
        (&shown["frequencyType"], &shown["policyItems"]),
        (&json!("daily"), &json!([daily_id, hourly_id]))
    );
    assert_eq!(shown["expiresAt"], "2025-11-29T18:00:00Z");
    let own = s.app.get(&s.app.own(&format!("/clusters/c1/snapshots/{}", daily.id))).await.expect(200);
    assert_eq!((&own["frequencyType"], &own["dueAt"]), (&json!("daily"), &json!("2025-11-22T18:00:00Z")));
    // Taken for a timeline or by somebody: of no schedule, whatever becomes of it.
    let base = catalog::NewSnapshot {
        deployment_id: s.app.cluster.id,
        snapshot_type: catalog::SnapshotType::Scheduled,
        description: Some("Base of a timeline".to_owned()),
        retention_days: Some(9),
    };
    let base = s.app.catalog.snapshots().request(base, s.app.now()).await.unwrap();
    s.app.complete_snapshot().await;
    let before = show(&base).await.expect(200);
    assert!(before.get("frequencyType").is_none() && before["policyItems"] == json!([]));

    // Without the flag a change is for what comes.
    let kept = |value| with_id(item("daily", 1, "weeks", value), &daily_id);
    s.set(json!([with_id(item("hourly", 6, "days", 2), &hourly_id), kept(2)])).await.expect(200);
    assert_eq!(show(&daily).await.expect(200)["expiresAt"], "2025-11-29T18:00:00Z");
    let of = |items: Value| json!([{"id": s.policy, "policyItems": items}]);
    let items = of(json!([with_id(item("hourly", 6, "days", 2), &hourly_id), kept(3)]));
    s.patch(json!({"policies": items, "updateSnapshots": true})).await.expect(200);
    assert_eq!(show(&daily).await.expect(200)["expiresAt"], "2025-12-13T18:00:00Z");
    assert_eq!(
        show(&hourly).await.expect(200)["expiresAt"],
        "2025-11-24T06:00:00Z",
        "its item has not changed"
    );

    // Without the flag those of an item that is gone stay until they expire.
    s.set(json!([with_id(item("hourly", 6, "days", 2), &hourly_id)])).await.expect(200);
    show(&daily).await.expect(200);
    let items = of(json!([item("weekly", 6, "weeks", 1)]));
    s.patch(json!({"policies": items, "deleteSnapshots": true})).await.expect(200);
    show(&hourly).await.refused(404, "SNAPSHOT_NOT_FOUND");
    show(&daily).await.expect(200);
    assert_eq!(show(&base).await.expect(200), before);
    s.app.delete(&s.path).await.expect(200);
    show(&daily).await.expect(200);
    s.app.stop().await;
}

#[tokio::test]
async fn what_is_kept_longer_is_kept_so_many_days_on_top() {
    let s = Schedules::start().await;
    s.set(json!([item("daily", 1, "days", 7)])).await.expect(200);
    s.app.pass_seconds(DAY);
    let before = s.take().await.unwrap();
    let days_kept = |snapshot: &Snapshot| {
        (snapshot.expires_at.unwrap().0 - snapshot.completed_at.unwrap().0) / (DAY * 1000)
    };
    assert_eq!(days_kept(&before), 7);
    let settings = json!({"extraRetentionSettings": [
        {"frequencyType": "ON_DEMAND", "retentionDays": 2}, {"frequencyType": "DAILY", "retentionDays": 30},
    ]});
    let set = s.patch(settings.clone()).await.expect(200);
    assert_eq!(set["extraRetentionSettings"], settings["extraRetentionSettings"]);
    assert_eq!(s.get().await, set);
    // What else is changed leaves it as it is, and a snapshot that was taken before is kept as it was said then.
    let later = s.patch(json!({"referenceMinuteOfHour": 3})).await.expect(200);
    assert_eq!(later["extraRetentionSettings"], settings["extraRetentionSettings"]);
    s.app.pass_seconds(2 * DAY);
    let after = s.take().await.unwrap();
    assert_eq!(days_kept(&after), 37);
    let again =
        async |snapshot: &Snapshot| s.app.catalog.snapshots().get(snapshot.id).await.unwrap().unwrap();
    assert_eq!(days_kept(&again(&before).await), 7);
    // On demand, and where nothing is said of a retention it has no end to move.
    let taken = s.app.post(&s.app.backup("/snapshots"), json!({"retentionInDays": 5})).await.expect(200);
    s.app.complete_snapshot().await;
    let taken = s.app.catalog.snapshots().get(taken["id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(days_kept(&taken.unwrap().unwrap()), 7);
    // Asked for, it reaches those that were taken already: both ways.
    s.patch(json!({"updateSnapshots": true, "extraRetentionSettings": []})).await.expect(200);
    assert_eq!((days_kept(&again(&before).await), days_kept(&again(&after).await)), (7, 7));
    let mut both = extra("DAILY", 1);
    both["updateSnapshots"] = json!(true);
    let set = s.patch(both).await.expect(200);
    assert_eq!(set["extraRetentionSettings"], extra("DAILY", 1)["extraRetentionSettings"]);
    assert_eq!((days_kept(&again(&before).await), days_kept(&again(&after).await)), (8, 8));
    // What somebody has had kept for longer still is not shortened by it.
    let until = before.completed_at.unwrap().plus_ms(100 * DAY * 1000);
    s.app.catalog.snapshots().update_retention(before.id, until).await.unwrap();
    let mut both = extra("DAILY", 2);
    both["updateSnapshots"] = json!(true);
    s.patch(both).await.expect(200);
    assert_eq!((days_kept(&again(&before).await), days_kept(&again(&after).await)), (100, 9));
    // On a day that both are due it is kept as long as either wants it, now and after a change.
    s.set(json!([item("daily", 1, "days", 7), item("weekly", 6, "days", 7)])).await.expect(200);
    s.app.pass_seconds(8 * DAY);
    let mut taken = s.take().await.unwrap();
    for _ in 0..7 {
        if taken.policy.as_ref().unwrap().items.len() == 2 {
            break;
        }
        s.app.pass_seconds(DAY);
        taken = s.take().await.unwrap();
    }
    assert_eq!((taken.policy.as_ref().unwrap().items.len(), days_kept(&taken)), (2, 9));
    let items = s.get().await["policies"][0]["policyItems"].clone();
    let longer = json!([
        with_id(item("daily", 1, "days", 7), &items[0]["id"]),
        with_id(item("weekly", 6, "days", 8), &items[1]["id"]),
    ]);
    let body = json!({"policies": [{"id": s.policy, "policyItems": longer}], "updateSnapshots": true});
    s.patch(body).await.expect(200);
    assert_eq!(days_kept(&again(&taken).await), 9, "the daily item keeps it longer than the weekly one");
    s.app.stop().await;
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let s = Schedules::start().await;
    s.set(default_items()).await.expect(200);
    let one = s.patch(json!({"referenceHourOfDay": 5}));
    let (one, other) = tokio::join!(one, s.patch(json!({"referenceMinuteOfHour": 7})));
    one.expect(200);
    other.expect(200);
    let now = s.get().await;
    assert_eq!((&now["referenceHourOfDay"], &now["referenceMinuteOfHour"]), (&json!(5), &json!(7)));
    assert_eq!(s.app.now(), WallTime(common::START));
    let old = format!("/api/atlas/v1.0{}", s.path.trim_start_matches("/api/atlas/v2"));
    let shown =
        s.app.send(&s.app.owner, Request::new("GET", &old).header("Accept", ACCEPT)).await.expect(200);
    assert_eq!(shown, now, "the path from before versions by date shows the same");
    s.app.stop().await;
}
