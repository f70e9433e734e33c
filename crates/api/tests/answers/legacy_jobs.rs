//! Restores that are asked for in legacy words: of which state, where to, and for how long and how often a link is good.
#![allow(clippy::unwrap_used)]

use crate::{common, points_in_time::recorded};

use common::{App, Request, http::sha256_hex, recorder::second};
use model::{DeploymentKind, restore::RestoreState, role::Role};
use serde_json::{Value, json};

const UNKNOWN: &str = "32b6e34b3d91647abb20e7b8";
const HOUR: i64 = 3_600;

fn path(app: &App) -> String {
    app.group("/clusters/c1/restoreJobs")
}

fn http(snapshot: &catalog::Snapshot) -> Value {
    json!({"snapshotId": snapshot.id.to_string(), "delivery": {"methodName": "HTTP"}})
}

fn automated(app: &App) -> Value {
    json!({"delivery": {
        "methodName": "AUTOMATED_RESTORE",
        "targetClusterName": "c1",
        "targetGroupId": app.project.id.to_string(),
    }})
}

/// The one job of an answer.
fn only(answer: &Value) -> &Value {
    assert_eq!((answer["results"].as_array().unwrap().len(), &answer["totalCount"]), (1, &json!(1)));
    &answer["results"][0]
}

/// The link of a job, once it is ready.
async fn link(app: &App, id: &Value) -> String {
    let one = format!("{}/{}", path(app), id.as_str().unwrap());
    let shown = app.get(&one).await.expect(200);
    let url = shown["delivery"]["url"].as_str().unwrap_or_else(|| panic!("{shown}"));
    url.strip_prefix("http://api.test:8080").unwrap().to_owned()
}

async fn fetch(app: &App, link: &str) -> common::Response {
    app.plain(Request::new("GET", link)).await
}

