//! The life of snapshots and restore jobs, state by state: what is shown in each, and what is refused.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::{Account, Ask},
    collections, compliance, credentials, exports, flex, legacy, schedule,
    world::World,
};
use crate::support::text;

pub fn get(target: &str) -> Ask {
    Ask::new(Method::GET, target)
}

pub fn post(target: &str, body: Value) -> Ask {
    Ask::new(Method::POST, target).json(&body)
}

pub fn patch(target: &str, body: Value) -> Ask {
    Ask::new(Method::PATCH, target).json(&body)
}

pub fn delete(target: &str) -> Ask {
    Ask::new(Method::DELETE, target)
}

/// Drives everything that changes something, by one way of authentication.
pub async fn from_snapshot_to_restore(world: &mut World, way: &str) {
    nouns(world, way).await;
    schedule::of_a_deployment(world, way).await;
    legacy::schedule(world, way).await;
    let taken = snapshots_asked_for(world, way).await;
    snapshots_completed(world, way, &taken).await;
    legacy::snapshot(world, way, &taken.main).await;
    exports::of_a_snapshot(world, way, &taken.main).await;
    compliance::of_a_project(world, way, &taken.main).await;
    let jobs = restores_asked_for(world, way, &taken).await;
    restores_done(world, way, &taken, &jobs).await;
    oauth(world, way).await;
}

/// What exists before any backup: the root, organizations, projects, deployments.
async fn nouns(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let root = checker.ok(owner, get("/api/atlas/v2"), 200).await;
    assert_eq!(root["apiKey"]["roles"][0]["roleName"], "GROUP_OWNER");
    checker.ok(owner, get("/api/atlas/v2/"), 200).await;
    let organizations = checker.ok(owner, get("/api/atlas/v2/orgs"), 200).await;
    let organization = text(&organizations["results"][0], "id");
    checker.ok(owner, get(&format!("/api/atlas/v2/orgs/{organization}")), 200).await;
    let groups = checker.ok(owner, get("/api/atlas/v2/groups"), 200).await;
    assert_eq!(groups["totalCount"], 1, "others' projects are not shown: {groups}");
    checker.ok(owner, get(&world.group("")), 200).await;
    checker.ok(owner, get("/api/atlas/v2/groups/byName/shop"), 200).await;
    for date in ["2023-01-01", "2023-02-01", "2024-08-05", "2024-05-30"] {
        let list = checker.ok(owner, get(&world.group("/clusters")).date(date), 200).await;
        assert_eq!(list["results"][0]["name"], "main");
        checker.ok(owner, get(&world.group("/clusters/main")).date(date), 200).await;
    }
    checker.ok(owner, get(&world.group("/clusters/main/status")), 200).await;
    for date in ["2023-01-01", "2025-03-12"] {
        checker.ok(owner, get(&world.group("/clusters/main/processArgs")).date(date), 200).await;
    }
    let all = checker.ok(owner, get("/api/atlas/v2/clusters"), 200).await;
    assert_eq!(all["results"][0]["clusters"][0]["name"], "main");
    let flexible = checker.ok(owner, get(&world.group("/flexClusters")), 200).await;
    assert_eq!(flexible["results"][0]["name"], "flexible");
    checker.ok(owner, get(&world.group("/flexClusters/flexible")), 200).await;
    let limits = checker.ok(owner, get("/api/atlas/v2/rateLimits"), 200).await;
    let capacity = json!({"defaultValue": 1_200, "value": 1_000_000});
    assert_eq!(limits["results"][0]["capacity"], capacity, "as it is configured");
    checker.ok(owner, get("/api/atlas/v2/rateLimits/cloudBackups_group"), 200).await;
    let tenants = checker.ok(owner, get(&world.group("/serverless")), 200).await;
    assert_eq!(tenants["results"][0]["name"], "tenant");
    checker.ok(owner, get(&world.group("/serverless/tenant")), 200).await;
    own_nouns(world, way).await;
    past(world, way).await;
}

