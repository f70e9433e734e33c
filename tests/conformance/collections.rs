//! Collections that are restored by themselves: what is asked for, how far each is, what is refused.

use bson::Document;
use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};
use crate::support::text;

/// Restores a collection beside itself, and takes it away again.
pub async fn restored_beside(world: &World, way: &str, snapshot: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let jobs = world.group("/clusters/main/collectionRestoreJobs");
    let get = |target: &str| Ask::new(Method::GET, target);
    let post = |body: &Value| Ask::new(Method::POST, &jobs).json(body);
    let body = json!({
        "snapshotId": snapshot, "targetClusterName": "main", "targetGroupId": world.ebbtide.project,
        "indexStrategy": "ALL_EXCEPT_TTL", "writeStrategy": "CREATE_NEW",
        "collections": [{"sourceNamespace": "shop.orders"}],
    });
    refused(world, way, &body).await;
    let asked = checker.ok(owner, post(&body), 201).await;
    let job = format!("{jobs}/{}", text(&asked, "id"));
    // It may be anywhere on its way by now.
    checker.ok(owner, get(&job), 200).await;
    checker.ok(owner, get(&format!("{job}/collections")), 200).await;
    let own = world.own(&format!("/clusters/main/restoreJobs/{}", text(&asked, "id")));
    world.wait_for(owner, &own, "finished").await;
    let done = checker.ok(owner, get(&job), 200).await;
    assert_eq!((&done["state"], &done["restoredDocuments"]), (&json!("SUCCESSFUL"), &json!(200)), "{done}");
    assert_eq!(done["indexStatus"], json!({"failedCollectionCount": 0, "state": "SUCCESSFUL"}));
    let list = checker.ok(owner, get(&jobs), 200).await;
    assert_eq!(list["results"][0], done, "newest first");
    let list = checker.ok(owner, get(&format!("{job}/collections?state=SUCCESSFUL")), 200).await;
    let line = &list["results"][0];
    assert_eq!(line["effectiveTargetNamespace"], "shop.orders_restored", "{line}");
    let one = checker.ok(owner, get(&format!("{job}/collections/shop.orders")), 200).await;
    assert_eq!((&one, &list["totalCount"]), (line, &json!(1)));
    let none = checker.ok(owner, get(&format!("{job}/collections?state=FAILED")), 200).await;
    assert_eq!(none["totalCount"], 0);
    let nothing = get(&format!("{job}/collections/shop.nothing"));
    checker.refused(owner, nothing, 404, "COLLECTION_NOT_FOUND").await;
    let wrong = get(&format!("{job}/collections?state=DONE"));
    checker.refused(owner, wrong, 400, "INVALID_QUERY_PARAMETER").await;
    // It is no restore job, as the others are none of these.
    let other = world.group(&format!("/clusters/main/backup/restoreJobs/{}", text(&asked, "id")));
    checker.refused(owner, get(&other), 404, "RESTORE_JOB_NOT_FOUND").await;
    let shop = world.mongod.client().await.unwrap().database("shop");
    let restored = shop.collection::<Document>("orders_restored");
    assert_eq!(restored.count_documents(bson::doc! {}).await.unwrap(), 200);
    restored.drop().await.unwrap();
}

async fn refused(world: &World, way: &str, body: &Value) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let jobs = world.group("/clusters/main/collectionRestoreJobs");
    let unknown = json!("f".repeat(24));
    let many: Value = (0..101).map(|n| json!({"sourceNamespace": format!("shop.c{n}")})).collect();
    for (field, value, status, code) in [
        ("indexStrategy", Value::Null, 400, "MISSING_ATTRIBUTE"),
        ("writeStrategy", json!("MERGE"), 400, "INVALID_ENUM_VALUE"),
        ("collections", json!([]), 400, "MISSING_ONE_OF_ATTRIBUTES"),
        ("collections", many, 400, "INVALID_ATTRIBUTE"),
        ("collections", json!([{"sourceNamespace": "shop.system.views"}]), 400, "INVALID_ATTRIBUTE"),
        ("databases", json!([{"sourceNamespace": "config"}]), 400, "INVALID_ATTRIBUTE"),
        ("snapshotId", Value::Null, 400, "MISSING_ONE_OF_ATTRIBUTES"),
        ("snapshotId", unknown.clone(), 404, "SNAPSHOT_NOT_FOUND"),
        ("pointInTimeUtcSeconds", json!(1_700_000_000), 400, "VALIDATION_ERROR"),
        ("targetClusterName", json!("nobody"), 404, "CLUSTER_NOT_FOUND"),
        ("targetGroupId", json!(world.other_project), 403, "CANNOT_RESTORE_TO_TARGET"),
    ] {
        let mut body = body.clone();
        body[field] = value;
        checker.refused(owner, Ask::new(Method::POST, &jobs).json(&body), status, code).await;
    }
}
