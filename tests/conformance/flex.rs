//! A flex cluster: its snapshots, a restore of one, and a link that is good for four hours.

use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};
use crate::support::text;

const UNKNOWN: &str = "0123456789abcdef01234567";

/// Drives everything about a flex cluster by one way of authentication. The token of the link.
pub async fn of_a_cluster(world: &World, way: &str) -> String {
    let (owner, checker) = (world.owner(way), &world.checker);
    let get = |target: &str| Ask::new(Method::GET, target);
    let post = |target: &str, body: &Value| Ask::new(Method::POST, target).json(body);
    let backup = world.group("/flexClusters/flexible/backup");
    let own = world.own("/clusters/flexible/snapshots");
    let snapshot = text(&checker.ok(owner, post(&own, &json!({"retentionInDays": 1})), 201).await, "id");
    world.wait_for(owner, &format!("{own}/{snapshot}"), "completed").await;
    let shown = checker.ok(owner, get(&format!("{backup}/snapshots/{snapshot}")), 200).await;
    assert_eq!(shown["status"], "COMPLETED");
    let list = checker.ok(owner, get(&format!("{backup}/snapshots")), 200).await;
    assert_eq!(list["results"], json!([shown]));

    let jobs = format!("{backup}/restoreJobs");
    let body =
        |snapshot: &str, target: &str| json!({"snapshotId": snapshot, "targetDeploymentItemName": target});
    for (body, status, code) in [
        (body(UNKNOWN, "flexible"), 404, "TENANT_SNAPSHOT_NOT_FOUND"),
        (body("xyz", "flexible"), 400, "INVALID_ATTRIBUTE"),
        (body(&snapshot, "nobody"), 404, "CLUSTER_NOT_FOUND"),
        (body(&snapshot, "a b"), 400, "CLUSTER_NAME_INVALID"),
        (json!({"snapshotId": snapshot}), 400, "MISSING_ATTRIBUTE"),
    ] {
        checker.refused(owner, post(&jobs, &body), status, code).await;
    }
    let asked = checker.ok(owner, post(&jobs, &body(&snapshot, "flexible")), 200).await;
    let id = text(&asked, "id");
    world.wait_for(owner, &world.own(&format!("/clusters/flexible/restoreJobs/{id}")), "finished").await;
    let done = checker.ok(owner, get(&format!("{jobs}/{id}")), 200).await;
    assert_eq!((&done["status"], &done["deliveryType"]), (&json!("COMPLETED"), &json!("RESTORE")));

    let download = format!("{backup}/download");
    let body = json!({"snapshotId": snapshot});
    checker.refused(owner, post(&download, &json!({})), 400, "MISSING_ATTRIBUTE").await;
    let asked = checker.ok(owner, post(&download, &body), 200).await;
    let id = text(&asked, "id");
    let one = world.own(&format!("/clusters/flexible/restoreJobs/{id}"));
    world.wait_for(owner, &one, "ready").await;
    let ready = checker.ok(owner, get(&format!("{jobs}/{id}")), 200).await;
    let url = text(&ready, "snapshotUrl");
    let target = url.strip_prefix(&world.ebbtide.url()).unwrap();
    for _ in 0..2 {
        let fetched = checker.plain(&get(target)).await;
        assert_eq!((fetched.status, fetched.body.get(..2)), (200, Some(&[0x1f, 0x8b][..])));
    }
    let list = checker.ok(owner, get(&jobs), 200).await;
    assert_eq!(text(&list["results"][0], "id"), id, "newest first");
    checker.follow_links(owner).await;
    checker.ok(owner, Ask::new(Method::DELETE, &one), 204).await;
    checker.ok(owner, Ask::new(Method::DELETE, &format!("{own}/{snapshot}")), 204).await;
    checker.is_gone(&snapshot);
    url.split('/').rev().nth(1).unwrap().to_owned()
}