/// A project from its making to its end.
async fn projects(world: &World, way: &str) {
    let (organization, checker) = (world.organization(way), &world.checker);
    let organizations = checker.ok(organization, get("/api/atlas/v2/orgs"), 200).await;
    let body = json!({"name": format!("lab-{way}"), "orgId": organizations["results"][0]["id"]});
    let made = checker.ok(organization, post("/api/atlas/v2/groups", body.clone()), 200).await;
    checker.refused(organization, post("/api/atlas/v2/groups", body), 409, "GROUP_ALREADY_EXISTS").await;
    let one = format!("/api/atlas/v2/groups/{}", text(&made, "id"));
    let rename = |name: &str| patch(&one, json!({"name": name}));
    let renamed = checker.ok(organization, rename(&format!("laboratory-{way}")), 200).await;
    assert_eq!(renamed["id"], made["id"]);
    checker.refused(organization, rename("shop"), 409, "GROUP_ALREADY_EXISTS").await;
    checker.follow_links(organization).await;
    checker.ok(organization, delete(&one), 204).await;
    checker.refused(organization, get(&one), 404, "GROUP_NOT_FOUND").await;
    let full = delete(&world.group(""));
    checker.refused(world.owner(way), full, 409, "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS").await;
}

async fn own_nouns(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    checker.ok(owner, get("/api/ebbtide/v1/status"), 200).await;
    let organization = world.organization(way);
    let name = format!("made-by-{way}");
    checker.ok(organization, post("/api/ebbtide/v1/groups", json!({"name": name})), 201).await;
    let again = post("/api/ebbtide/v1/groups", json!({"name": name}));
    checker.refused(organization, again, 409, "GROUP_ALREADY_EXISTS").await;
    projects(world, way).await;
    credentials::of_an_organization(world, way).await;
    checker.ok(organization, get("/api/ebbtide/v1/audit"), 200).await;
    checker.ok(world.reader(way), get(&world.own("/audit")), 200).await;
    checker.follow_links(organization).await;
    let credentials = world.own("/credentials");
    let made = checker.ok(owner, post(&credentials, json!({"roles": ["GROUP_READ_ONLY"]})), 201).await;
    let list = checker.ok(owner, get(&credentials), 200).await;
    assert!(!list.to_string().contains(&text(&made, "privateKey")), "a secret is shown once");
    checker.ok(owner, delete(&format!("{credentials}/{}", text(&made, "id"))), 204).await;
    let clusters = world.own("/clusters");
    let uri = world.mongod.uri();
    let question = json!({"name": "second", "uri": uri, "dryRun": true});
    let answer = checker.ok(owner, post(&clusters, question), 200).await;
    assert_eq!(answer["check"]["ok"], true);
    let wrong = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200";
    let question = json!({"name": "second", "uri": wrong, "dryRun": true});
    let answer = checker.ok(owner, post(&clusters, question), 200).await;
    assert_eq!(answer["check"]["problems"][0]["code"], "UNREACHABLE", "{answer}");
    let body = json!({"name": "second", "uri": wrong});
    checker.refused(owner, post(&clusters, body), 400, "VALIDATION_ERROR").await;
    checker.ok(owner, post(&clusters, json!({"name": "second", "uri": uri})), 201).await;
    checker.ok(owner, get(&clusters), 200).await;
    checker.ok(owner, get(&format!("{clusters}/main")), 200).await;
    let window = json!({"continuousBackup": {"restoreWindowDays": 3}});
    checker.ok(owner, patch(&format!("{clusters}/second"), window), 200).await;
    let again = checker.ok(owner, patch(&format!("{clusters}/second"), json!({"uri": uri})), 200).await;
    assert_eq!(again["check"]["ok"], true, "{again}");
    let away = patch(&format!("{clusters}/second"), json!({"uri": wrong}));
    checker.refused(owner, away, 400, "VALIDATION_ERROR").await;
    let timeline = checker.ok(owner, get(&format!("{clusters}/second/timeline")), 200).await;
    assert_eq!(timeline["continuousBackup"], json!({"pitEnabled": false, "restoreWindowDays": 3}));
    checker.follow_links(owner).await;
    checker.ok(owner, delete(&format!("{clusters}/second")), 204).await;
}

