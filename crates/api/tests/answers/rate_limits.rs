//! Rate limits as they are configured, and what a self-hosted server has none of.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{App, Request};
use ebbtide_api::{Bucket, RateLimits};
use model::role::Role;
use serde_json::json;

const LIST: &str = "/api/atlas/v2/rateLimits";
const UNKNOWN: &str = "32b6e34b3d91647abb20e7b8";

#[tokio::test]
async fn limits_are_told_as_they_are_configured() {
    let backups = Bucket { capacity: 77, refill: 5, period_seconds: 60 };
    let limits = RateLimits { backups, ..RateLimits::default() };
    let app = App::start_with(|settings| settings.rate_limits = Some(limits)).await;
    let list = app.get(LIST).await;
    assert_eq!(list.header("ratelimit-limit"), Some("10000"), "asking draws from a bucket too");
    let list = list.expect(200);
    assert_eq!(list["totalCount"], 2);
    let backups = &list["results"][0];
    assert_eq!(
        (&backups["endpointSetId"], &backups["endpointSetName"], &backups["scope"]),
        (&json!("cloudBackups_group"), &json!("Cloud Backups"), &json!("GROUP"))
    );
    assert_eq!(backups["capacity"], json!({"defaultValue": 1_200, "value": 77}));
    assert_eq!(backups["refillRate"], json!({"defaultValue": 500, "value": 5}));
    assert_eq!(backups["refillDurationSeconds"], json!({"value": 60}));
    let path = "/api/atlas/v2/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs";
    let endpoints = backups["endpoints"].as_array().unwrap();
    assert!(endpoints.contains(&json!({"method": "POST", "path": path})), "{endpoints:?}");
    assert!(endpoints.len() <= 100, "more than the schema allows are told of {}", endpoints.len());
    assert_eq!(list["results"][1]["capacity"], json!({"value": 10_000}));
    assert_eq!(&app.get(&format!("{LIST}/cloudBackups_group")).await.expect(200), backups);
    // What is told is what is held to.
    let told = app.get(&app.backup("/snapshots")).await;
    assert_eq!(told.header("ratelimit-limit"), Some("77"));
    app.stop().await;
}

#[tokio::test]
async fn sets_are_found_by_name_path_and_whom_they_are_about() {
    let app = App::start_with(|settings| settings.rate_limits = Some(RateLimits::default())).await;
    let group = app.project.id;
    for (query, found) in [
        (String::new(), 2),
        ("?name=Cloud%20Backups".to_owned(), 1),
        ("?name=Cloud%20Backups&name=Clusters".to_owned(), 2),
        ("?name=Nothing".to_owned(), 0),
        ("?endpointPath=%2Fapi%2Fatlas%2Fv2%2FrateLimits".to_owned(), 1),
        (format!("?groupId={group}"), 2),
        ("?userId=abcdefgh".to_owned(), 0),
        ("?ipAddress=127.0.0.1".to_owned(), 0),
        ("?itemsPerPage=1&pageNum=2".to_owned(), 1),
    ] {
        let list = app.get(&format!("{LIST}{query}")).await.expect(200);
        assert_eq!(list["results"].as_array().unwrap().len(), found, "{query}");
    }
    app.get(&format!("{LIST}?groupId=xyz")).await.refused(400, "INVALID_QUERY_PARAMETER");
    app.get(&format!("{LIST}?groupId={UNKNOWN}")).await.refused(404, "GROUP_NOT_FOUND");
    app.get(&format!("{LIST}/nothing")).await.refused(404, "RESOURCE_NOT_FOUND");
    let stranger = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let stranger = app.key_in(&[Role::GroupOwner], Some(&stranger)).await;
    for path in [LIST.to_owned(), format!("{LIST}/clusters_group")] {
        let about = Request::new("GET", &format!("{path}?groupId={group}"));
        app.send(&stranger, about).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
        app.send(&stranger, Request::new("GET", &path)).await.expect(200);
    }
    app.stop().await;
}

#[tokio::test]
async fn without_limits_there_are_none_to_tell() {
    let app = App::start().await;
    assert_eq!(app.get(LIST).await.expect(200)["results"], json!([]));
    app.get(&format!("{LIST}/cloudBackups_group")).await.refused(404, "RESOURCE_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn there_are_no_private_endpoints() {
    let app = App::start().await;
    let path = app.group("/backup/AWS/privateEndpoints");
    let one = format!("{path}/{UNKNOWN}");
    let body = json!({"cloudProvider": "AWS", "regionName": "US_EAST_1"});
    let unsupported = "UNSUPPORTED_FOR_CURRENT_CONFIG";
    app.get(&path).await.refused(403, unsupported);
    app.get(&one).await.refused(403, unsupported);
    app.delete(&one).await.refused(403, unsupported);
    let told = app.post(&path, body).await.refused(403, unsupported);
    assert!(told["detail"].as_str().unwrap().contains("in your own network"), "{told}");
    app.get(&app.group("/backup/NEBULA/privateEndpoints")).await.refused(404, "RESOURCE_NOT_FOUND");
    let manager = app.key(&[Role::GroupBackupManager]).await;
    app.send(&manager, Request::new("GET", &path)).await.refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn no_snapshot_is_of_a_sharded_cluster() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let path = app.backup("/snapshots/shardedClusters");
    let list = app.get(&format!("{path}?pageNum=0&itemsPerPage=x")).await.expect(200);
    let own = json!([{"href": format!("http://api.test:8080{path}"), "rel": "self"}]);
    assert_eq!(list, json!({"links": own, "results": [], "totalCount": 0}), "it has no pages");
    let one = app.backup(&format!("/snapshots/shardedCluster/{}", snapshot.id));
    // Shown it is, without members: the Terraform provider would go on asking for those of an error.
    let shown = app.get(&one).await.expect(200);
    assert_eq!((&shown["id"], &shown["type"]), (&json!(snapshot.id.to_string()), &json!("replicaSet")));
    assert_eq!((&shown["members"], &shown["snapshotIds"]), (&json!([]), &json!([])));
    let nobodys = app.backup("/snapshots/shardedCluster/32b6e34b3d91647abb20e7b8");
    app.get(&nobodys).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.delete(&one).await.refused(404, "SNAPSHOT_NOT_FOUND");
    app.get(&app.backup(&format!("/snapshots/{}", snapshot.id))).await.expect(200);
    app.stop().await;
}
