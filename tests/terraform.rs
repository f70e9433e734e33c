//! The API driven by MongoDB's own Terraform provider, as it is released: configurations that people have, with nothing changed but
//! where they go. Each is applied, must be what it says after that, is changed, and is destroyed.
//!
//! OpenTofu or Terraform and the provider are those on PATH, and no registry is asked for either. A machine without them skips this
//! and says so; `tests/recorded.rs` plays back there what the provider asked here.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod recorded {
    pub mod recorder;
    pub mod recording;
}
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use bson::{Document, Timestamp, doc};
use recorded::recorder::Recorded;
use serde_json::{Value, json};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server};

const APPLY: [&str; 4] = ["apply", "-input=false", "-no-color", "-auto-approve"];
const DESTROY: [&str; 4] = ["destroy", "-input=false", "-no-color", "-auto-approve"];
const PROVIDER: &str = "terraform-provider-mongodbatlas";
/// The name of the place that snapshots can be exported to.
const EXPORTS: &str = "archive";
/// The region that snapshots can be copied to.
const REGION: &str = "EU_WEST_1";
/// Any id: a role gives no rights here.
const ROLE: &str = "5f4007f327a3bd7b6f4103c5";

/// OpenTofu or Terraform with a configuration of its own, and nothing else of this machine.
struct Terraform<'a> {
    server: &'a Recorded,
    program: &'static str,
    home: tempfile::TempDir,
    /// Of a service account, in the environment; an API key in the configuration where there are none.
    account: Option<(String, String)>,
}