/// What was there before, of a deployment that is recorded.
async fn past(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let clusters = world.own("/clusters");
    let body = json!({
        "name": "recorded", "uri": world.mongod.uri(), "continuousBackup": {"pitEnabled": true},
    });
    checker.ok(owner, post(&clusters, body), 201).await;
    let recorded = format!("{clusters}/recorded");
    let began = std::time::Instant::now();
    let range = loop {
        let timeline = checker.ok(owner, get(&format!("{recorded}/timeline")), 200).await;
        if timeline["restorable"][0]["from"].is_object() {
            break timeline["restorable"][0].clone();
        }
        assert!(began.elapsed() < crate::support::PATIENCE, "{timeline}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let time = |end: &str| format!("{},{}", range[end]["seconds"], range[end]["increment"]);
    let (from, to) = (time("from"), time("to"));
    let of = "namespace=shop.orders&id=7";
    let shown = checker.ok(owner, get(&format!("{recorded}/document?{of}&at={to}")), 200).await;
    assert_eq!(shown["document"]["_id"], json!({"$numberInt": "7"}), "{shown}");
    checker.ok(owner, get(&format!("{recorded}/document/versions?{of}")), 200).await;
    let diff = format!("{recorded}/diff?namespace=shop.orders&from={from}&to={to}");
    checker.ok(owner, get(&diff), 200).await;
    checker.follow_links(owner).await;
    checker.ok(owner, delete(&recorded), 204).await;
}

/// A snapshot of each deployment.
struct Taken {
    main: String,
    tenant: String,
}

impl Taken {
    fn path(&self, world: &World) -> String {
        world.group(&format!("/clusters/main/backup/snapshots/{}", self.main))
    }

    fn own_tenant(&self, world: &World) -> String {
        world.own(&format!("/clusters/tenant/snapshots/{}", self.tenant))
    }
}

fn restore(world: &World, snapshot: &str, into: &str) -> Value {
    json!({
        "deliveryType": "automated", "snapshotId": snapshot,
        "targetClusterName": into, "targetGroupId": world.ebbtide.project,
    })
}

fn download(snapshot: &str) -> Value {
    json!({"deliveryType": "download", "snapshotId": snapshot})
}

/// While nothing works: snapshots that wait.
async fn snapshots_asked_for(world: &mut World, way: &str) -> Taken {
    world.hold_jobs();
    let (owner, checker) = (world.owner(way), &world.checker);
    let snapshots = world.group("/clusters/main/backup/snapshots");
    let body = json!({"description": "before the release", "retentionInDays": 1});
    let asked = checker.ok(owner, post(&snapshots, body.clone()), 200).await;
    assert_eq!((&asked["status"], &asked["storageSizeBytes"]), (&json!("queued"), &json!(0)));
    assert!(asked.get("frequencyType").is_none(), "the word of Atlas is not in its own enumeration");
    let own = world.own("/clusters/tenant/snapshots");
    let tenant = text(&checker.ok(owner, post(&own, json!({"retentionInDays": 1})), 201).await, "id");
    let taken = Taken { main: text(&asked, "id"), tenant };
    let one = taken.path(world);
    checker.ok(owner, get(&one), 200).await;
    checker.refused(owner, post(&snapshots, body), 400, "UNFINISHED_ON_DEMAND_SNAPSHOT").await;
    checker.refused(owner, delete(&one), 400, "CANNOT_DELETE_IN_PROGRESS_SNAPSHOT").await;
    let keep = Ask::new(Method::PATCH, &one).json(&json!({"retentionUnit": "DAYS", "retentionValue": 2}));
    checker.refused(owner, keep, 400, "CANNOT_MODIFY_IN_PROGRESS_SNAPSHOT_RETENTION").await;
    let jobs = world.group("/clusters/main/backup/restoreJobs");
    let incomplete = "CANNOT_START_RESTORE_JOB_FOR_INCOMPLETE_CLUSTER_SNAPSHOT";
    checker.refused(owner, post(&jobs, restore(world, &taken.main, "main")), 409, incomplete).await;
    let incomplete = "CANNOT_DOWNLOAD_INCOMPLETE_SNAPSHOT";
    checker.refused(owner, post(&jobs, download(&taken.main)), 409, incomplete).await;
    checker.follow_links(owner).await;
    taken
}

async fn snapshots_completed(world: &mut World, way: &str, taken: &Taken) {
    world.run_jobs();
    let (owner, checker) = (world.owner(way), &world.checker);
    let own = world.own(&format!("/clusters/main/snapshots/{}", taken.main));
    world.wait_for(owner, &own, "completed").await;
    world.wait_for(owner, &taken.own_tenant(world), "completed").await;
    let one = taken.path(world);
    let shown = checker.ok(owner, get(&one), 200).await;
    assert_eq!(shown["status"], "completed");
    assert!(shown["storageSizeBytes"].as_u64().unwrap() > 0 && shown["mongodVersion"].is_string());
    let keep = Ask::new(Method::PATCH, &one).json(&json!({"retentionUnit": "WEEKS", "retentionValue": 2}));
    let kept = checker.ok(owner, keep, 200).await;
    assert!(text(&kept, "expiresAt") > text(&shown, "expiresAt"));
    let snapshots = world.group("/clusters/main/backup/snapshots");
    let list = checker.ok(owner, get(&snapshots), 200).await;
    assert_eq!(text(&list["results"][0], "id"), taken.main, "newest first");
    let before = checker.ok(owner, get(&format!("{snapshots}?pointInTimeUtcSeconds=4000000000")), 200).await;
    assert_eq!(before["totalCount"], 1);
    for (query, code) in [
        ("oplogTs=1", "MISSING_QUERY_PARAMETER"),
        ("pointInTimeUtcSeconds=1&oplogTs=1", "MUTUALLY_EXCLUSIVE_QUERY_PARAMETERS"),
    ] {
        checker.refused(owner, get(&format!("{snapshots}?{query}")), 400, code).await;
    }
    checker.ok(owner, get(&format!("{snapshots}/shardedClusters")), 200).await;
    let sharded = format!("{snapshots}/shardedCluster/{}", taken.main);
    let shown = checker.ok(owner, get(&sharded), 200).await;
    assert_eq!((&shown["id"], &shown["members"]), (&taken.main.as_str().into(), &json!([])));
    names_in(world, way, taken).await;
    let serverless = world.group("/serverless/tenant/backup/snapshots");
    checker.ok(owner, get(&serverless), 200).await;
    checker.ok(owner, get(&format!("{serverless}/{}", taken.tenant)), 200).await;
    checker.ok(owner, get(&world.own("/clusters/main/snapshots")), 200).await;
    checker.follow_links(owner).await;
}

/// What the snapshot holds, as far as names go.
async fn names_in(world: &World, way: &str, taken: &Taken) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let databases = format!("{}/databases", taken.path(world));
    let list = checker.ok(owner, get(&databases), 200).await;
    assert_eq!((&list["results"][0]["name"], &list["totalCount"]), (&json!("shop"), &json!(1)));
    let shop = format!("{databases}/shop");
    assert_eq!(checker.ok(owner, get(&shop), 200).await["name"], "shop");
    let list = checker.ok(owner, get(&format!("{shop}/collections?itemsPerPage=1")), 200).await;
    assert_eq!((&list["results"][0]["name"], &list["totalCount"]), (&json!("orders"), &json!(1)));
    assert_eq!(checker.ok(owner, get(&format!("{shop}/collections/orders")), 200).await["name"], "orders");
    let nobody = format!("{databases}/nobody");
    for target in [nobody.clone(), format!("{nobody}/collections"), format!("{nobody}/collections/orders")] {
        checker.refused(owner, get(&target), 404, "DATABASE_NOT_FOUND").await;
    }
    let nothing = format!("{shop}/collections/nothing");
    checker.refused(owner, get(&nothing), 404, "COLLECTION_NOT_FOUND").await;
}

/// Restore jobs that were asked for.
struct Jobs {
    automated: String,
    download: String,
    tenant: String,
}

/// While nothing works: restore jobs that wait, and one that is cancelled.
async fn restores_asked_for(world: &mut World, way: &str, taken: &Taken) -> Jobs {
    world.hold_jobs();
    let (owner, checker) = (world.owner(way), &world.checker);
    let jobs = world.group("/clusters/main/backup/restoreJobs");
    let first = checker.ok(owner, post(&jobs, download(&taken.main)), 200).await;
    assert_eq!((&first["cancelled"], &first["deliveryUrl"]), (&json!(false), &json!([])));
    for absent in ["finishedAt", "expiresAt", "targetClusterName", "desiredTimestamp"] {
        assert!(first.get(absent).is_none(), "{absent} is not there yet: {first}");
    }
    let twice = "CANNOT_DOWNLOAD_SNAPSHOT_CONCURRENTLY";
    checker.refused(owner, post(&jobs, download(&taken.main)), 400, twice).await;
    let one = format!("{jobs}/{}", text(&first, "id"));
    assert_eq!(checker.ok(owner, get(&one), 200).await, first);
    checker.ok(owner, delete(&one), 204).await;
    assert_eq!(checker.ok(owner, get(&one), 200).await["cancelled"], true);
    checker.ok(owner, delete(&one), 204).await;
    let dated = post(&jobs, download(&taken.main)).date("2024-05-30");
    let second = text(&checker.ok(owner, dated, 200).await, "id");
    // Both names are of one replica set, which takes one restore at a time: this one is cancelled before the next.
    own_jobs(world, way, taken).await;
    // Jobs are in the order of their milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let body = restore(world, &taken.main, "main");
    let automated = checker.ok(owner, post(&jobs, body.clone()), 200).await;
    assert_eq!(automated["targetClusterName"], "main");
    checker.refused(owner, post(&jobs, body), 409, "ATLAS_CLUSTER_RESTORE_IN_PROGRESS").await;
    refused_bodies(world, way, taken).await;
    let serverless = world.group("/serverless/tenant/backup/restoreJobs");
    let tenant = text(&checker.ok(owner, post(&serverless, download(&taken.tenant)), 200).await, "id");
    checker.ok(owner, get(&format!("{serverless}/{tenant}")), 200).await;
    let list = checker.ok(owner, get(&serverless), 200).await;
    assert_eq!(text(&list["results"][0], "id"), tenant);
    let batch = format!("?batchId={}", "a".repeat(24));
    let legacy = world.group("/clusters/main/restoreJobs");
    let mine = checker.ok(owner, get(&legacy), 200).await;
    assert_eq!(mine["results"][0]["statusName"], "IN_PROGRESS");
    let none = checker.ok(owner, get(&format!("{legacy}{batch}")), 200).await;
    assert_eq!(none["totalCount"], 0);
    let newest_first = [text(&automated, "id"), second.clone(), text(&first, "id")];
    paging(world, owner, &jobs, &newest_first).await;
    paging(world, owner, &legacy, &newest_first).await;
    checker.follow_links(owner).await;
    Jobs { automated: text(&automated, "id"), download: second, tenant }
}

async fn refused_bodies(world: &World, way: &str, taken: &Taken) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let jobs = world.group("/clusters/main/backup/restoreJobs");
    let changed = |name: &str, value: Value| {
        let mut body = restore(world, &taken.main, "main");
        body[name] = value;
        body
    };
    let unknown = json!("f".repeat(24));
    for (body, status, code) in [
        (changed("deliveryType", Value::Null), 400, "MISSING_ATTRIBUTE"),
        (changed("deliveryType", json!("carrierPigeon")), 400, "INVALID_ENUM_VALUE"),
        (changed("snapshotId", json!(1)), 400, "INVALID_JSON_ATTRIBUTE"),
        (changed("snapshotId", unknown.clone()), 404, "SNAPSHOT_NOT_FOUND"),
        (changed("targetClusterName", json!("nobody")), 404, "CLUSTER_NOT_FOUND"),
        (changed("targetClusterName", json!("a b")), 400, "CLUSTER_NAME_INVALID"),
        (changed("targetClusterName", json!("tenant")), 400, "PROVIDER_BACKUP_NOT_SUPPORTED"),
        (changed("targetGroupId", unknown), 403, "CANNOT_RESTORE_TO_TARGET"),
        (changed("targetGroupId", json!(world.other_project)), 403, "CANNOT_RESTORE_TO_TARGET"),
        (changed("surprise", json!(1)), 400, "INVALID_ATTRIBUTE"),
        (changed("deliveryType", json!("pointInTime")), 400, "MISSING_ONE_OF_ATTRIBUTES"),
    ] {
        checker.refused(owner, post(&jobs, body), status, code).await;
    }
    // Complete and well formed; there is no timeline to find the time on.
    let mut body = changed("deliveryType", json!("pointInTime"));
    body["pointInTimeUTCSeconds"] = json!(1_700_000_000);
    checker.refused(owner, post(&jobs, body), 400, "INVALID_PIT_RESTORE_TIME").await;
}

