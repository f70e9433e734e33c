//! The API driven by MongoDB's own Atlas CLI, as it is released: commands that people have in scripts, with nothing changed but
//! where they go.
//!
//! The CLI is the one on PATH. No module proxy can build it, since its module is not where its path says, so a machine without it
//! skips this and says so; `tests/recorded.rs` plays back there what the CLI asked here.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod recorded {
    pub mod recorder;
    pub mod recording;
}
mod support;

use std::{
    path::Path,
    process::{Command, Output},
};

use bson::{Document, Timestamp, doc};
use recorded::recorder::Recorded;
use serde_json::{Value, json};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server};

const CLI: &str = "atlas";
/// The name of the place that snapshots can be exported to.
const EXPORTS: &str = "archive";
/// Any id: a role gives no rights here.
const ROLE: &str = "5f4007f327a3bd7b6f4103c5";

/// The CLI with the credentials of a server, and nothing else of this machine.
struct Atlas<'a> {
    server: &'a Recorded,
    home: tempfile::TempDir,
}

impl<'a> Atlas<'a> {
    /// None where there is no Atlas CLI; another program of that name counts as none.
    fn of(server: &'a Recorded) -> Option<Self> {
        let atlas = Self { server, home: tempfile::tempdir().unwrap() };
        let version = atlas.command().arg("--version").output();
        let found = version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("atlascli"));
        if !found {
            eprintln!("SKIPPED: no Atlas CLI on PATH, so it was not tried; see docs/atlas-clients.md");
        }
        found.then_some(atlas)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(CLI);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("XDG_CONFIG_HOME", self.home.path().join("config"));
        command.env("MONGODB_ATLAS_OPS_MANAGER_URL", format!("{}/", self.server.url()));
        command.env("MONGODB_ATLAS_PUBLIC_API_KEY", &self.server.public_key);
        command.env("MONGODB_ATLAS_PRIVATE_API_KEY", &self.server.private_key);
        command.env("MONGODB_ATLAS_PROJECT_ID", &self.server.project);
        command.env("MONGODB_ATLAS_SKIP_UPDATE_CHECK", "true").env("DO_NOT_TRACK", "1");
        command.env("MONGODB_ATLAS_TELEMETRY_ENABLED", "false");
        command
    }

    /// What became of a command line.
    fn try_run(&self, line: &str) -> Output {
        self.command().args(line.split_whitespace()).output().unwrap()
    }

    /// What a command line that must succeed prints.
    fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {}\n{said}\n{}", stderr(&output), self.server.log());
        said
    }

    /// The JSON of a command line that must succeed.
    fn json(&self, line: &str) -> Value {
        let said = self.run(&format!("{line} --output json"));
        serde_json::from_str(&said).unwrap_or_else(|bad| panic!("{line}: {bad}: {said}"))
    }

    /// What a command line is refused with; it has to be refused.
    fn refused(&self, line: &str) -> String {
        let output = self.try_run(line);
        let said = stderr(&output);
        assert!(!output.status.success(), "{line} was not refused: {said}");
        said
    }
}

fn ids(page: &Value) -> Vec<String> {
    page["results"].as_array().unwrap().iter().map(|one| text(one, "id")).collect()
}

/// What the test documents are like; a restore is seen by it.
async fn put(ebbtide: &Recorded, server: &Server, state: &str) -> Timestamp {
    let shop = server.client().await.unwrap().database("shop");
    let writes: Vec<_> = (0..50)
        .map(|n| doc! { "q": { "_id": n }, "u": { "_id": n, "state": state }, "upsert": true })
        .collect();
    let reply =
        shop.run_command(doc! { "update": "orders", "updates": writes, "writeConcern": { "w": "majority" } });
    let at = reply.await.unwrap().get_timestamp("operationTime").unwrap();
    ebbtide.written(state, at);
    at
}

