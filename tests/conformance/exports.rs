//! Export buckets and exports: each operation in each of its versions, and what they refuse.

use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};
use crate::support::text;

const UNKNOWN: &str = "0123456789abcdef01234567";

/// Drives exports of a completed snapshot by one way of authentication, and leaves no bucket behind.
pub async fn of_a_snapshot(world: &World, way: &str, snapshot: &str) {
    let bucket = buckets(world, way).await;
    exports(world, way, snapshot, &bucket).await;
    let (owner, checker) = (world.owner(way), &world.checker);
    let one = world.group(&format!("/backup/exportBuckets/{bucket}"));
    checker.ok(owner, Ask::new(Method::DELETE, &one), 204).await;
    checker.refused(owner, Ask::new(Method::DELETE, &one), 404, "EXPORT_BUCKET_NOT_FOUND").await;
}

/// A bucket that is registered in the older version and looked at in both.
async fn buckets(world: &World, way: &str) -> String {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/backup/exportBuckets");
    let post = |date: &str, body: &Value| Ask::new(Method::POST, &path).date(date).json(body);
    let of = |name: &str, provider: &str, role: &str| json!({"bucketName": name, "cloudProvider": provider, "iamRoleId": role});
    let good = of("archive", "AWS", UNKNOWN);
    let mut made = vec![];
    for date in ["2023-01-01", "2024-05-30", "2025-03-12"] {
        let bucket = checker.ok(owner, post(date, &good), 200).await;
        assert_eq!((&bucket["bucketName"], &bucket["iamRoleId"]), (&json!("archive"), &json!(UNKNOWN)));
        let one = format!("{path}/{}", text(&bucket, "_id"));
        assert_eq!(checker.ok(owner, Ask::new(Method::GET, &one).date(date), 200).await, bucket);
        let list = checker.ok(owner, Ask::new(Method::GET, &path).date(date), 200).await;
        assert!(list["results"].as_array().unwrap().contains(&bucket), "{list}");
        for (body, status, code) in [
            (of("elsewhere", "AWS", UNKNOWN), 400, "EXPORT_BUCKET_NAME_INVALID"),
            (of("no/name", "AWS", UNKNOWN), 400, "EXPORT_BUCKET_NAME_INVALID"),
            (of("archive", "AZURE", UNKNOWN), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
            (of("archive", "GCP", UNKNOWN), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG"),
            (of("archive", "aws", UNKNOWN), 400, "INVALID_ENUM_VALUE"),
            (of("archive", "AWS", "no-role"), 400, "INVALID_ATTRIBUTE"),
            (json!({"cloudProvider": "AWS", "iamRoleId": UNKNOWN}), 400, "MISSING_ATTRIBUTE"),
        ] {
            checker.refused(owner, post(date, &body), status, code).await;
        }
        let mut private = good.clone();
        private["requirePrivateNetworking"] = true.into();
        checker.refused(owner, post(date, &private), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG").await;
        made.push(text(&bucket, "_id"));
    }
    // Before some of them lead nowhere.
    checker.follow_links(owner).await;
    let kept = made.remove(0);
    for other in made {
        checker.ok(owner, Ask::new(Method::DELETE, &format!("{path}/{other}")), 204).await;
    }
    let one = format!("{path}/{kept}");
    let patch =
        |required: bool| Ask::new(Method::PATCH, &one).json(&json!({"requirePrivateNetworking": required}));
    checker.ok(owner, patch(false), 200).await;
    checker.refused(owner, patch(true), 403, "UNSUPPORTED_FOR_CURRENT_CONFIG").await;
    kept
}

async fn exports(world: &World, way: &str, snapshot: &str, bucket: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/clusters/main/backup/exports");
    let post = |body: &Value| Ask::new(Method::POST, &path).json(body);
    let data = json!([{"key": "purpose", "value": "audit"}]);
    let body = json!({"snapshotId": snapshot, "exportBucketId": bucket, "customData": data});
    for (field, value, status, code) in [
        ("snapshotId", UNKNOWN, 404, "SNAPSHOT_NOT_FOUND"),
        ("snapshotId", "xyz", 404, "INVALID_SNAPSHOT_ID"),
        ("exportBucketId", UNKNOWN, 404, "EXPORT_BUCKET_NOT_FOUND"),
        ("exportBucketId", "xyz", 404, "EXPORT_BUCKET_NOT_FOUND"),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value.into();
        checker.refused(owner, post(&wrong), status, code).await;
    }
    checker.refused(owner, post(&json!({"exportBucketId": bucket})), 400, "MISSING_ATTRIBUTE").await;
    let half = json!({"snapshotId": snapshot, "exportBucketId": bucket, "customData": [{"key": "purpose"}]});
    checker.refused(owner, post(&half), 400, "MISSING_ATTRIBUTE").await;

    let asked = checker.ok(owner, post(&body), 200).await;
    assert_eq!((&asked["snapshotId"], &asked["customData"]), (&json!(snapshot), &data));
    let id = text(&asked, "id");
    let own = world.own(&format!("/clusters/main/exports/{id}"));
    let ended = world.wait_for(owner, &own, "successful").await;
    assert_eq!(ended["prefix"], asked["prefix"]);
    let shown = checker.ok(owner, Ask::new(Method::GET, &format!("{path}/{id}")), 200).await;
    assert_eq!(shown["state"], "Successful");
    assert!(shown["finishedAt"].is_string() && shown.get("stateReason").is_none(), "{shown}");
    let status = &shown["exportStatus"];
    assert_eq!(status["exportedCollections"], status["totalCollections"]);
    assert!(status["totalCollections"].as_u64().unwrap() > 0, "{status}");
    let list = checker.ok(owner, Ask::new(Method::GET, &path), 200).await;
    assert_eq!(list["results"][0], shown, "newest first");
    checker.ok(owner, Ask::new(Method::GET, &world.own("/clusters/main/exports")), 200).await;
    assert!(world.exports.path().join(text(&shown, "prefix")).join(".complete").exists());
    checker.follow_links(owner).await;
}