async fn own_jobs(world: &World, way: &str, taken: &Taken) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let own = world.own("/clusters/tenant/restoreJobs");
    let mut question = restore(world, &taken.tenant, "tenant");
    question["dryRun"] = json!(true);
    assert_eq!(checker.ok(owner, post(&own, question), 200).await["documents"], 200);
    let mut question = download(&taken.tenant);
    question["dryRun"] = json!(true);
    checker.ok(owner, post(&own, question), 200).await;
    let job = checker.ok(owner, post(&own, restore(world, &taken.tenant, "tenant")), 201).await;
    let one = format!("{own}/{}", text(&job, "id"));
    checker.ok(owner, get(&one), 200).await;
    checker.ok(owner, get(&own), 200).await;
    checker.ok(owner, delete(&one), 204).await;
    assert_eq!(checker.ok(owner, get(&one), 200).await["state"], "cancelled");
}

/// Pages of one item, walked by their links, are the whole list in its order.
async fn paging(world: &World, owner: &Account, list: &str, newest_first: &[String]) {
    let checker = &world.checker;
    let whole = checker.ok(owner, get(list), 200).await;
    let total = whole["results"].as_array().unwrap().len();
    assert!(total >= 3 && whole["totalCount"] == total, "{whole}");
    let base = world.ebbtide.url();
    let own = json!([{"href": format!("{base}{list}?pageNum=1&itemsPerPage=100"), "rel": "self"}]);
    assert_eq!(whole["links"], own, "defaults are told");
    let mut walked = Vec::new();
    let mut next = Some(format!("{list}?includeCount=true&itemsPerPage=1&pageNum=1"));
    while let Some(target) = next {
        let page = checker.ok(owner, get(&target), 200).await;
        let link = |rel: &str| {
            let links = page["links"].as_array().unwrap();
            let link = links.iter().find(|link| link["rel"] == rel)?;
            Some(link["href"].as_str().unwrap().strip_prefix(&base).unwrap().to_owned())
        };
        assert_eq!(link("previous").is_some(), !walked.is_empty());
        assert_eq!(page["totalCount"], total);
        walked.extend(page["results"].as_array().unwrap().clone());
        next = link("next");
        assert!(walked.len() <= total, "the last page has no next one");
    }
    assert_eq!(json!(walked), whole["results"]);
    let newest: Vec<String> = walked.iter().take(newest_first.len()).map(|job| text(job, "id")).collect();
    assert_eq!(newest, newest_first);
    let beyond = checker.ok(owner, get(&format!("{list}?pageNum=99&includeCount=false")), 200).await;
    assert!(beyond["results"] == json!([]) && beyond.get("totalCount").is_none());
}