impl<'a> Terraform<'a> {
    /// None where one of the two programs is missing.
    fn of(server: &'a Recorded) -> Option<Self> {
        let runs = |program: &&str| {
            let said = Command::new(program).arg("version").env("CHECKPOINT_DISABLE", "1").output();
            said.is_ok_and(|said| said.status.success())
        };
        let program = ["tofu", "terraform"].into_iter().find(runs);
        let (Some(program), Some(provider)) = (program, on_path(PROVIDER)) else {
            eprintln!(
                "SKIPPED: no tofu or terraform, or no {PROVIDER}, on PATH, so they were not tried; see docs/atlas-clients.md"
            );
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let directory = provider.parent().unwrap().display();
        std::fs::write(
            home.path().join("cli.tfrc"),
            format!("provider_installation {{\n dev_overrides {{\n \"mongodb/mongodbatlas\" = \"{directory}\"\n }}\n}}\n"),
        )
        .unwrap();
        Some(Self { server, program, home, account: None })
    }

    /// Says what there is to be from now on.
    fn write(&self, resources: &str) {
        let credentials = if self.account.is_some() {
            String::new()
        } else {
            format!(
                "base_url = \"{}\"\n public_key = \"{}\"\n private_key = \"{}\"\n",
                self.server.url(),
                self.server.public_key,
                self.server.private_key
            )
        };
        let text = format!(
            "terraform {{\n required_providers {{\n mongodbatlas = {{ source = \"mongodb/mongodbatlas\" }}\n }}\n}}\n\
             provider \"mongodbatlas\" {{\n {credentials}}}\n\
             locals {{\n project = \"{}\"\n role = \"{ROLE}\"\n}}\n{resources}",
            self.server.project
        );
        std::fs::write(self.home.path().join("main.tf"), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Output {
        let mut command = Command::new(self.program);
        command.current_dir(self.home.path()).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("TF_CLI_CONFIG_FILE", self.home.path().join("cli.tfrc"));
        command.env("CHECKPOINT_DISABLE", "1").env("TF_IN_AUTOMATION", "1");
        if let Some((id, secret)) = &self.account {
            command.env("MONGODB_ATLAS_BASE_URL", self.server.url());
            command.env("MONGODB_ATLAS_CLIENT_ID", id).env("MONGODB_ATLAS_CLIENT_SECRET", secret);
        }
        command.output().unwrap()
    }

    fn run(&self, words: &[&str]) -> String {
        let output = self.command(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {said}\n{}\n{}", stderr(&output), self.server.log());
        said
    }

    /// Brings it about, after which there is nothing left to do.
    fn apply(&self, resources: &str) {
        self.write(resources);
        self.run(&APPLY);
        self.is_as_written();
    }

    /// A plan made of what the server says now is empty.
    fn is_as_written(&self) {
        let output = self.command(&["plan", "-input=false", "-no-color", "-detailed-exitcode"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "something is left to do: {said}\n{}", stderr(&output));
    }

    /// What a configuration is refused with, on one line; it has to be refused.
    fn refused(&self, resources: &str) -> String {
        self.write(resources);
        self.fails(&APPLY)
    }

    fn fails(&self, words: &[&str]) -> String {
        let output = self.command(words);
        let said = stderr(&output);
        assert!(
            !output.status.success(),
            "{words:?} was not refused: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        // It draws a frame around what it says, and breaks lines.
        said.replace(['│', '╷', '╵'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The attributes of a resource, or of a data source where the type begins with `data.`, that were read last.
    fn shown(&self, address: &str) -> Value {
        let state = std::fs::read(self.home.path().join("terraform.tfstate")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let (mode, address) = match address.strip_prefix("data.") {
            Some(address) => ("data", address),
            None => ("managed", address),
        };
        let (kind, name) = address.split_once('.').unwrap();
        let kind = format!("mongodbatlas_{kind}");
        let found = state["resources"].as_array().unwrap().iter().find(|resource| {
            resource["mode"] == mode && resource["type"] == kind.as_str() && resource["name"] == name
        });
        found.unwrap_or_else(|| panic!("no {address}: {state:#}"))["instances"][0]["attributes"].clone()
    }

    /// Reads all of it anew, without changing anything.
    fn refresh(&self) {
        self.run(&[&APPLY[..], &["-refresh-only"]].concat());
    }

    fn destroy(&self) {
        self.run(&DESTROY);
    }
}

/// Where a program lies that PATH leads to.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
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

/// The one state that all documents are in.
async fn state(ebbtide: &Recorded, server: &Server) -> String {
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    let states = orders.distinct("state", doc! {}).await.unwrap();
    assert_eq!((states.len(), orders.count_documents(doc! {}).await.unwrap()), (1, 50), "{states:?}");
    ebbtide.seen(states[0].as_str().unwrap());
    states[0].as_str().unwrap().to_owned()
}

/// A server with a place for exports, and the deployment `main`.
fn registered(server: &Server, place: &Path, more: &[&str], recording: &'static str) -> Recorded {
    let exports = place.join("exports");
    std::fs::create_dir(&exports).unwrap();
    let config = place.join("ebbtide.toml");
    let places = format!(
        "[exports.{EXPORTS}]\nurl = \"{}\"\n[copies.{REGION}]\nurl = \"{}\"\n",
        exports.display(),
        place.join("second").display()
    );
    std::fs::write(&config, places).unwrap();
    let ebbtide = Ebbtide::start_with(&["--config", config.to_str().unwrap()], &[]);
    let ebbtide = Recorded::new(ebbtide, recording);
    ebbtide.cli(&[&["cluster", "add", "main", "--uri", &server.uri()], more].concat());
    ebbtide
}

/// The state that a restore job ends in, in the server's own words.
fn end(ebbtide: &Recorded, job: &Value) -> String {
    let id = job["snapshot_restore_job_id"].as_str().unwrap();
    ebbtide.watch(&["restore", "watch", "main", id]);
    text(&ebbtide.cli(&["restore", "show", "main", id]), "state")
}

/// A snapshot and all that is made of one. The provider waits four minutes by itself for each snapshot, however soon it is
/// completed.
fn life_of_a_snapshot(description: &str) -> String {
    format!(
        r#"
resource "mongodbatlas_cloud_backup_snapshot" "taken" {{
  project_id        = local.project
  cluster_name      = "main"
  description       = "{description}"
  retention_in_days = 3
}}
resource "mongodbatlas_cloud_backup_snapshot_restore_job" "back" {{
  project_id   = local.project
  cluster_name = "main"
  snapshot_id  = mongodbatlas_cloud_backup_snapshot.taken.snapshot_id
  delivery_type_config {{
    automated           = true
    target_cluster_name = "main"
    target_project_id   = local.project
  }}
}}
resource "mongodbatlas_cloud_backup_snapshot_restore_job" "archive" {{
  project_id   = local.project
  cluster_name = "main"
  snapshot_id  = mongodbatlas_cloud_backup_snapshot.taken.snapshot_id
  delivery_type_config {{
    download = true
  }}
}}
resource "mongodbatlas_cloud_backup_snapshot_export_bucket" "place" {{
  project_id     = local.project
  bucket_name    = "{EXPORTS}"
  cloud_provider = "AWS"
  iam_role_id    = local.role
}}
resource "mongodbatlas_cloud_backup_snapshot_export_job" "export" {{
  project_id       = local.project
  cluster_name     = "main"
  snapshot_id      = mongodbatlas_cloud_backup_snapshot.taken.snapshot_id
  export_bucket_id = mongodbatlas_cloud_backup_snapshot_export_bucket.place.export_bucket_id
  custom_data {{
    key   = "purpose"
    value = "test"
  }}
}}
data "mongodbatlas_cloud_backup_snapshot" "one" {{
  project_id   = local.project
  cluster_name = "main"
  snapshot_id  = mongodbatlas_cloud_backup_snapshot.taken.snapshot_id
}}
data "mongodbatlas_cloud_backup_snapshots" "all" {{
  project_id   = local.project
  cluster_name = "main"
  depends_on   = [mongodbatlas_cloud_backup_snapshot.taken]
}}
data "mongodbatlas_cloud_backup_snapshot_restore_job" "one" {{
  project_id              = local.project
  cluster_name            = "main"
  snapshot_restore_job_id = mongodbatlas_cloud_backup_snapshot_restore_job.back.snapshot_restore_job_id
}}
data "mongodbatlas_cloud_backup_snapshot_export_bucket" "one" {{
  project_id       = local.project
  export_bucket_id = mongodbatlas_cloud_backup_snapshot_export_bucket.place.export_bucket_id
}}
data "mongodbatlas_cloud_backup_snapshot_export_buckets" "all" {{
  project_id = local.project
  depends_on = [mongodbatlas_cloud_backup_snapshot_export_bucket.place]
}}
data "mongodbatlas_cloud_backup_snapshot_export_job" "one" {{
  project_id    = local.project
  cluster_name  = "main"
  export_job_id = mongodbatlas_cloud_backup_snapshot_export_job.export.export_job_id
}}
data "mongodbatlas_cloud_backup_snapshot_export_jobs" "all" {{
  project_id   = local.project
  cluster_name = "main"
  depends_on   = [mongodbatlas_cloud_backup_snapshot_export_job.export]
}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_takes_a_snapshot_and_restores_and_exports_it() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), &[], "terraform-snapshots");
    let Some(terraform) = Terraform::of(&ebbtide) else { return };

    put(&ebbtide, &server, "first").await;
    terraform.apply(&life_of_a_snapshot("before"));
    let taken = terraform.shown("cloud_backup_snapshot.taken");
    assert_eq!((&taken["status"], &taken["snapshot_type"]), (&"completed".into(), &"onDemand".into()));
    assert!(taken["storage_size_bytes"].as_u64().unwrap() > 0 && taken["expires_at"].is_string(), "{taken}");
    let job = terraform.shown("cloud_backup_snapshot_restore_job.back");
    assert_eq!(end(&ebbtide, &job), "finished");
    assert_eq!(state(&ebbtide, &server).await, "first");
    let export = terraform.shown("cloud_backup_snapshot_export_job.export");
    ebbtide.cli(&["export", "watch", "main", export["export_job_id"].as_str().unwrap()]);
    terraform.refresh();
    terraform.is_as_written();

    assert_eq!(terraform.shown("data.cloud_backup_snapshot.one")["description"], "before");
    let all = terraform.shown("data.cloud_backup_snapshots.all");
    assert_eq!((&all["total_count"], &all["results"][0]["id"]), (&1.into(), &taken["snapshot_id"]));
    let one = terraform.shown("data.cloud_backup_snapshot_restore_job.one");
    assert_eq!((&one["delivery_type"], &one["target_cluster_name"]), (&"automated".into(), &"main".into()));
    assert!(terraform.shown("cloud_backup_snapshot_restore_job.back")["finished_at"].is_string());
    let archive = terraform.shown("cloud_backup_snapshot_restore_job.archive");
    assert!(archive["delivery_url"][0].as_str().unwrap().starts_with(&ebbtide.url()), "{archive}");
    assert_eq!(terraform.shown("data.cloud_backup_snapshot_export_bucket.one")["bucket_name"], EXPORTS);
    assert_eq!(terraform.shown("data.cloud_backup_snapshot_export_buckets.all")["total_count"], 1);
    let export = terraform.shown("data.cloud_backup_snapshot_export_job.one");
    assert_eq!(
        (&export["state"], &export["custom_data"][0]["value"]),
        (&"Successful".into(), &"test".into())
    );
    assert_eq!(
        terraform.shown("data.cloud_backup_snapshot_export_jobs.all")["results"][0]["state"],
        "Successful"
    );
    let written = place.path().join("exports").join(text(&export, "prefix"));
    assert!(written.join(".complete").is_file(), "{}", written.display());

    // Another snapshot instead, and with it whatever was made of the first.
    put(&ebbtide, &server, "second").await;
    terraform.apply(&life_of_a_snapshot("after"));
    let second = terraform.shown("cloud_backup_snapshot.taken");
    assert_ne!(second["snapshot_id"], taken["snapshot_id"]);
    let other = terraform.shown("cloud_backup_snapshot_restore_job.back");
    assert_ne!(other["snapshot_restore_job_id"], job["snapshot_restore_job_id"]);
    assert_eq!(end(&ebbtide, &other), "finished");
    assert_eq!(state(&ebbtide, &server).await, "second");
    let export = terraform.shown("cloud_backup_snapshot_export_job.export");
    ebbtide.cli(&["export", "watch", "main", export["export_job_id"].as_str().unwrap()]);

    let archive = terraform.shown("cloud_backup_snapshot_restore_job.archive");
    terraform.destroy();
    assert_eq!(end(&ebbtide, &archive), "cancelled", "an archive that nobody fetched is withdrawn");
    assert_eq!(ebbtide.cli(&["snapshot", "list", "main"]), json!([]));
    assert_eq!(ebbtide.cli(&["export", "bucket", "list"]), json!([]));
}

fn restore_job(name: &str, arguments: &str, delivery: &str) -> String {
    format!(
        "resource \"mongodbatlas_cloud_backup_snapshot_restore_job\" \"{name}\" {{\n project_id = local.project\n \
         cluster_name = \"main\"\n {arguments}\n delivery_type_config {{\n {delivery}\n }}\n}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_restores_points_in_time_and_has_archives_made() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), &["--pit"], "terraform-restores");
    let Some(terraform) = Terraform::of(&ebbtide) else { return };

    ebbtide.until_restorable(put(&ebbtide, &server, "first").await).await;
    let snapshot = ebbtide.snapshot("main");
    let second = put(&ebbtide, &server, "second").await;
    let third = put(&ebbtide, &server, "third").await;
    ebbtide.until_restorable(put(&ebbtide, &server, "fourth").await).await;
    let target = "target_cluster_name = \"main\"\n target_project_id = local.project";
    let point = |at: Timestamp| {
        let at = format!(
            "point_in_time = true\n {target}\n oplog_ts = {}\n oplog_inc = {}",
            at.time, at.increment
        );
        restore_job("back", "", &at)
    };
    for (at, then) in [(second, "second"), (third, "third")] {
        terraform.apply(&point(at));
        let job = terraform.shown("cloud_backup_snapshot_restore_job.back");
        assert_eq!(end(&ebbtide, &job), "finished");
        assert_eq!(state(&ebbtide, &server).await, then);
        terraform.is_as_written();
    }
    // Nothing is asked for anew when it is taken away: what was restored stays.
    terraform.destroy();
    assert_eq!(state(&ebbtide, &server).await, "third");

    let archive = restore_job("archive", &format!("snapshot_id = \"{snapshot}\""), "download = true");
    let listed = "data \"mongodbatlas_cloud_backup_snapshot_restore_jobs\" \"all\" {\n project_id = local.project\n \
                  cluster_name = \"main\"\n depends_on = [mongodbatlas_cloud_backup_snapshot_restore_job.archive]\n}\n";
    terraform.apply(&format!("{archive}{listed}"));
    let job = terraform.shown("cloud_backup_snapshot_restore_job.archive");
    assert_eq!(end(&ebbtide, &job), "ready");
    terraform.refresh();
    let all = terraform.shown("data.cloud_backup_snapshot_restore_jobs.all");
    assert_eq!((&all["total_count"], &all["results"][0]["id"]), (&3.into(), &job["snapshot_restore_job_id"]));
    assert_eq!(
        (&all["results"][1]["oplog_ts"], &all["results"][1]["oplog_inc"]),
        (&third.time.into(), &third.increment.into())
    );
    let job = terraform.shown("cloud_backup_snapshot_restore_job.archive");
    let fetched = place.path().join("archive.tar.gz");
    let url = job["delivery_url"][0].as_str().unwrap();
    let output = Command::new("curl").args(["-sSf", "-o"]).arg(&fetched).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let names = Command::new("tar").arg("-tzf").arg(&fetched).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    assert!(names.contains("dump/shop/orders.bson"), "{names}");
    // What was fetched is over, and there is nothing to withdraw: it has to be taken out of the state, as it says.
    let begun = Instant::now();
    while end(&ebbtide, &job) != "expired" {
        assert!(begun.elapsed() < support::PATIENCE, "its link is still good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    terraform.is_as_written();
    let over = terraform.fails(&DESTROY);
    assert!(over.contains("ALREADY_EXPIRED") && over.contains("nothing left to cancel"), "{over}");
    terraform.run(&["state", "rm", "mongodbatlas_cloud_backup_snapshot_restore_job.archive"]);
    terraform.destroy();

    let unknown = restore_job("archive", &format!("snapshot_id = \"{ROLE}\""), "download = true");
    let said = terraform.refused(&unknown);
    assert!(said.contains("SNAPSHOT_NOT_FOUND") && said.contains(ROLE), "{said}");
    let early = Timestamp { time: second.time - 100_000, increment: 1 };
    let said = terraform.refused(&point(early));
    let code = "UNABLE_T0_FIND_SNAPSHOT_PRIOR_TO_PIT_RESTORE_OPTIME";
    assert!(said.contains(code) && said.contains("What can be restored: from"), "{said}");
}

const BUCKET: &str = r#"
resource "mongodbatlas_cloud_backup_snapshot_export_bucket" "place" {
  project_id     = local.project
  bucket_name    = "archive"
  cloud_provider = "AWS"
  iam_role_id    = local.role
}
"#;

/// A schedule with the rest of its arguments.
fn schedule(rest: &str) -> String {
    format!(
        "{BUCKET}\nresource \"mongodbatlas_cloud_backup_schedule\" \"main\" {{\n project_id = local.project\n \
         cluster_name = \"main\"\n{rest}\n}}\ndata \"mongodbatlas_cloud_backup_schedule\" \"main\" {{\n \
         project_id = local.project\n cluster_name = \"main\"\n \
         depends_on = [mongodbatlas_cloud_backup_schedule.main]\n}}\n"
    )
}

fn item(block: &str, interval: u32, unit: &str, value: u32) -> String {
    format!(
        " {block} {{\n frequency_interval = {interval}\n retention_unit = \"{unit}\"\n retention_value = {value}\n }}\n"
    )
}

fn policy_items(weeks: u32) -> String {
    [
        item("policy_item_hourly", 6, "days", 7),
        item("policy_item_daily", 1, "days", 7),
        item("policy_item_weekly", 4, "weeks", weeks),
        item("policy_item_monthly", 40, "months", 4),
        item("policy_item_yearly", 12, "years", 1),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_keeps_a_schedule_as_it_is_written() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), &[], "terraform-schedules");
    let Some(terraform) = Terraform::of(&ebbtide) else { return };
    let shown = || terraform.shown("cloud_backup_schedule.main");

    // The least that can be said, and a change of that.
    terraform.apply(&schedule(""));
    let least = shown();
    assert_eq!((&least["reference_hour_of_day"], &least["restore_window_days"]), (&18.into(), &7.into()));
    terraform.apply(&schedule(
        " reference_hour_of_day = 0\n reference_minute_of_hour = 45\n restore_window_days = 2",
    ));
    assert_eq!(
        (&shown()["reference_minute_of_hour"], &shown()["restore_window_days"]),
        (&45.into(), &2.into())
    );
    terraform.apply(&schedule(&policy_items(4)));
    let first = shown();
    assert!(first["policy_item_daily"][0]["id"].is_string() && first["next_snapshot"].is_string(), "{first}");
    let (mut two, three) = (policy_items(5), item("policy_item_weekly", 6, "weeks", 6));
    two.push_str(&three);
    terraform.apply(&schedule(&two));
    let second = shown();
    assert_eq!(
        second["policy_item_daily"][0]["id"], first["policy_item_daily"][0]["id"],
        "items keep their ids"
    );
    assert_eq!(second["policy_item_weekly"][0]["id"], first["policy_item_weekly"][0]["id"]);
    assert_eq!(second["policy_item_weekly"][1]["retention_value"], 6);

    // Exported by itself, and then no more.
    let export = " auto_export_enabled = true\n export {\n export_bucket_id = \
                  mongodbatlas_cloud_backup_snapshot_export_bucket.place.export_bucket_id\n frequency_type = \"monthly\"\n }\n";
    terraform.apply(&schedule(&format!("{two}{export}")));
    let read = terraform.shown("data.cloud_backup_schedule.main");
    assert_eq!(
        (&read["auto_export_enabled"], &read["export"][0]["frequency_type"]),
        (&true.into(), &"monthly".into())
    );
    terraform
        .apply(&schedule(&format!("{two}{}", export.replace("true", "false").replace("monthly", "yearly"))));
    assert_eq!(
        (&shown()["auto_export_enabled"], &shown()["export"][0]["frequency_type"]),
        (&false.into(), &"yearly".into())
    );
    terraform.apply(&schedule(&two));
    assert_eq!((&shown()["auto_export_enabled"], &shown()["export"]), (&false.into(), &json!([])));
    let fewer = item("policy_item_daily", 1, "days", 9);
    terraform.apply(&schedule(&fewer));
    assert_eq!(shown()["policy_item_weekly"], json!([]));

    // Copied to a second vault, and then no more.
    let copies = |region: &str, frequencies: &str| {
        format!(
            " copy_settings {{\n cloud_provider = \"AWS\"\n frequencies = [{frequencies}]\n region_name = \"{region}\"\n \
             zone_id = local.role\n should_copy_oplogs = false\n }}\n"
        )
    };
    for frequencies in ["\"DAILY\"", "\"DAILY\", \"ON_DEMAND\""] {
        terraform.apply(&schedule(&format!("{fewer}{}", copies(REGION, frequencies))));
        let copied = &shown()["copy_settings"][0];
        assert_eq!((&copied["region_name"], &copied["zone_id"]), (&REGION.into(), &ROLE.into()));
        let told = json!(frequencies.replace('"', "").split(", ").collect::<Vec<_>>());
        assert_eq!(copied["frequencies"], told);
    }
    let read = terraform.shown("data.cloud_backup_schedule.main");
    assert_eq!(read["copy_settings"][0]["region_name"], REGION);
    terraform.apply(&schedule(&fewer));
    assert_eq!(shown()["copy_settings"], json!([]));

    // What a server of one's own does not have, or not so, with the reason; and nothing was changed.
    for (rest, code, why) in [
        (
            format!("{fewer}{}", copies("US_EAST_1", "\"DAILY\"")),
            "INVALID_BACKUP_POLICY",
            "[copies.US_EAST_1]",
        ),
        (item("policy_item_daily", 2, "days", 9), "INVALID_BACKUP_POLICY", "daily"),
        (
            format!("{fewer} export {{\n export_bucket_id = local.role\n frequency_type = \"daily\"\n }}\n"),
            "EXPORT_BUCKET_NOT_FOUND",
            ROLE,
        ),
    ] {
        let said = terraform.refused(&schedule(&rest));
        assert!(said.contains(code) && said.contains(why), "{rest}: {said}");
    }
    let elsewhere = BUCKET.replace("\"place\"", "\"other\"").replace("\"archive\"", "\"elsewhere\"");
    let said = terraform.refused(&format!("{}{elsewhere}", schedule(&fewer)));
    assert!(said.contains("EXPORT_BUCKET_NAME_INVALID") && said.contains("[exports.elsewhere]"), "{said}");
    terraform.apply(&schedule(&fewer));

    terraform.destroy();
    let gone = ebbtide.cli(&["schedule", "show", "main"]);
    assert_eq!(gone["policies"][0]["policyItems"], json!([]), "{gone}");
    assert_eq!(ebbtide.cli(&["export", "bucket", "list"]), json!([]));
}

/// As the provider's pages write it: intervals that do not count, and a restore window without continuous backup.
fn compliance(rest: &str, days: u32) -> String {
    format!(
        "resource \"mongodbatlas_backup_compliance_policy\" \"all\" {{\n project_id = local.project\n \
         authorized_email = \"it@example.com\"\n authorized_user_first_name = \"Ada\"\n authorized_user_last_name = \"Byron\"\n\
         {rest}{}{}{}{}}}\ndata \"mongodbatlas_backup_compliance_policy\" \"all\" {{\n project_id = local.project\n \
         depends_on = [mongodbatlas_backup_compliance_policy.all]\n}}\n",
        item("on_demand_policy_item", 1, "days", 3),
        item("policy_item_hourly", 6, "days", days),
        item("policy_item_daily", 0, "days", days),
        item("policy_item_weekly", 0, "weeks", 4),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_sets_a_compliance_policy_and_cannot_lift_it() {
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let ebbtide = registered(&server, place.path(), &["--pit"], "terraform-compliance");
    put(&ebbtide, &server, "first").await;
    let Some(terraform) = Terraform::of(&ebbtide) else { return };
    let shown = || terraform.shown("backup_compliance_policy.all");
    let window = " restore_window_days = 7\n";

    // The provider never has schedules changed, so they have to meet a policy before.
    let said = terraform.refused(&compliance(window, 7));
    let code = "BACKUP_POLICIES_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    assert!(said.contains(code) && said.contains("main has not: hourly snapshots"), "{said}");
    let met = [
        item("policy_item_hourly", 6, "days", 9),
        item("policy_item_daily", 1, "days", 9),
        item("policy_item_weekly", 6, "weeks", 4),
    ];
    let schedule = format!(
        "resource \"mongodbatlas_cloud_backup_schedule\" \"main\" {{\n project_id = local.project\n cluster_name = \"main\"\n{}}}\n",
        met.concat()
    );
    terraform.apply(&schedule);
    // What the policy stands on goes after it.
    let with = |rest: &str, days: u32| {
        let rest = format!(" depends_on = [mongodbatlas_cloud_backup_schedule.main]\n{rest}");
        format!("{schedule}{}", compliance(&rest, days))
    };
    terraform.apply(&with(window, 7));
    let first = shown();
    assert_eq!((&first["state"], &first["restore_window_days"]), (&"ACTIVE".into(), &7.into()));
    assert_eq!(first["policy_item_weekly"][0]["frequency_interval"], 0);
    terraform.apply(&with("", 7));
    let more = " pit_enabled = true\n encryption_at_rest_enabled = true\n restore_window_days = 3\n";
    terraform.apply(&with(more, 8));
    let read = terraform.shown("data.backup_compliance_policy.all");
    assert_eq!((&read["pit_enabled"], &read["restore_window_days"]), (&true.into(), &3.into()));
    assert_eq!(read["policy_item_daily"][0]["retention_value"], 8);
    assert_eq!(read["policy_item_daily"][0]["id"], first["policy_item_daily"][0]["id"]);

    let copies = format!("{more} copy_protection_enabled = true\n");
    terraform.apply(&with(&copies, 8));
    assert_eq!(shown()["copy_protection_enabled"], true);
    let said = terraform.refused(&with("", 8));
    assert!(
        said.contains("BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID")
            && said.contains("release-compliance-policy"),
        "{said}"
    );
    // As at Atlas, where it takes the support to lift one; here it takes whoever runs the server.
    let said = terraform.fails(&DESTROY);
    assert!(
        said.contains("BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID")
            && said.contains("release-compliance-policy"),
        "{said}"
    );
    assert_eq!(ebbtide.cli(&["compliance-policy", "show"])["state"], "ACTIVE");
    ebbtide.admin(&["release-compliance-policy", "--project", &ebbtide.project]);
    terraform.destroy();
    assert_eq!(ebbtide.cli(&["compliance-policy", "show"]), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_reads_flex_clusters_as_a_service_account() {
    let server = Server::start(Options::default()).await.unwrap();
    let ebbtide = Recorded::new(Ebbtide::start(), "terraform-flex");
    put(&ebbtide, &server, "first").await;
    ebbtide.cli(&["cluster", "add", "small", "--kind", "flex", "--uri", &server.uri()]);
    let Some(mut terraform) = Terraform::of(&ebbtide) else { return };
    let account =
        ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", "GROUP_OWNER"]);
    terraform.account = Some((text(&account, "clientId"), text(&account, "clientSecret")));
    let snapshot = ebbtide.snapshot("small");
    let job = flex_restore(&ebbtide, &snapshot);
    let of = "project_id = local.project\n name = \"small\"";
    let read = format!(
        "data \"mongodbatlas_flex_cluster\" \"one\" {{\n {of}\n}}\n\
         data \"mongodbatlas_flex_clusters\" \"all\" {{\n project_id = local.project\n}}\n\
         data \"mongodbatlas_flex_snapshot\" \"one\" {{\n {of}\n snapshot_id = \"{snapshot}\"\n}}\n\
         data \"mongodbatlas_flex_snapshots\" \"all\" {{\n {of}\n}}\n\
         data \"mongodbatlas_flex_restore_job\" \"one\" {{\n {of}\n restore_job_id = \"{job}\"\n}}\n\
         data \"mongodbatlas_flex_restore_jobs\" \"all\" {{\n {of}\n}}\n"
    );
    terraform.apply(&read);
    assert_eq!(terraform.shown("data.flex_cluster.one")["state_name"], "IDLE");
    assert_eq!(terraform.shown("data.flex_clusters.all")["results"][0]["name"], "small");
    let one = terraform.shown("data.flex_snapshot.one");
    assert_eq!((&one["status"], &one["snapshot_id"]), (&"COMPLETED".into(), &snapshot.as_str().into()));
    assert_eq!(terraform.shown("data.flex_snapshots.all")["results"], json!([one]));
    let one = terraform.shown("data.flex_restore_job.one");
    assert_eq!(
        (&one["delivery_type"], &one["target_deployment_item_name"]),
        (&"RESTORE".into(), &"small".into())
    );
    assert_eq!(terraform.shown("data.flex_restore_jobs.all")["results"], json!([one]));
    terraform.destroy();
}

/// Restores a flex cluster onto itself, which the provider has no resource for; the job's id.
fn flex_restore(ebbtide: &Recorded, snapshot: &str) -> String {
    let body = json!({
        "snapshotId": snapshot, "targetDeploymentItemName": "small", "targetProjectId": ebbtide.project,
    });
    let output = Command::new("curl")
        .args(["-sSf", "--digest", "--user", &format!("{}:{}", ebbtide.public_key, ebbtide.private_key)])
        .args(["-H", "Accept: application/vnd.atlas.2024-11-13+json", "-H", "Content-Type: application/json"])
        .args(["-d", &body.to_string()])
        .arg(format!(
            "{}/api/atlas/v2/groups/{}/flexClusters/small/backup/restoreJobs",
            ebbtide.url(),
            ebbtide.project
        ))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let job = text(&serde_json::from_slice(&output.stdout).unwrap(), "id");
    ebbtide.cli(&["restore", "watch", "small", &job]);
    job
}
