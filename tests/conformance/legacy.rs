//! Legacy Backup: the same snapshots, schedule and restore jobs on the pages from before Cloud Backup.

use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};
use crate::support::text;

fn get(target: &str) -> Ask {
    Ask::new(Method::GET, target)
}

fn post(target: &str, body: &Value) -> Ask {
    Ask::new(Method::POST, target).json(body)
}

fn patch(target: &str, body: &Value) -> Ask {
    Ask::new(Method::PATCH, target).json(body)
}

/// The schedule of a deployment that has none, which it has none of again afterwards; and no checkpoints.
pub async fn schedule(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/clusters/main/snapshotSchedule");
    checker.refused(owner, get(&path), 404, "BACKUP_CONFIG_NOT_FOUND").await;
    let whole = json!({
        "dailySnapshotRetentionDays": 7, "monthlySnapshotRetentionMonths": 13, "snapshotIntervalHours": 12,
        "snapshotRetentionDays": 3, "weeklySnapshotRetentionWeeks": 4,
    });
    let set = checker.ok(owner, patch(&path, &whole), 200).await;
    assert_eq!(checker.ok(owner, get(&path), 200).await, set);
    assert_eq!(checker.ok(owner, patch(&path, &set), 200).await, set, "what was shown comes back");
    for (body, code) in [
        (json!({"snapshotIntervalHours": 5}), "INVALID_SNAPSHOT_SCHEDULE"),
        (json!({"clusterCheckpointIntervalMin": 60}), "INVALID_CLUSTER_CHECKPOINT_INTERVAL"),
        (json!({"pointInTimeWindowHours": 24}), "CANNOT_SET_POINT_IN_TIME_WINDOW"),
    ] {
        checker.refused(owner, patch(&path, &body), 400, code).await;
    }
    let newer = world.group("/clusters/main/backup/schedule");
    let shown = checker.ok(owner, get(&newer), 200).await;
    assert_eq!(shown["policies"][0]["policyItems"].as_array().unwrap().len(), 4, "{shown}");
    checker.follow_links(owner).await;
    checker.ok(owner, Ask::new(Method::DELETE, &newer), 200).await;
    let checkpoints = checker.ok(owner, get(&world.group("/clusters/main/backupCheckpoints")), 200).await;
    assert_eq!(checkpoints["results"], json!([]));
}

/// A completed snapshot on its legacy pages, kept and let go again.
pub async fn snapshot(world: &World, way: &str, snapshot: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/clusters/main/snapshots");
    let one = format!("{path}/{snapshot}");
    let list = checker.ok(owner, get(&path), 200).await;
    assert_eq!(text(&list["results"][0], "id"), snapshot, "newest first");
    checker.ok(owner, get(&format!("{path}?completed=all")), 200).await;
    let shown = checker.ok(owner, get(&one), 200).await;
    assert_eq!((&shown["complete"], &shown["parts"][0]["typeName"]), (&json!(true), &json!("REPLICA_SET")));
    checker.refused(owner, patch(&one, &json!({})), 400, "MISSING_ONE_OF_ATTRIBUTES").await;
    checker.ok(owner, patch(&one, &json!({"doNotDelete": true})), 200).await;
    for kept in [&one, &world.group(&format!("/clusters/main/backup/snapshots/{snapshot}"))] {
        checker.refused(owner, Ask::new(Method::DELETE, kept), 403, "CANNOT_MODIFY_SNAPSHOT").await;
    }
    let free = checker.ok(owner, patch(&one, &json!({"doNotDelete": false})), 200).await;
    assert!(free.get("expires").is_none(), "{free}");
    let expires = json!({"expires": text(&shown, "expires")});
    assert_eq!(checker.ok(owner, patch(&one, &expires), 200).await, shown, "as it was");
    checker.follow_links(owner).await;
}

/// A snapshot is loaded, and fetched twice at a link that is good for two downloads. The link's token.
pub async fn restores(world: &World, way: &str, snapshot: &str) -> String {
    let path = world.group("/clusters/main/restoreJobs");
    let (owner, checker) = (world.owner(way), &world.checker);
    let load = json!({"snapshotId": snapshot, "delivery": {
        "methodName": "AUTOMATED_RESTORE", "targetClusterName": "main", "targetGroupId": world.ebbtide.project,
    }});
    let asked = checker.ok(owner, post(&path, &load), 200).await;
    let id = text(&asked["results"][0], "id");
    world.wait_for(owner, &world.own(&format!("/clusters/main/restoreJobs/{id}")), "finished").await;
    let done = checker.ok(owner, get(&format!("{path}/{id}")), 200).await;
    assert_eq!(done["statusName"], "FINISHED");

    let mut fetch = json!({"snapshotId": snapshot, "delivery": {
        "methodName": "HTTP", "expirationHours": 72, "maxDownloads": 2,
    }});
    let asked = checker.ok(owner, post(&path, &fetch), 200).await;
    let id = text(&asked["results"][0], "id");
    world.wait_for(owner, &world.own(&format!("/clusters/main/restoreJobs/{id}")), "ready").await;
    let one = format!("{path}/{id}");
    let ready = checker.ok(owner, get(&one), 200).await;
    let url = text(&ready["delivery"], "url");
    let target = url.strip_prefix(&world.ebbtide.url()).unwrap();
    let first = checker.plain(&get(target)).await;
    assert_eq!((first.status, first.body.get(..2)), (200, Some(&[0x1f, 0x8b][..])));
    let second = checker.plain(&get(target)).await;
    assert_eq!((second.status, second.body == first.body), (200, true), "it is good for two");
    let began = std::time::Instant::now();
    while checker.plain(&Ask::new(Method::HEAD, target)).await.status == 200 {
        assert!(began.elapsed() < crate::support::PATIENCE, "the link is not used up");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let used = checker.ok(owner, get(&one), 200).await;
    assert_eq!(used["delivery"]["statusName"], "MAX_DOWNLOADS_EXCEEDED");
    for (method, code) in [
        ("CLIENT_PIT_HTTP", "LEGACY_PIT_RESTORE_UNSUPPORTED"),
        ("SCP", "INVALID_DELIVERY_SCP"),
        ("QUERY", "UNSUPPORTED_DELIVERY_METHOD"),
    ] {
        fetch["delivery"]["methodName"] = method.into();
        checker.refused(owner, post(&path, &fetch), 400, code).await;
    }
    let token = url.split('/').rev().nth(1).unwrap().to_owned();

    let snapshots = world.group("/clusters/main/backup/snapshots");
    let body = json!({"description": "to be deleted", "retentionInDays": 1});
    let another = text(&checker.ok(owner, post(&snapshots, &body), 200).await, "id");
    world.wait_for(owner, &world.own(&format!("/clusters/main/snapshots/{another}")), "completed").await;
    let one = world.group(&format!("/clusters/main/snapshots/{another}"));
    checker.ok(owner, Ask::new(Method::DELETE, &one), 204).await;
    checker.refused(owner, get(&one), 404, "SNAPSHOT_NOT_FOUND").await;
    checker.is_gone(&another);
    token
}