async fn restores_done(world: &mut World, way: &str, taken: &Taken, jobs: &Jobs) {
    world.run_jobs();
    let own = |cluster: &str, job: &str| world.own(&format!("/clusters/{cluster}/restoreJobs/{job}"));
    let ways = [
        ("main", &jobs.automated, "finished"),
        ("main", &jobs.download, "ready"),
        ("tenant", &jobs.tenant, "ready"),
    ];
    for (cluster, job, state) in ways {
        world.wait_for(world.owner(way), &own(cluster, job), state).await;
    }
    let (owner, checker) = (world.owner(way), &world.checker);
    let atlas = |job: &str| world.group(&format!("/clusters/main/backup/restoreJobs/{job}"));
    let done = checker.ok(owner, get(&atlas(&jobs.automated)), 200).await;
    assert!(done["finishedAt"].is_string() && done["failed"] == false && done["deliveryUrl"] == json!([]));
    let late = "CANNOT_CANCEL_AUTOMATED_RESTORE";
    checker.refused(owner, delete(&atlas(&jobs.automated)), 400, late).await;
    collections::restored_beside(world, way, &taken.main).await;
    let ready = checker.ok(owner, get(&atlas(&jobs.download)), 200).await;
    assert!(ready["expiresAt"].is_string() && ready.get("finishedAt").is_none());
    let legacy = world.group(&format!("/clusters/main/restoreJobs/{}", jobs.download));
    let shown = checker.ok(owner, get(&legacy), 200).await;
    assert_eq!(
        (&shown["delivery"]["statusName"], &shown["hashes"][0]["typeName"]),
        (&json!("READY"), &json!("SHA1"))
    );
    let tenant = world.group(&format!("/serverless/tenant/backup/restoreJobs/{}", jobs.tenant));
    checker.ok(owner, get(&tenant), 200).await;
    for list in [
        "/clusters/main/restoreJobs",
        "/clusters/main/backup/restoreJobs",
        "/serverless/tenant/backup/restoreJobs",
    ] {
        checker.ok(owner, get(&world.group(list)), 200).await;
    }
    let url = ready["deliveryUrl"][0].as_str().unwrap().to_owned();
    fetched_once(world, &url).await;
    let used = checker.ok(owner, get(&atlas(&jobs.download)), 200).await;
    assert_eq!((&used["expired"], &used["deliveryUrl"]), (&json!(true), &json!([])));
    checker.refused(owner, delete(&atlas(&jobs.download)), 400, "ALREADY_EXPIRED").await;
    let flex_token = flex::of_a_cluster(world, way).await;
    let legacy_token = legacy::restores(world, way, &taken.main).await;
    checker.follow_links(owner).await;
    checker.ok(owner, delete(&taken.path(world)), 204).await;
    checker.refused(owner, get(&taken.path(world)), 404, "SNAPSHOT_NOT_FOUND").await;
    let gone = "CANNOT_START_RESTORE_JOB_FOR_DELETED_SNAPSHOT";
    let collection = world.group("/clusters/main/backup/restoreJobs");
    checker.refused(owner, post(&collection, restore(world, &taken.main, "main")), 409, gone).await;
    // A job stays when its snapshot goes, and so does its link to it.
    checker.ok(owner, get(&atlas(&jobs.automated)), 200).await;
    checker
        .ok(owner, delete(&world.own(&format!("/clusters/tenant/restoreJobs/{}", jobs.tenant))), 204)
        .await;
    checker.ok(owner, delete(&taken.own_tenant(world)), 204).await;
    checker.is_gone(&taken.main);
    checker.is_gone(&taken.tenant);
    let token = url.split('/').rev().nth(1).unwrap().to_owned();
    world.keep_secret(&token);
    world.keep_secret(&legacy_token);
    world.keep_secret(&flex_token);
}