/// Waits until the catalog has counted so many complete downloads.
async fn counted(app: &App, id: &Value, downloads: u64) -> catalog::RestoreJob {
    let id = id.as_str().unwrap().parse().unwrap();
    loop {
        let found = app.catalog.restores().get(id).await.unwrap().unwrap();
        if found.downloads == downloads {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_link_is_good_for_as_many_downloads_and_as_long_as_was_asked() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let mut body = http(&snapshot);
    body["delivery"]["expirationHours"] = 5.into();
    body["delivery"]["maxDownloads"] = 3.into();
    let asked = app.post(&path(&app), body).await.expect(200);
    let asked = only(&asked).clone();
    assert_eq!(
        asked["delivery"],
        json!({"expirationHours": 5, "maxDownloads": 3, "methodName": "HTTP", "statusName": "NOT_STARTED"})
    );
    app.finish_download(b"the archive").await;
    let one = format!("{}/{}", path(&app), asked["id"].as_str().unwrap());
    let ready = app.get(&one).await.expect(200);
    assert_eq!(
        (&ready["statusName"], &ready["delivery"]["statusName"]),
        (&json!("FINISHED"), &json!("READY"))
    );
    assert_eq!(ready["delivery"]["expires"], "2025-11-22T05:00:00Z");
    assert_eq!(ready["hashes"][0]["typeName"], "SHA1");
    let link = link(&app, &asked["id"]).await;
    app.pass_seconds(4 * HOUR);
    for downloads in 1..=3 {
        let head = app.plain(Request::new("HEAD", &link)).await;
        assert_eq!(head.status, 200, "it is good for {downloads}");
        let fetched = fetch(&app, &link).await;
        assert_eq!((fetched.status, sha256_hex(&fetched.body)), (200, sha256_hex(b"the archive")));
        // Its time is not over: not even in the moment in which the server knows of the last one, and the catalog does not yet.
        assert_ne!(app.get(&one).await.expect(200)["delivery"]["statusName"], "EXPIRED");
        let job = counted(&app, &asked["id"], downloads).await;
        assert_eq!(job.state == RestoreState::Expired, downloads == 3);
    }
    fetch(&app, &link).await.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
    let used = app.get(&one).await.expect(200);
    assert_eq!(used["delivery"]["statusName"], "MAX_DOWNLOADS_EXCEEDED");
    assert!(used["delivery"].get("url").is_none());
    // The same job, on the page of today.
    let newer =
        app.get(&app.backup(&format!("/restoreJobs/{}", asked["id"].as_str().unwrap()))).await.expect(200);
    assert_eq!((&newer["deliveryType"], &newer["expired"]), (&json!("download"), &json!(true)));
    app.stop().await;
}

#[tokio::test]
async fn a_link_ends_with_its_time_whatever_is_left_of_it() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let mut body = http(&snapshot);
    body["delivery"]["maxDownloads"] = 9.into();
    let asked = app.post(&path(&app), body).await.expect(200);
    let asked = only(&asked);
    assert_eq!(
        (&asked["delivery"]["expirationHours"], &asked["delivery"]["maxDownloads"]),
        (&json!(48), &json!(9))
    );
    app.finish_download(b"x").await;
    let link = link(&app, &asked["id"]).await;
    app.pass_seconds(48 * HOUR - 1);
    assert_eq!(fetch(&app, &link).await.status, 200);
    counted(&app, &asked["id"], 1).await;
    app.pass_seconds(1);
    fetch(&app, &link).await.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
    app.catalog.restores().expire_due(app.now()).await.unwrap();
    let shown = app.get(&path(&app)).await.expect(200);
    assert_eq!(only(&shown)["delivery"]["statusName"], "EXPIRED", "it was not used up");
    // Without a word about it a link is used once.
    let asked = app.post(&path(&app), http(&snapshot)).await.expect(200);
    assert_eq!(only(&asked)["delivery"]["maxDownloads"], 1);
    app.stop().await;
}

#[tokio::test]
async fn half_a_download_twice_is_one_and_a_half_is_none() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let mut body = http(&snapshot);
    body["delivery"]["maxDownloads"] = 2.into();
    let asked = app.post(&path(&app), body).await.expect(200);
    let id = only(&asked)["id"].clone();
    app.finish_download(b"0123456789").await;
    let link = link(&app, &id).await;
    let part = async |range: &str| {
        let request = Request::new("GET", &link).header("Range", range);
        app.plain(request).await
    };
    for count in 1..=2 {
        assert_eq!(part("bytes=0-4").await.status, 206);
        assert_eq!(part("bytes=0-4").await.status, 206, "the same half again is nothing new");
        assert_eq!(part("bytes=5-9").await.status, 206);
        counted(&app, &id, count).await;
    }
    part("bytes=0-4").await.refused(410, "CANNOT_DOWNLOAD_EXPIRED_JOB");
    app.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_loaded_into_a_cluster_told_by_name_or_id() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let mut body = automated(&app);
    body["snapshotId"] = snapshot.id.to_string().into();
    let mut by_id = body.clone();
    by_id["delivery"].as_object_mut().unwrap().remove("targetClusterName");
    by_id["delivery"]["targetClusterId"] = app.cluster.id.to_string().into();
    let mut by_both = body.clone();
    by_both["delivery"]["targetClusterId"] = app.cluster.id.to_string().into();
    for body in [body.clone(), by_id, by_both] {
        let asked = app.post(&path(&app), body).await.expect(200);
        let job = only(&asked);
        assert_eq!(
            job["delivery"],
            json!({
                "methodName": "AUTOMATED_RESTORE",
                "statusName": "NOT_STARTED",
                "targetClusterId": app.cluster.id.to_string(),
                "targetClusterName": "c1",
                "targetGroupId": app.project.id.to_string(),
            })
        );
        assert_eq!(asked["links"][0]["rel"], "self");
        let one = app.backup(&format!("/restoreJobs/{}", job["id"].as_str().unwrap()));
        assert_eq!(app.get(&one).await.expect(200)["deliveryType"], "automated");
        app.delete(&one).await.expect(204);
    }
    let other = app.add("c2", DeploymentKind::ReplicaSet).await;
    for (id, status, code) in [
        (other.id.to_string(), 400, "VALIDATION_ERROR"),
        (UNKNOWN.to_owned(), 404, "CLUSTER_NOT_FOUND"),
        ("xyz".to_owned(), 404, "INVALID_CLUSTER_ID"),
    ] {
        let mut body = body.clone();
        body["delivery"]["targetClusterId"] = id.into();
        app.post(&path(&app), body).await.refused(status, code);
    }
    body["delivery"]["targetGroupId"] = UNKNOWN.into();
    body["delivery"]["targetClusterId"] = app.cluster.id.to_string().into();
    app.post(&path(&app), body).await.refused(403, "CANNOT_RESTORE_TO_TARGET");
    app.stop().await;
}

