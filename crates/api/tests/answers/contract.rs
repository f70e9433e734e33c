//! What holds for every operation: versions, envelopes, pages, headers, errors, methods.
#![allow(clippy::unwrap_used)]

use ebbtide_api as api;

use crate::common;

use common::{ACCEPT, App, Request, http};
use model::{DeploymentKind, role::Role};
use serde_json::json;

#[tokio::test]
async fn d4_d6_versions_are_chosen_and_told() {
    let app = App::start().await;
    let path = app.group("/clusters/c1");
    for (accept, content_type, deprecated) in [
        ("application/vnd.atlas.2023-01-01+json", "2023-01-01", true),
        ("application/vnd.atlas.2024-05-30+json", "2023-02-01", true),
        ("application/vnd.atlas.2024-08-05+json", "2024-08-05", false),
        ("application/vnd.atlas.2025-03-12+json", "2024-08-05", false),
    ] {
        let response = app.send(&app.owner, Request::new("GET", &path).header("Accept", accept)).await;
        response.expect(200);
        let expected = format!("application/vnd.atlas.{content_type}+json;charset=utf-8");
        assert_eq!(response.header("content-type"), Some(expected.as_str()));
        assert_eq!(response.header("sunset").is_some(), deprecated, "{accept}");
        assert_eq!(response.header("deprecation").is_some(), deprecated, "{accept}");
    }
    for accept in [
        "*/*",
        "application/json",
        "application/vnd.atlas.2022-01-01+json",
        "application/vnd.atlas.preview+json",
    ] {
        let response = app.send(&app.owner, Request::new("GET", &path).header("Accept", accept)).await;
        response.refused(406, "INVALID_VERSION_DATE");
        assert_eq!(
            response.text(),
            r#"{"detail":"Invalid accept header or version date.","error":406,"errorCode":"INVALID_VERSION_DATE","parameters":[],"reason":"Not Acceptable"}"#
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn every_date_of_the_seeds_is_served() {
    let app = App::start().await;
    app.add("s1", DeploymentKind::Serverless).await;
    for (path, date) in [
        (app.backup("/restoreJobs/32b6e34b3d91647abb20e7b8"), "2025-03-12"),
        (app.backup("/restoreJobs/32b6e34b3d91647abb20e7b8"), "2024-11-13"),
        (app.backup("/restoreJobs"), "2024-05-30"),
        (app.group("/clusters/c1/restoreJobs?pretty=true"), "2024-11-13"),
        (app.group("/serverless/s1/backup/restoreJobs?pretty=true"), "2024-11-13"),
    ] {
        let accept = format!("application/vnd.atlas.{date}+json");
        let response = app.send(&app.owner, Request::new("GET", &path).header("Accept", &accept)).await;
        assert!(matches!(response.status, 200 | 404), "{path}: {response:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn d13_the_old_prefix_is_the_first_version_without_accept() {
    let app = App::start().await;
    let path = format!("/api/atlas/v1.0/groups/{}/clusters/c1", app.project.id);
    let response = app.send(&app.owner, Request::new("GET", &path).header("Accept", "*/*")).await;
    let body = response.expect(200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(body["providerBackupEnabled"], true);
    let path = format!("/api/atlas/v1.0/groups/{}/clusters/c1/backup/restoreJobs", app.project.id);
    app.send(&app.owner, Request::new("GET", &path).header("Accept", "text/html")).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn the_recorded_headers_are_on_every_answer() {
    let app = App::start().await;
    let good = app.get("/api/atlas/v2").await;
    let bad = app.get(&app.group("/clusters/nowhere")).await;
    let unknown = app.plain(Request::new("GET", "/api/atlas/v2")).await;
    for response in [&good, &bad, &unknown] {
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("x-permitted-cross-domain-policies", "none"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        ] {
            assert_eq!(response.header(name), Some(value), "{name}");
        }
        for name in [
            "strict-transport-security",
            "vary",
            "x-java-method",
            "x-envoy-upstream-service-time",
            "x-request-id",
        ] {
            assert!(response.header(name).is_some(), "{name}");
        }
    }
    let version = good.header("x-mongodb-service-version").unwrap();
    assert!(version.starts_with("gitHash=") && version.contains("; versionString="), "{version}");
    bad.refused(404, "CLUSTER_NOT_FOUND");
    app.stop().await;
}

#[tokio::test]
async fn envelopes_and_pretty_printing() {
    let app = App::start().await;
    let one = app.get(&app.group("/clusters/c1/status?envelope=true")).await;
    let expected = format!(
        r#"{{"status":200,"content":{{"changeStatus":"APPLIED","links":[{{"href":"http://api.test:8080{}","rel":"self"}}]}}}}"#,
        app.group("/clusters/c1/status")
    );
    assert_eq!(one.text(), expected);
    let list = app.get(&app.backup("/restoreJobs?envelope=true")).await.expect(200);
    assert_eq!((&list["status"], &list["totalCount"]), (&json!(200), &json!(0)));
    assert!(list.get("content").is_none());
    let error = app.get(&app.group("/clusters/zz?envelope=true")).await;
    assert_eq!(error.status, 404, "the HTTP status stays");
    assert_eq!(error.json()["status"], 404);
    assert_eq!(error.json()["content"]["errorCode"], "CLUSTER_NOT_FOUND");
    let pretty = app.get(&app.group("/clusters/c1/status?pretty=true")).await;
    assert!(
        pretty.text().starts_with("{\n  \"changeStatus\" : \"APPLIED\",\n  \"links\" : [ {\n    \"href\" : "),
        "{}",
        pretty.text()
    );
    for bad in ["envelope=x", "pretty=1"] {
        let body = app
            .get(&app.group(&format!("/clusters/c1/status?{bad}")))
            .await
            .refused(400, "INVALID_QUERY_PARAMETER");
        assert_eq!(body["parameters"], json!([bad.split('=').next().unwrap()]));
    }
    app.stop().await;
}

#[tokio::test]
async fn the_error_body_is_sorted_and_complete() {
    let app = App::start().await;
    let response = app.get(&app.group("/clusters/cluster-x")).await;
    assert_eq!(
        response.text(),
        format!(
            r#"{{"detail":"No cluster named cluster-x exists in group {0}.","error":404,"errorCode":"CLUSTER_NOT_FOUND","parameters":["cluster-x","{0}"],"reason":"Not Found"}}"#,
            app.project.id
        )
    );
    app.stop().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let app = App::start().await;
    app.get("/api/atlas/v2/nowhere").await.refused(404, "RESOURCE_NOT_FOUND");
    app.get("/api/nowhere").await.refused(404, "RESOURCE_NOT_FOUND");
    app.plain(Request::new("GET", "/favicon.ico")).await.refused(404, "RESOURCE_NOT_FOUND");
    let response = app.delete(&app.backup("/restoreJobs")).await;
    response.refused(405, "METHOD_NOT_ALLOWED");
    let mut allow: Vec<_> = response.header("allow").unwrap().split(',').map(str::trim).collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
    app.stop().await;
}

#[tokio::test]
async fn ids_are_checked_before_membership_and_existence() {
    let app = App::start().await;
    let unknown = "32b6e34b3d91647abb20e7b8";
    app.get("/api/atlas/v2/groups/xyz").await.refused(404, "INVALID_GROUP_ID");
    let body = app.get(&format!("/api/atlas/v2/groups/{unknown}")).await.refused(404, "GROUP_NOT_FOUND");
    assert_eq!(body["detail"], format!("No group with ID {unknown} exists."));
    app.get(&app.group("/clusters/a_b")).await.refused(404, "CLUSTER_NOT_FOUND");
    app.get(&app.backup("/restoreJobs/xyz")).await.refused(404, "INVALID_JOB_ID");
    app.get(&app.backup("/snapshots/XYZ")).await.refused(404, "INVALID_SNAPSHOT_ID");
    let body =
        app.get(&app.backup(&format!("/restoreJobs/{unknown}"))).await.refused(404, "RESTORE_JOB_NOT_FOUND");
    assert_eq!(body["detail"], format!("No restore job with ID {unknown} exists for cluster c1."));
    let body =
        app.get(&app.backup(&format!("/snapshots/{unknown}"))).await.refused(404, "SNAPSHOT_NOT_FOUND");
    assert_eq!(body["parameters"], json!([unknown, "c1"]));
    app.stop().await;
}

#[tokio::test]
async fn strangers_get_401_and_members_without_the_role_403() {
    let app = App::start().await;
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let stranger = app.key_in(&[Role::GroupOwner], Some(&other)).await;
    let path = app.backup("/restoreJobs");
    app.send(&stranger, Request::new("GET", &path)).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    for role in [Role::OrgMember, Role::OrgGroupCreator] {
        let member = app.key_in(&[role], None).await;
        app.send(&member, Request::new("GET", &path)).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
        assert_eq!(
            app.send(&member, Request::new("GET", "/api/atlas/v2/groups")).await.expect(200)["totalCount"],
            0
        );
    }
    let reader = app.key(&[Role::GroupReadOnly]).await;
    app.send(&reader, Request::new("GET", &path)).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&reader, Request::new("GET", &app.group("/clusters/c1/restoreJobs"))).await.expect(200);
    for role in [Role::GroupBackupManager, Role::GroupBackupRecoveryOperator, Role::GroupBackupExportOperator]
    {
        let key = app.key(&[role]).await;
        app.send(&key, Request::new("GET", &path)).await.expect(200);
    }
    let organization = app.key_in(&[Role::OrgOwner], None).await;
    app.send(&organization, Request::new("GET", &path)).await.expect(200);
    // The order: role before parent.
    app.send(&reader, Request::new("GET", &app.group("/clusters/zz/backup/restoreJobs")))
        .await
        .refused(403, "ACCESS_FORBIDDEN");
    app.stop().await;
}

#[tokio::test]
async fn what_reconcilers_did_is_told_to_owners_of_the_organization_only() {
    let app = App::start().await;
    let path = "/api/ebbtide/v1/status";
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let stranger = app.key_in(&[Role::GroupReadOnly], Some(&other)).await;
    let reader = app.key_in(&[Role::OrgReadOnly], None).await;
    for key in [&stranger, &reader, &app.owner] {
        let status = app.send(key, Request::new("GET", path)).await;
        assert!(!status.text().contains("db1.example"), "{}", status.text());
        let shown = json!({"name": "reaper", "lastRunAt": "2026-01-02T03:04:05Z", "runs": 3, "failures": 1});
        assert_eq!(status.expect(200)["engine"], json!({"reconcilers": [shown]}));
    }
    let organization = app.key_in(&[Role::OrgOwner], None).await;
    let status = app.send(&organization, Request::new("GET", path)).await.expect(200);
    let reaper = &status["engine"]["reconcilers"][0];
    assert_eq!(reaper["did"]["left"][0]["hindrance"], "db1.example is away");
    assert_eq!(reaper["error"], "the error names db1.example");
    app.stop().await;
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let app = App::start().await;
    let get = app.get("/api/atlas/v2").await;
    let head = app.send(&app.owner, Request::new("HEAD", "/api/atlas/v2")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    app.stop().await;
}

#[tokio::test]
async fn d5_bodies_by_any_json_name_and_nothing_else() {
    let app = App::start().await;
    let path = app.backup("/restoreJobs");
    for name in [
        "application/json",
        "application/vnd.atlas.2023-01-01+json",
        "application/vnd.atlas.2025-03-12+json; charset=utf-8",
    ] {
        let request = Request::new("POST", &path).body(name, "{}");
        app.send(&app.owner, request).await.refused(400, "MISSING_ATTRIBUTE");
    }
    let form = Request::new("POST", &path).body("application/x-www-form-urlencoded", "a=b");
    app.send(&app.owner, form).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    for body in ["", "{", "[]", "null"] {
        let request = Request::new("POST", &path).body("application/json", body);
        app.send(&app.owner, request).await.refused(400, "MALFORMED_JSON");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_the_server_lives() {
    let app = App::start().await;
    let path = app.backup("/restoreJobs");
    let nonce = http::nonce(&app.plain(Request::new("GET", "/api/atlas/v2")).await);
    let request = Request::new("POST", &path)
        .header("Accept", ACCEPT)
        .header("Authorization", &http::answer(&app.owner, "POST", &path, &nonce, 1))
        .body("application/json", vec![b' '; 140_000]);
    app.plain(request).await.refused(413, "PAYLOAD_TOO_LARGE");
    app.get("/api/atlas/v2").await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn d7_flex_paths_say_what_the_atlas_cli_waits_for() {
    let app = App::start().await;
    let id = "32b6e34b3d91647abb20e7b8";
    for rest in [
        "/flexClusters/c1".to_owned(),
        "/flexClusters/c1/backup/restoreJobs".to_owned(),
        format!("/flexClusters/c1/backup/restoreJobs/{id}"),
        format!("/flexClusters/c1/backup/snapshots/{id}"),
    ] {
        app.get(&app.group(&rest)).await.refused(400, "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API");
    }
    app.post(&app.group("/flexClusters/c1/backup/restoreJobs"), json!({}))
        .await
        .refused(400, "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API");
    app.get(&app.group("/flexClusters/zz/backup/restoreJobs")).await.refused(404, "CLUSTER_NOT_FOUND");
    assert_eq!(app.get(&app.group("/flexClusters")).await.expect(200)["totalCount"], 0);
    // Flex has a version of its own, and none before it.
    let old = Request::new("GET", &app.group("/flexClusters/c1"))
        .header("Accept", "application/vnd.atlas.2023-01-01+json");
    app.send(&app.owner, old).await.refused(406, "INVALID_VERSION_DATE");
    app.stop().await;
}

#[tokio::test]
async fn d8_links_follow_the_host_or_the_public_url() {
    let app = App::start().await;
    let body = app.get(&app.group("")).await.expect(200);
    assert_eq!(
        body["links"][0]["href"],
        format!("http://api.test:8080/api/atlas/v2/groups/{}", app.project.id)
    );
    app.stop().await;
    let app = App::start_with(|settings| settings.public_url = Some("https://backup.example/".into())).await;
    let body = app.get(&app.group("")).await.expect(200);
    assert_eq!(
        body["links"][0]["href"],
        format!("https://backup.example/api/atlas/v2/groups/{}", app.project.id)
    );
    let list = app.get(&app.backup("/restoreJobs")).await.expect(200);
    let href = format!("https://backup.example{}?pageNum=1&itemsPerPage=100", app.backup("/restoreJobs"));
    assert_eq!(list["links"], json!([{"href": href, "rel": "self"}]));
    app.stop().await;
}

#[tokio::test]
async fn what_was_made_is_found_where_the_answer_says() {
    let app = App::start().await;
    let snapshot = app.snapshot().await;
    let restore = json!({
        "collections": [{"sourceNamespace": "db.c"}], "indexStrategy": "ALL", "snapshotId": snapshot.id.to_string(),
        "targetClusterName": "c1", "targetGroupId": app.project.id.to_string(), "writeStrategy": "CREATE_NEW",
    });
    for (path, body) in [
        (app.group("/clusters/c1/collectionRestoreJobs"), restore),
        (app.own("/clusters/c1/snapshots"), json!({"retentionInDays": 1})),
    ] {
        let made = app.post(&path, body).await;
        let location = made.header("location").unwrap().to_owned();
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        assert_eq!(location, format!("http://api.test:8080{path}/{id}"));
        let found = app.get(location.strip_prefix("http://api.test:8080").unwrap()).await.expect(200);
        assert_eq!(found["id"], id);
    }
    // Atlas answers these with 200, and without a place.
    let taken = app
        .post(
            &app.backup("/restoreJobs"),
            json!({"deliveryType": "download", "snapshotId": snapshot.id.to_string()}),
        )
        .await;
    assert_eq!((taken.status, taken.header("location")), (200, None));
    app.stop().await;
}

#[tokio::test]
async fn errors_are_laid_out_and_enveloped_like_answers() {
    let app = App::start().await;
    let missing = app.group("/clusters/nobody/snapshots");
    let plain = app.get(&missing).await.refused(404, "CLUSTER_NOT_FOUND");
    let enveloped = app.get(&format!("{missing}?envelope=true")).await;
    assert_eq!(enveloped.status, 404, "the status stays beside the envelope");
    assert_eq!(enveloped.json(), json!({"content": plain, "status": 404}));
    let pretty = app.get(&format!("{missing}?pretty=true")).await;
    assert!(pretty.text().starts_with("{\n  \"detail\" : "), "{}", pretty.text());
    let both = app.get(&format!("{missing}?envelope=true&pretty=true")).await;
    assert_eq!(both.json(), enveloped.json());
    // 204 has no body to put into an envelope.
    let snapshot = app.snapshot().await;
    let gone = app.delete(&app.group(&format!("/clusters/c1/snapshots/{}?envelope=true", snapshot.id))).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(gone.header("deprecation"), Some("Mon, 23 Mar 2020 00:00:00 GMT"));
    app.stop().await;
}

#[tokio::test]
async fn d14_sunset_resources_go_on_with_their_dates() {
    let app = App::start().await;
    app.add("s1", DeploymentKind::Serverless).await;
    let serverless = app.get(&app.group("/serverless/s1/backup/restoreJobs")).await;
    serverless.expect(200);
    assert_eq!(serverless.header("sunset"), Some("Thu, 22 Jan 2026 00:00:00 GMT"));
    assert!(serverless.header("deprecation").is_some());
    let legacy = app.get(&app.group("/clusters/c1/restoreJobs")).await;
    legacy.expect(200);
    assert!(legacy.header("deprecation").is_some());
    app.stop().await;
}

#[tokio::test]
async fn the_rate_limit_is_told_and_kept() {
    let limits = api::RateLimits { backups: api::Bucket::per_minute(3, 1), ..api::RateLimits::default() };
    let app = App::start_with(|settings| settings.rate_limits = Some(limits)).await;
    let path = app.backup("/restoreJobs");
    for left in ["2", "1", "0"] {
        let response = app.get(&path).await;
        response.expect(200);
        assert_eq!(response.header("ratelimit-limit"), Some("3"));
        assert_eq!(response.header("ratelimit-remaining"), Some(left));
    }
    let response = app.get(&path).await;
    let body = response.refused(429, "RATE_LIMITED_TOKEN_BUCKET");
    assert_eq!(body["parameters"], json!([path.trim_start_matches('/'), 60, 3, 1, 60]));
    assert_eq!(response.header("retry-after"), Some("60"));
    // Before the version and everything after it, but after who is asking.
    app.send(&app.owner, Request::new("GET", &path).header("Accept", "*/*"))
        .await
        .refused(429, "RATE_LIMITED_TOKEN_BUCKET");
    assert_eq!(app.plain(Request::new("GET", &path)).await.status, 401);
    // A stranger cannot use up the project's allowance, and other endpoints have their own.
    app.get(&app.group("/clusters/c1")).await.expect(200);
    app.pass_seconds(60);
    app.get(&path).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn groups_and_clusters_are_those_that_the_caller_may_see() {
    let app = App::start().await;
    let other = app.catalog.projects().create("p2", app.now()).await.unwrap();
    let listed = app.get("/api/atlas/v2/groups").await.expect(200);
    assert_eq!((&listed["totalCount"], &listed["results"][0]["name"]), (&json!(1), &json!("p1")));
    assert_eq!(listed["results"][0]["clusterCount"], 1);
    let all = app.key_in(&[Role::OrgReadOnly], None).await;
    let everything =
        app.send(&all, Request::new("GET", "/api/atlas/v2/groups?itemsPerPage=1")).await.expect(200);
    assert_eq!(everything["totalCount"], 2);
    assert_eq!(everything["links"][1]["rel"], "next");
    app.get("/api/atlas/v2/groups/byName/p1").await.expect(200);
    app.get("/api/atlas/v2/groups/byName/p2").await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    app.get("/api/atlas/v2/groups/byName/p3").await.refused(404, "GROUP_NAME_NOT_FOUND");
    app.get(&format!("/api/atlas/v2/groups/{}", other.id)).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    let cluster = app.get(&app.group("/clusters/c1")).await.expect(200);
    assert_eq!((&cluster["stateName"], &cluster["mongoDBVersion"]), (&json!("IDLE"), &json!("6.0.5")));
    assert_eq!(app.get(&app.group("/clusters")).await.expect(200)["totalCount"], 1);
    app.get(&app.group("/clusters/c1/processArgs")).await.expect(200);
    let orgs = app.get("/api/atlas/v2/orgs").await.expect(200);
    let org = orgs["results"][0]["id"].as_str().unwrap();
    app.get(&format!("/api/atlas/v2/orgs/{org}")).await.expect(200);
    let root = app.get("/api/atlas/v2/").await.expect(200);
    assert_eq!(root["appName"], "MongoDB Atlas");
    assert_eq!(root["apiKey"]["publicKey"], app.owner.public.as_str());
    app.stop().await;
}
