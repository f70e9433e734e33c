//! The requests of the demonstration, each shown as the curl line that would do the same.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bson::Timestamp;
use serde_json::{Value, json};

use crate::http::Api;
use crate::screen::{Bar, say};

const ACCEPT: &str = "application/vnd.atlas.2025-03-12+json";
const POLL: Duration = Duration::from_millis(250);
/// Far longer than the demonstration takes anywhere; a bound all the same.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// One deployment of one project.
pub(crate) struct Cluster<'a> {
    /// The server.
    pub(crate) api: &'a Api,
    /// The project's id.
    pub(crate) project: &'a str,
    /// The deployment's name.
    pub(crate) name: &'a str,
}

impl Cluster<'_> {
    fn path(&self) -> String {
        format!("/api/atlas/v2/groups/{}/clusters/{}/backup", self.project, self.name)
    }

    /// The path of what the Atlas API does not tell: progress and the receipt.
    fn own_path(&self) -> String {
        format!("/api/ebbtide/v1/groups/{}/clusters/{}", self.project, self.name)
    }

    fn show_curl(&self, method: &str, path: &str, body: Option<&Value>) {
        let mut line = format!("$ curl --digest --user \"$PUBLIC:$PRIVATE\" --header 'Accept: {ACCEPT}'");
        if let Some(body) = body {
            line.push_str(&format!(" \\\n    --header 'Content-Type: application/json' --data '{body}'"));
        } else if method != "GET" {
            line.push_str(&format!(" --request {method}"));
        }
        say(&format!("{line} \\\n    'http://{}{path}'", self.api.address));
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.api.call("GET", path, ACCEPT, None)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.show_curl("POST", path, Some(body));
        self.api.call("POST", path, ACCEPT, Some(body))
    }

    /// Takes a snapshot and waits for it.
    pub(crate) fn take_snapshot(&self) -> anyhow::Result<Value> {
        let path = format!("{}/snapshots", self.path());
        let asked =
            self.post(&path, &json!({ "description": "before the accident", "retentionInDays": 1 }))?;
        let id = id_of(&asked)?;
        let path = format!("{path}/{id}");
        self.show_curl("GET", &path, None);
        self.watch("snapshot", &path, &format!("{}/snapshots/{id}", self.own_path()), |snapshot| {
            match snapshot["status"].as_str() {
                Some("completed") => Some(true),
                Some("failed") => Some(false),
                _ => None,
            }
        })
    }

    /// Creates a restore job into the same deployment and waits for it.
    pub(crate) fn restore(&self, snapshot: &str) -> anyhow::Result<Value> {
        let body = json!({
            "deliveryType": "automated", "snapshotId": snapshot,
            "targetClusterName": self.name, "targetGroupId": self.project,
        });
        self.job("restore", &body, |job| job["finishedAt"].as_str().map(|_| true))
    }

    /// Creates a restore job to the state after an operation, into a deployment of the project, and waits for it.
    pub(crate) fn restore_to_point(&self, operation: Timestamp, target: &str) -> anyhow::Result<Value> {
        let body = json!({
            "deliveryType": "pointInTime", "oplogTs": operation.time, "oplogInc": operation.increment,
            "targetClusterName": target, "targetGroupId": self.project,
        });
        self.job("restore", &body, |job| job["finishedAt"].as_str().map(|_| true))
    }

    /// Waits until operations are recorded.
    pub(crate) fn wait_for_timeline(&self) -> anyhow::Result<()> {
        let path = format!("{}/timeline", self.own_path());
        let started = Instant::now();
        loop {
            let answer = self.get(&path)?;
            let open = answer["timelines"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["state"] == "open"));
            if open {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!("no timeline has begun after {PATIENCE:?}: {answer}");
            }
            sleep(POLL);
        }
    }

    /// Creates a download job and waits for its URL.
    pub(crate) fn download(&self, snapshot: &str) -> anyhow::Result<Value> {
        let body = json!({ "deliveryType": "download", "snapshotId": snapshot });
        self.job("archive", &body, |job| job["deliveryUrl"].get(0).map(|_| true))
    }

    fn job(&self, name: &str, body: &Value, done: fn(&Value) -> Option<bool>) -> anyhow::Result<Value> {
        let path = format!("{}/restoreJobs", self.path());
        let id = id_of(&self.post(&path, body)?)?;
        let path = format!("{path}/{id}");
        self.show_curl("GET", &path, None);
        self.watch(name, &path, &format!("{}/restoreJobs/{id}", self.own_path()), |job| {
            let ended_badly = ["failed", "cancelled", "expired"].iter().any(|state| job[*state] == true);
            if ended_badly { Some(false) } else { done(job) }
        })
    }

    /// What the Atlas API does not tell about a restore job.
    pub(crate) fn job_details(&self, id: &str) -> anyhow::Result<Value> {
        self.get(&format!("{}/restoreJobs/{id}", self.own_path()))
    }

    fn watch(
        &self,
        name: &str,
        path: &str,
        own_path: &str,
        ended: impl Fn(&Value) -> Option<bool>,
    ) -> anyhow::Result<Value> {
        let started = Instant::now();
        let mut bar = Bar::new(name);
        loop {
            let answer = self.get(path)?;
            let ended = ended(&answer);
            if ended.is_some() {
                let details = self.get(own_path).unwrap_or_default();
                if ended == Some(false) {
                    let why = details["error"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
                    bail!("the {name} did not succeed: {why}");
                }
                bar.finish("done");
                return Ok(answer);
            }
            if started.elapsed() > PATIENCE {
                bail!("the {name} has not ended after {PATIENCE:?}: {answer}");
            }
            // Only for the bar: without it the watching goes on.
            if let Ok(details) = self.get(own_path) {
                let (done, total, text) = progress(&details);
                bar.show(done, total, &text);
            }
            sleep(POLL);
        }
    }
}

fn progress(details: &Value) -> (u64, u64, String) {
    let progress = &details["progress"];
    let number = |name: &str| progress[name].as_u64().unwrap_or(0);
    let phase = progress["phase"].as_str().or(details["state"].as_str()).unwrap_or("waiting");
    let rate = number("bytesPerSecond") / 1_000_000;
    let left =
        progress["secondsLeft"].as_u64().map(|seconds| format!(", {seconds} s left")).unwrap_or_default();
    let text = format!("{phase}: {} documents, {rate} MB/s{left}", number("documentsDone"));
    (number("bytesDone"), number("bytesTotal"), text)
}

fn id_of(answer: &Value) -> anyhow::Result<String> {
    Ok(answer["id"].as_str().with_context(|| format!("the answer has no id: {answer}"))?.to_owned())
}
