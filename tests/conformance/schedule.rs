//! The schedule of a deployment: as it is shown, changed and deleted in each of its versions.

use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};
use crate::support::text;

/// Drives the schedule of a deployment by one way of authentication, and leaves none behind.
pub async fn of_a_deployment(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/clusters/main/backup/schedule");
    let ask = |method: Method| Ask::new(method, &path);
    for date in ["2023-01-01", "2024-05-30", "2024-08-05", "2025-03-12"] {
        let shown = checker.ok(owner, ask(Method::GET).date(date), 200).await;
        assert_eq!(shown["policies"][0]["policyItems"], json!([]), "none by itself: {shown}");
        let id = text(&shown["policies"][0], "id");
        let item = |kind: &str, interval: i32, unit: &str, value: i32| json!({"frequencyType": kind, "frequencyInterval": interval, "retentionUnit": unit, "retentionValue": value});
        let items = json!([
            item("hourly", 12, "days", 7),
            item("daily", 1, "days", 7),
            item("weekly", 6, "weeks", 4),
            item("monthly", 40, "months", 12),
            item("yearly", 12, "years", 1),
        ]);
        let of = |id: &str, items: &Value| json!({"policies": [{"id": id, "policyItems": items}]});
        let patch = |body: Value| ask(Method::PATCH).date(date).json(&body);
        let set = checker.ok(owner, patch(of(&id, &items)), 200).await;
        assert_eq!(set["policies"][0]["policyItems"].as_array().unwrap().len(), 5);
        assert!(set["nextSnapshot"].is_string(), "{set}");
        // What is shown can be sent back.
        let again = checker.ok(owner, patch(set.clone()), 200).await;
        assert_eq!(again["policies"], set["policies"]);
        let more = json!({"referenceHourOfDay": 3, "updateSnapshots": true, "deleteSnapshots": false});
        let changed = checker.ok(owner, patch(more), 200).await;
        assert_eq!((&changed["policies"], &changed["referenceHourOfDay"]), (&set["policies"], &json!(3)));
        let unknown = "0123456789abcdef01234567";
        for (body, status, code) in [
            (json!({"policies": []}), 400, "INVALID_NUM_OF_POLICIES"),
            (of(unknown, &items), 400, "INVALID_POLICY_ID"),
            (of(&id, &json!([])), 400, "INVALID_NUM_OF_POLICY_ITEMS"),
            (of(&id, &json!([item("daily", 2, "days", 7)])), 400, "INVALID_BACKUP_POLICY"),
            (json!({"referenceHourOfDay": 24}), 400, "INVALID_REFERENCE_HOUR_OF_DAY"),
            (json!({"restoreWindowDays": 0}), 400, "INVALID_RESTORE_WINDOW"),
            (json!({"autoExportEnabled": true}), 400, "MISSING_ATTRIBUTE"),
            (json!({"copyPolicyItemsEnabled": true}), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
            (
                json!({"export": {"exportBucketId": unknown, "frequencyType": "monthly"}}),
                404,
                "EXPORT_BUCKET_NOT_FOUND",
            ),
        ] {
            checker.refused(owner, patch(body), status, code).await;
        }
        copies(world, way, &path, date).await;
        exports(world, way, &path, date).await;
        let deleted = checker.ok(owner, ask(Method::DELETE).date(date), 200).await;
        assert_eq!(deleted["policies"], shown["policies"]);
        assert!(deleted.get("nextSnapshot").is_none(), "{deleted}");
    }
    checker.follow_links(owner).await;
}

/// Sets what is copied to another vault, and that nothing is.
async fn copies(world: &World, way: &str, path: &str, date: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let patch = |body: Value| Ask::new(Method::PATCH, path).date(date).json(&body);
    let zone = if date < "2024-08-05" { "replicationSpecId" } else { "zoneId" };
    for which in [json!({"frequencies": ["WEEKLY", "ON_DEMAND"]}), json!({"lastNumberOfSnapshots": 2})] {
        let mut setting = which;
        for (name, value) in [
            ("cloudProvider", json!("GCP")),
            ("regionName", json!("EU_WEST_1")),
            ("shouldCopyOplogs", json!(true)),
            (zone, json!("0123456789abcdef01234567")),
        ] {
            setting[name] = value;
        }
        let set = checker.ok(owner, patch(json!({"copySettings": [setting]})), 200).await;
        assert_eq!(set["copySettings"], json!([setting]));
        let again = checker.ok(owner, patch(set.clone()), 200).await;
        assert_eq!(again["copySettings"], set["copySettings"]);
        let mut elsewhere = setting;
        elsewhere["regionName"] = "US_EAST_1".into();
        let refused = patch(json!({"copySettings": [elsewhere]}));
        checker.refused(owner, refused, 400, "INVALID_BACKUP_POLICY").await;
    }
    let gone = json!({"cloudProvider": "GCP", "regionName": "EU_WEST_1", zone: "0123456789abcdef01234567"});
    let none = json!({"copySettings": [], "deleteCopiedBackups": [gone]});
    assert_eq!(checker.ok(owner, patch(none), 200).await["copySettings"], json!([]));
}

/// Sets what is exported by itself, and switches it off again.
async fn exports(world: &World, way: &str, path: &str, date: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let buckets = world.group("/backup/exportBuckets");
    let body =
        json!({"bucketName": "archive", "cloudProvider": "AWS", "iamRoleId": "0123456789abcdef01234567"});
    let bucket = text(&checker.ok(owner, Ask::new(Method::POST, &buckets).json(&body), 200).await, "_id");
    let patch = |body: Value| Ask::new(Method::PATCH, path).date(date).json(&body);
    let export = json!({"exportBucketId": bucket, "frequencyType": "monthly"});
    let set = checker.ok(owner, patch(json!({"export": export, "autoExportEnabled": true})), 200).await;
    assert_eq!((&set["export"], &set["autoExportEnabled"]), (&export, &json!(true)));
    let one = format!("{buckets}/{bucket}");
    checker.refused(owner, Ask::new(Method::DELETE, &one), 400, "EXPORT_BUCKET_DELETE_FAILED").await;
    checker.ok(owner, patch(json!({"autoExportEnabled": false})), 200).await;
    // Before the bucket leads nowhere.
    checker.follow_links(owner).await;
    checker.ok(owner, Ask::new(Method::DELETE, &one), 204).await;
}