#[tokio::test]
async fn a_point_in_time_is_told_in_milliseconds_or_by_its_operation() {
    let app = App::start().await;
    let (_, [_, last]) = recorded(&app).await;
    let seconds = i64::from(second(200, 0).seconds);
    let cases = [
        (json!({"pointInTimeUTCMillis": seconds * 1_000}), json!({"pointInTimeUTCSeconds": seconds}), 0),
        (
            json!({"oplogTs": "2025-11-22T00:03:20Z", "oplogInc": 7}),
            json!({"oplogTs": seconds, "oplogInc": 7}),
            7,
        ),
        (json!({"oplogTs": "2025-11-22T01:03:20+01:00", "oplogInc": 7}), json!({"oplogTs": seconds}), 7),
    ];
    for (words, newer, increment) in cases {
        let mut body = automated(&app);
        body.as_object_mut().unwrap().extend(words.as_object().unwrap().clone());
        let asked = app.post(&path(&app), body).await.expect(200);
        let job = only(&asked);
        assert_eq!(job["timestamp"], json!({"date": "2025-11-22T00:03:20Z", "increment": increment}));
        assert_eq!(job["snapshotId"], last.id.to_string());
        let one = app.backup(&format!("/restoreJobs/{}", job["id"].as_str().unwrap()));
        let shown = app.get(&one).await.expect(200);
        for (name, value) in newer.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{name}");
        }
        app.delete(&one).await.expect(204);
    }
    let refused = async |words: Value, status: u16, code: &str| {
        let mut body = automated(&app);
        body.as_object_mut().unwrap().extend(words.as_object().unwrap().clone());
        app.post(&path(&app), body).await.refused(status, code);
    };
    refused(json!({"pointInTimeUTCMillis": seconds * 1_000 + 1}), 400, "FRACTIONAL_TIMESTAMP").await;
    refused(json!({"pointInTimeUTCMillis": seconds as f64}), 400, "FRACTIONAL_TIMESTAMP").await;
    refused(json!({"pointInTimeUTCMillis": seconds}), 400, "INVALID_ATTRIBUTE").await;
    refused(json!({"pointInTimeUTCMillis": i64::MAX / 1_000 * 1_000}), 400, "INVALID_ATTRIBUTE").await;
    refused(json!({"pointInTimeUTCMillis": (seconds + 900) * 1_000}), 400, "INVALID_PIT_RESTORE_TIME").await;
    refused(json!({"oplogTs": "2025-11-22T00:03:20Z"}), 400, "MISSING_ATTRIBUTE").await;
    refused(json!({"oplogInc": 7}), 400, "MISSING_ATTRIBUTE").await;
    refused(json!({"oplogTs": "2025-11-22T00:03:20Z", "oplogInc": 0}), 400, "INVALID_ATTRIBUTE").await;
    refused(json!({"oplogTs": "2025-11-22T00:03:20.5Z", "oplogInc": 7}), 400, "FRACTIONAL_TIMESTAMP").await;
    refused(json!({"oplogTs": "2025-11-22", "oplogInc": 7}), 400, "INVALID_DATE_FORMAT").await;
    refused(json!({"oplogTs": seconds, "oplogInc": 7}), 400, "INVALID_JSON_ATTRIBUTE").await;
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_delivered_is_refused_with_what_is() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let good = http(&snapshot);
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        body
    };
    let mut loaded = automated(&app);
    loaded["snapshotId"] = snapshot.id.to_string().into();
    let load = |name: &str, value: Value| {
        let mut body = loaded.clone();
        body["delivery"][name] = value;
        body
    };
    let method = |name: &str| with("/delivery/methodName", json!(name));
    for (body, status, code) in [
        (method("CLIENT_PIT_HTTP"), 400, "LEGACY_PIT_RESTORE_UNSUPPORTED"),
        (method("CLIENT_PIT_SCP"), 400, "LEGACY_PIT_RESTORE_UNSUPPORTED"),
        (method("SCP"), 400, "INVALID_DELIVERY_SCP"),
        (method("QUERY"), 400, "UNSUPPORTED_DELIVERY_METHOD"),
        (method("THIRD_PARTY_COPY"), 400, "UNSUPPORTED_DELIVERY_METHOD"),
        (method("http"), 400, "INVALID_ENUM_VALUE"),
        (with("/delivery", json!(null)), 400, "MISSING_ATTRIBUTE"),
        (with("/delivery", json!({})), 400, "MISSING_ATTRIBUTE"),
        (with("/delivery", json!("HTTP")), 400, "INVALID_JSON_ATTRIBUTE"),
        (with("/delivery/surprise", json!(1)), 400, "INVALID_ATTRIBUTE"),
        (with("/surprise", json!(1)), 400, "INVALID_ATTRIBUTE"),
        (with("/snapshotId", json!(null)), 400, "MISSING_ONE_OF_MANY_ATTRIBUTES"),
        (with("/snapshotId", json!("xyz")), 400, "INVALID_ATTRIBUTE"),
        (with("/snapshotId", json!(UNKNOWN)), 404, "SNAPSHOT_NOT_FOUND"),
        (with("/checkpointId", json!(UNKNOWN)), 400, "VALIDATION_ERROR"),
        (with("/pointInTimeUTCMillis", json!(1_763_769_600_000_i64)), 400, "VALIDATION_ERROR"),
        (with("/oplogInc", json!(1)), 400, "VALIDATION_ERROR"),
        (with("/delivery/expirationHours", json!(0)), 400, "INVALID_ATTRIBUTE"),
        (with("/delivery/expirationHours", json!(8_761)), 400, "INVALID_ATTRIBUTE"),
        (with("/delivery/expirationHours", json!(1.5)), 400, "INVALID_JSON_ATTRIBUTE"),
        (with("/delivery/maxDownloads", json!(0)), 400, "INVALID_ATTRIBUTE"),
        (with("/delivery/maxDownloads", json!(-1)), 400, "INVALID_ATTRIBUTE"),
        (load("maxDownloads", json!(2)), 400, "INVALID_ATTRIBUTE"),
        (load("expirationHours", json!(2)), 400, "INVALID_ATTRIBUTE"),
        (load("targetGroupId", json!(null)), 400, "MISSING_ATTRIBUTE"),
        (load("targetClusterName", json!(null)), 400, "MISSING_ONE_OF_ATTRIBUTES"),
        (load("targetClusterName", json!("nobody")), 404, "CLUSTER_NOT_FOUND"),
        (load("targetClusterName", json!("a b")), 400, "CLUSTER_NAME_INVALID"),
    ] {
        app.post(&path(&app), body).await.refused(status, code);
    }
    let checkpoint = json!({"checkpointId": UNKNOWN, "delivery": loaded["delivery"]});
    app.post(&path(&app), checkpoint).await.refused(400, "CHECKPOINT_RESTORE_UNSUPPORTED_FOR_REPLICA_SETS");
    let point = json!({"pointInTimeUTCMillis": 1_763_769_600_000_i64, "delivery": {"methodName": "HTTP"}});
    app.post(&path(&app), point).await.refused(400, "UNSUPPORTED_DELIVERY_METHOD");
    assert_eq!(app.get(&path(&app)).await.expect(200)["totalCount"], 0, "none of them was begun");

    for role in [Role::GroupBackupManager, Role::GroupReadOnly] {
        let key = app.key(&[role]).await;
        let request = Request::new("POST", &path(&app)).json(&good);
        app.send(&key, request).await.refused(403, "ACCESS_FORBIDDEN");
    }
    app.post(&path(&app), good.clone()).await.expect(200);
    app.post(&path(&app), good.clone()).await.refused(400, "CANNOT_DOWNLOAD_SNAPSHOT_CONCURRENTLY");
    app.stop().await;
}