/// The link needs no credentials, and works once.
async fn fetched_once(world: &World, url: &str) {
    let checker = &world.checker;
    let target = url.strip_prefix(&world.ebbtide.url()).unwrap();
    let head = checker.plain(&Ask::new(Method::HEAD, target)).await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/gzip")));
    assert_eq!(
        (head.header("accept-ranges"), head.header("cache-control")),
        (Some("bytes"), Some("no-store"))
    );
    let whole = checker.plain(&get(target)).await;
    assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
    assert!(whole.status == 200 && whole.body.starts_with(&[0x1f, 0x8b]));
    // It is used up when its last byte was given to the kernel, and that is noted a moment after; a HEAD delivers nothing.
    let taken = std::time::Instant::now();
    while checker.plain(&Ask::new(Method::HEAD, target)).await.status == 200 {
        assert!(taken.elapsed() < crate::support::PATIENCE, "the link is not used up");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let again = checker.plain(&get(target)).await;
    assert_eq!((again.status, again.header("x-error-code")), (410, Some("CANNOT_DOWNLOAD_EXPIRED_JOB")));
    let forged = checker.plain(&get(&target.replace(|c: char| c.is_ascii_uppercase(), "x"))).await;
    assert_eq!(forged.status, 404);
}

/// Tokens: given, used, given back. The answers follow the document too.
async fn oauth(world: &mut World, way: &str) {
    const FORM: &str = "application/x-www-form-urlencoded";
    let ebbtide = &world.ebbtide;
    let account =
        ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", "GROUP_OWNER"]);
    let (id, secret) = (text(&account, "clientId"), text(&account, "clientSecret"));
    let checker = &world.checker;
    let client = format!("client_id={id}&client_secret={secret}");
    let post = |path: &str, form: &str| Ask::new(Method::POST, path).text(FORM, form);
    let documented = |path: &str, answer: &super::client::Answer| {
        let Some(operation) = checker.specification().and_then(|s| s.operation("POST", path)) else { return };
        let body = (!answer.body.is_empty()).then(|| answer.json());
        operation.check(answer.status, None, "application/json", body.as_ref()).unwrap();
    };
    let (token_path, revoke_path) = ("/api/oauth/token", "/api/oauth/revoke");
    for (form, status, error) in [
        (client.clone(), 400, "invalid_request"),
        (format!("{client}&grant_type=password"), 400, "unsupported_grant_type"),
        (format!("client_id={id}&client_secret=wrong&grant_type=client_credentials"), 401, "invalid_client"),
    ] {
        let answer = checker.plain(&post(token_path, &form)).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)));
        documented(token_path, &answer);
    }
    let given = checker.plain(&post(token_path, &format!("{client}&grant_type=client_credentials"))).await;
    documented(token_path, &given);
    assert_eq!(given.header("cache-control"), Some("no-store"));
    let token = text(&given.json(), "access_token");
    let bearer = Account::Bearer(token.clone());
    checker.ok(&bearer, get(&world.group("")), 200).await;
    let revoked = checker.plain(&post(revoke_path, &format!("{client}&token={token}"))).await;
    assert_eq!((revoked.status, revoked.body.len()), (200, 0), "{way}");
    documented(revoke_path, &revoked);
    checker.refused(&bearer, get(&world.group("")), 401, "UNEXPECTED_ERROR").await;
    world.keep_secret(&secret);
    world.keep_secret(&token);
}