/// How many documents are in which state.
async fn states(ebbtide: &Recorded, server: &Server) -> Vec<Value> {
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    let mut states = vec![];
    for state in orders.distinct("state", doc! {}).await.unwrap() {
        let count = orders.count_documents(doc! { "state": &state }).await.unwrap();
        ebbtide.seen(state.as_str().unwrap());
        states.push(json!([state.as_str().unwrap(), count]));
    }
    states
}

/// A server with a place for exports, and the deployment `main` with an operation log that is recorded.
fn registered(server: &Server, place: &Path, recording: &'static str) -> Recorded {
    let exports = place.join("exports");
    std::fs::create_dir(&exports).unwrap();
    let config = place.join("ebbtide.toml");
    std::fs::write(&config, format!("[exports.{EXPORTS}]\nurl = \"{}\"\n", exports.display())).unwrap();
    let ebbtide = Ebbtide::start_with(&["--config", config.to_str().unwrap()], &[]);
    let ebbtide = Recorded::new(ebbtide, recording);
    ebbtide.cli(&["cluster", "add", "main", "--uri", &server.uri(), "--pit"]);
    ebbtide
}

#[tokio::test(flavor = "multi_thread")]
async fn the_atlas_cli_takes_snapshots_and_restores_them() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), "atlas-cli-restores");
    let Some(atlas) = Atlas::of(&ebbtide) else { return };
    let group = ebbtide.project.clone();

    // What is restored to a point in time has to be behind the beginning of what is recorded.
    ebbtide.until_restorable(put(&ebbtide, &server, "first").await).await;
    let taken = atlas.json("backups snapshots create main --desc before --retention 3");
    let snapshot = text(&taken, "id");
    assert_eq!(taken["description"], "before");
    assert_eq!((&taken["snapshotType"], &taken["type"]), (&"onDemand".into(), &"replicaSet".into()));
    let watched = atlas.run(&format!("backups snapshots watch {snapshot} --clusterName main"));
    assert!(watched.contains("Snapshot changes completed."), "{watched}");
    let shown = atlas.json(&format!("backups snapshots describe {snapshot} --clusterName main"));
    assert_eq!((&shown["id"], &shown["status"]), (&snapshot.as_str().into(), &"completed".into()));
    assert!(shown["storageSizeBytes"].as_u64().unwrap() > 0, "{shown}");
    let listed = atlas.json("backups snapshots list main");
    assert!(ids(&listed).contains(&snapshot), "{listed}");
    // This command is for flex clusters, at Atlas as well.
    let downloaded =
        atlas.refused(&format!("backups snapshots download {snapshot} --clusterName main --out a.tgz"));
    assert!(downloaded.contains("CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API"), "{downloaded}");

    let target = format!("--clusterName main --targetProjectId {group} --targetClusterName main");
    let second = put(&ebbtide, &server, "second").await;
    put(&ebbtide, &server, "third").await;
    let start = format!("backups restores start automated --snapshotId {snapshot} {target}");
    let automated = atlas.json(&start);
    let job = text(&automated, "id");
    assert_eq!(automated["deliveryType"], "automated");
    let watched = atlas.run(&format!("backups restores watch {job} --clusterName main"));
    assert!(watched.contains("completed"), "{watched}");
    let shown = atlas.json(&format!("backups restores describe {job} --clusterName main"));
    assert!(shown["finishedAt"].is_string(), "{shown}");
    assert_eq!((&shown["failed"], &shown["targetClusterName"]), (&false.into(), &"main".into()));
    assert_eq!(states(&ebbtide, &server).await, [json!(["first", 50])]);

    ebbtide.until_restorable(put(&ebbtide, &server, "fourth").await).await;
    let at = format!("--oplogTs {} --oplogInc {}", second.time, second.increment);
    let back = text(&atlas.json(&format!("backups restores start pointInTime {at} {target}")), "id");
    atlas.run(&format!("backups restores watch {back} --clusterName main"));
    let shown = atlas.json(&format!("backups restores describe {back} --clusterName main"));
    assert_eq!(
        (&shown["oplogTs"], &shown["oplogInc"]),
        (&second.time.into(), &second.increment.into()),
        "{shown}"
    );
    assert!(shown["finishedAt"].is_string(), "{shown}");
    assert_eq!(states(&ebbtide, &server).await, [json!(["second", 50])]);

    let start = format!("backups restores start download --snapshotId {snapshot} --clusterName main");
    let download = text(&atlas.json(&start), "id");
    atlas.run(&format!("backups restores watch {download} --clusterName main"));
    let shown = atlas.json(&format!("backups restores describe {download} --clusterName main"));
    let url = shown["deliveryUrl"][0].as_str().unwrap();
    let archive = place.path().join("archive.tar.gz");
    let fetched = Command::new("curl").args(["-sSf", "-o"]).arg(&archive).arg(url).output().unwrap();
    assert!(fetched.status.success(), "{}", stderr(&fetched));
    let names = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    assert!(names.contains("dump/shop/orders.bson"), "{names}");
    assert_eq!(ids(&atlas.json("backups restores list main")), [download.clone(), back, job]);

    // What has no command of its own has one that is made from the API's description.
    let place = format!("--groupId {group} --clusterName main");
    let called =
        atlas.json(&format!("api cloudBackups getBackupRestoreJob {place} --restoreJobId {download}"));
    assert_eq!(called["id"], download.as_str());
    let again = text(&atlas.json(&start), "id");
    atlas.run(&format!("backups restores watch {again} --clusterName main"));
    atlas.run(&format!("api cloudBackups cancelBackupRestoreJob {place} --restoreJobId {again}"));
    let shown = atlas.json(&format!("backups restores describe {again} --clusterName main"));
    assert_eq!(shown["cancelled"], true);
    let help = atlas.run("api legacyBackup --help");
    let names = ["listClusterRestoreJobs", "listLegacyBackupRestoreJobs"];
    let name = names.iter().find(|name| help.contains(**name)).unwrap();
    let called = atlas.json(&format!("api legacyBackup {name} {place}"));
    assert!(ids(&called).contains(&again), "{called}");

    let deleted = atlas.run(&format!("backups snapshots delete {snapshot} --clusterName main --force"));
    assert!(deleted.contains(&snapshot) && deleted.contains("deleted"), "{deleted}");
    let gone = atlas.refused(&format!("backups snapshots describe {snapshot} --clusterName main"));
    assert!(gone.contains("SNAPSHOT_NOT_FOUND"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_atlas_cli_finds_its_way_and_sets_schedules_and_exports() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), "atlas-cli-schedules");
    put(&ebbtide, &server, "first").await;
    let Some(atlas) = Atlas::of(&ebbtide) else { return };
    let group = ebbtide.project.clone();

    let clusters = atlas.json("clusters list");
    assert_eq!((&clusters["results"][0]["name"], &clusters["totalCount"]), (&"main".into(), &1.into()));
    let cluster = atlas.json("clusters describe main");
    assert_eq!((&cluster["name"], &cluster["groupId"]), (&"main".into(), &group.as_str().into()));
    assert_eq!((&cluster["stateName"], &cluster["pitEnabled"]), (&"IDLE".into(), &true.into()));
    let unknown = atlas.refused("clusters describe nowhere");
    assert!(unknown.contains("CLUSTER_NOT_FOUND"), "{unknown}");
    let projects = atlas.json("projects list");
    assert_eq!(ids(&projects), [group.as_str()]);
    let project = atlas.json(&format!("projects describe {group}"));
    assert_eq!((&project["id"], &project["name"]), (&group.as_str().into(), &"shop".into()));
    let organizations = atlas.json("organizations list");
    assert_eq!(ids(&organizations), [text(&project, "orgId")]);

    let bucket = atlas
        .json(&format!("backups exports buckets create {EXPORTS} --cloudProvider AWS --iamRoleId {ROLE}"));
    let bucket = text(&bucket, "_id");
    let listed = atlas.json("backups exports buckets list");
    assert_eq!(listed["results"][0]["bucketName"], EXPORTS);
    let shown = atlas.json(&format!("backups exports buckets describe --bucketId {bucket}"));
    assert_eq!((&shown["_id"], &shown["iamRoleId"]), (&bucket.as_str().into(), &ROLE.into()));

    // The schedule that Atlas begins with, as a file, since the CLI's flags change items and make none.
    let before = atlas.json("backups schedule describe main");
    let policy = text(&before["policies"][0], "id");
    let file = place.path().join("schedule.json");
    let item = json!({"frequencyType": "daily", "frequencyInterval": 1, "retentionUnit": "days", "retentionValue": 7});
    let body = json!({"referenceHourOfDay": 3, "referenceMinuteOfHour": 30, "policies": [{"id": policy, "policyItems": [item]}]});
    std::fs::write(&file, body.to_string()).unwrap();
    let set = atlas.json(&format!("backups schedule update --clusterName main --file {}", file.display()));
    assert_eq!((&set["referenceHourOfDay"], &set["referenceMinuteOfHour"]), (&3.into(), &30.into()));
    let item = text(&set["policies"][0]["policyItems"][0], "id");
    let changed =
        format!("--policy {policy},{item},daily,1,weeks,2 --restoreWindowDays 5 --referenceHourOfDay 4");
    let export = format!("--autoExport --exportBucketId {bucket} --exportFrequencyType daily");
    atlas.run(&format!("backups schedule update --clusterName main {changed} {export}"));
    let shown = atlas.json("backups schedule describe main");
    let kept = &shown["policies"][0]["policyItems"];
    assert_eq!((&kept[0]["id"], &kept[1]), (&item.as_str().into(), &Value::Null), "{shown}");
    assert_eq!((&kept[0]["retentionUnit"], &kept[0]["retentionValue"]), (&"weeks".into(), &2.into()));
    assert_eq!((&shown["restoreWindowDays"], &shown["referenceHourOfDay"]), (&5.into(), &4.into()));
    assert_eq!(
        (&shown["autoExportEnabled"], &shown["export"]["frequencyType"]),
        (&true.into(), &"daily".into())
    );
    let called =
        atlas.json(&format!("api cloudBackups getBackupSchedule --groupId {group} --clusterName main"));
    assert_eq!(called["policies"], shown["policies"]);
    let used = atlas.refused(&format!("backups exports buckets delete --bucketId {bucket} --force"));
    assert!(used.contains("EXPORT_BUCKET_DELETE_FAILED"), "{used}");
    atlas.run("backups schedule delete main --force");
    let gone = atlas.json("backups schedule describe main");
    assert!(gone["policies"][0]["policyItems"].as_array().is_none_or(Vec::is_empty), "{gone}");

    let snapshot = ebbtide.snapshot("main");
    let from =
        format!("--clusterName main --bucketId {bucket} --snapshotId {snapshot} --customData purpose=test");
    let job = text(&atlas.json(&format!("backups exports jobs create {from}")), "id");
    atlas.run(&format!("backups exports jobs watch {job} --clusterName main"));
    let shown = atlas.json(&format!("backups exports jobs describe --exportId {job} --clusterName main"));
    assert_eq!((&shown["state"], &shown["snapshotId"]), (&"Successful".into(), &snapshot.as_str().into()));
    assert_eq!(ids(&atlas.json("backups exports jobs list main")), [job]);
    let written = place.path().join("exports").join(text(&shown, "prefix"));
    assert!(written.join(".complete").is_file(), "{}", written.display());
    atlas.run(&format!("backups exports buckets delete --bucketId {bucket} --force"));
    assert_eq!(atlas.json("backups exports buckets list")["results"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_atlas_cli_sets_a_compliance_policy_that_holds() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), "atlas-cli-compliance");
    put(&ebbtide, &server, "first").await;
    let Some(atlas) = Atlas::of(&ebbtide) else { return };
    let snapshot = ebbtide.snapshot("main");

    let who = "--authorizedEmail it@example.com --authorizedUserFirstName Ada --authorizedUserLastName Byron";
    let policy = "backups compliancepolicy";
    let set = atlas.json(&format!("{policy} enable {who} --force --watch"));
    assert_eq!((&set["state"], &set["projectId"]), (&"ACTIVE".into(), &ebbtide.project.as_str().into()));
    let daily = "--frequencyType daily --frequencyInterval 1 --retentionUnit days --retentionValue 7";
    atlas.run(&format!("{policy} policies scheduled create {daily} --projectId {} --watch", ebbtide.project));
    atlas.run(&format!(
        "{policy} policies ondemand create --retentionUnit days --retentionValue 2 --projectId {}",
        ebbtide.project
    ));
    atlas.run(&format!("{policy} pointintimerestore enable --restoreWindowDays 3 --watch"));
    atlas.run(&format!("{policy} encryptionatrest enable --watch"));
    atlas.run(&format!("{policy} copyprotection enable --watch"));
    let shown = atlas.json(&format!("{policy} describe"));
    assert_eq!((&shown["pitEnabled"], &shown["restoreWindowDays"]), (&true.into(), &3.into()));
    assert_eq!((&shown["encryptionAtRestEnabled"], &shown["deletable"]), (&true.into(), &false.into()));
    assert_eq!(shown["copyProtectionEnabled"], true);
    assert_eq!(shown["scheduledPolicyItems"][0]["retentionValue"], 7);
    assert_eq!(shown["onDemandPolicyItem"]["retentionValue"], 2);
    let schedule = atlas.json("backups schedule describe main");
    assert_eq!(
        schedule["policies"][0]["policyItems"][0]["frequencyType"], "daily",
        "it was brought into line"
    );

    for (line, code) in [
        (
            format!("backups snapshots delete {snapshot} --clusterName main --force"),
            "CANNOT_DELETE_SNAPSHOT_WITH_BACKUP_COMPLIANCE_POLICY",
        ),
        (
            "backups snapshots create main --desc short --retention 1".to_owned(),
            "SNAPSHOT_RETENTION_LESS_THAN_BACKUP_COMPLIANCE_POLICY",
        ),
        (
            "backups schedule delete main --force".to_owned(),
            "BACKUP_POLICY_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS",
        ),
        (
            "backups schedule update --clusterName main --restoreWindowDays 2".to_owned(),
            "CANNOT_DECREASE_PIT_WINDOW_WITH_BCP",
        ),
        (format!("{policy} enable {who} --force"), "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID"),
    ] {
        let said = atlas.refused(&line);
        assert!(said.contains(code), "{line}: {said}");
    }

    // Its own command line, and the only way out.
    let told = ebbtide.cli(&["compliance-policy", "show"]);
    assert_eq!(told["scheduledPolicyItems"], shown["scheduledPolicyItems"]);
    let person = ["--email", "it@example.com", "--first-name", "Ada", "--last-name", "Byron"];
    let less =
        ["compliance-policy", "set", "--daily", "6d", "--on-demand", "2d", "--restore-window-days", "3"];
    let refused = ebbtide.try_cli(&[&less[..], &person].concat());
    assert!(stderr(&refused).contains("release-compliance-policy"), "{}", stderr(&refused));
    let refused = ebbtide.try_cli(&["compliance-policy", "lift"]);
    assert!(stderr(&refused).contains("release-compliance-policy"), "{}", stderr(&refused));
    ebbtide.admin(&["release-compliance-policy", "--project", &ebbtide.project]);
    let set = ebbtide.cli(&[&less[..], &person].concat());
    assert_eq!(
        (&set["deletable"], &set["scheduledPolicyItems"][0]["retentionValue"]),
        (&false.into(), &6.into())
    );
    ebbtide.admin(&["release-compliance-policy", "--project", &ebbtide.project]);
    ebbtide.cli(&["compliance-policy", "lift"]);
    assert_eq!(ebbtide.cli(&["compliance-policy", "show"]), json!({}));
    atlas.run(&format!("backups snapshots delete {snapshot} --clusterName main --force"));
}
