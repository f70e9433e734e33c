//! What the configuration file says reaches the running server.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;

use bson::{Document, doc};
use support::{Ebbtide, text};
use testbed::{Options, Server};

/// A server with a configuration file of this text.
fn configured(text: &str) -> (tempfile::TempDir, Ebbtide) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ebbtide.toml");
    std::fs::write(&file, text).unwrap();
    let ebbtide = Ebbtide::start_with(&["--config", file.to_str().unwrap()], &[]);
    (place, ebbtide)
}

/// Status, headers (names in lower case) and body of an answer.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A GET by curl with the owner's key.
fn get(ebbtide: &Ebbtide, path: &str) -> Answer {
    let user = format!("{}:{}", ebbtide.public_key, ebbtide.private_key);
    let output = Command::new("curl")
        .args(["-sS", "-i", "--digest", "--user", &user])
        .args(["-H", "Accept: application/vnd.atlas.2025-03-12+json"])
        .arg(format!("{}{path}", ebbtide.url()))
        .output()
        .unwrap();
    // The last answer; the first one is the challenge.
    let said = support::stderr(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    let from = text.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("{text}: {said}"));
    let (head, body) = text[from..].split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

/// A path below the clusters of the project, drawn from the bucket of backups or of clusters.
fn paths(ebbtide: &Ebbtide) -> [String; 2] {
    let group = format!("/api/atlas/v2/groups/{}", ebbtide.project);
    [format!("{group}/clusters/nobody/backup/restoreJobs"), format!("{group}/clusters")]
}

#[test]
fn rate_limits_are_those_of_atlas_unless_configured() {
    let ebbtide = Ebbtide::start();
    let [backups, clusters] = paths(&ebbtide);
    assert_eq!(get(&ebbtide, &backups).header("ratelimit-limit"), Some("1200"));
    assert_eq!(get(&ebbtide, &clusters).header("ratelimit-limit"), Some("10000"));
}

#[test]
fn configured_rate_limits_are_told_and_kept() {
    let text = "[rate_limit]\ncapacity = 2\nrefill_per_minute = 1\nclusters_capacity = 3\nclusters_refill_per_minute = 1\n";
    let (_place, ebbtide) = configured(text);
    let [backups, clusters] = paths(&ebbtide);
    for (path, capacity, allowed) in [(backups, "2", 404), (clusters, "3", 200)] {
        for _ in 0..capacity.parse::<u32>().unwrap() {
            let answer = get(&ebbtide, &path);
            assert_eq!((answer.status, answer.header("ratelimit-limit")), (allowed, Some(capacity)));
        }
        let refused = get(&ebbtide, &path);
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert_eq!(refused.header("x-error-code"), Some("RATE_LIMITED_TOKEN_BUCKET"));
        assert!(refused.header("retry-after").is_some());
    }
}

#[test]
fn rate_limits_can_be_switched_off() {
    let (_place, ebbtide) =
        configured("[rate_limit]\nenabled = false\ncapacity = 0\nclusters_capacity = 0\n");
    for path in paths(&ebbtide) {
        let answer = get(&ebbtide, &path);
        assert!(matches!(answer.status, 200 | 404), "{}", answer.status);
        assert_eq!(answer.header("ratelimit-limit"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deviations_of_real_atlas_are_sent_when_configured() {
    let server = Server::start(Options::default()).await.unwrap();
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 1 }).await.unwrap();
    let text_of_file = "[api]\nlegacy_restore_jobs = \"refuse\"\nondemand_frequency_type = true\n\
                        null_desired_timestamp = true\n";
    let (_place, ebbtide) = configured(text_of_file);
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let job = text(&ebbtide.cli(&["restore", "download", "main", "--snapshot", &snapshot]), "id");
    let cluster = format!("/api/atlas/v2/groups/{}/clusters/main", ebbtide.project);
    let json = |path: &str| {
        let answer = get(&ebbtide, &format!("{cluster}{path}"));
        (answer.status, serde_json::from_str::<serde_json::Value>(&answer.body).unwrap())
    };
    let (_, shown) = json(&format!("/backup/snapshots/{snapshot}"));
    assert_eq!(shown["frequencyType"], "ondemand", "{shown}");
    let (_, shown) = json(&format!("/backup/restoreJobs/{job}"));
    let nulls = serde_json::json!({"date": null, "increment": null, "time": null});
    assert_eq!(shown.get("desiredTimestamp"), Some(&nulls), "{shown}");
    let (status, refused) = json("/restoreJobs");
    assert_eq!(
        (status, refused["errorCode"].as_str()),
        (400, Some("INCORRECT_BACKUP_API_ENDPOINT")),
        "{refused}"
    );
}

/// Waits until the server has heard of a change: it remembers credentials for a few seconds.
fn status_becomes(ebbtide: &Ebbtide, wanted: u16) -> Answer {
    let [_, clusters] = paths(ebbtide);
    let began = std::time::Instant::now();
    loop {
        let answer = get(ebbtide, &clusters);
        if answer.status == wanted {
            return answer;
        }
        assert!(began.elapsed() < support::PATIENCE, "it stays {}: {}", answer.status, answer.body);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_key_that_has_shut_itself_out_is_let_in_by_whoever_runs_the_server() {
    let ebbtide = Ebbtide::start();
    let key = ebbtide.public_key.clone();
    let list =
        |words: &[&str]| ebbtide.admin(&[&["access-list", &key], words].concat())["accessList"].clone();
    assert_eq!(list(&[]), serde_json::json!([]));
    let elsewhere = ["--add", "192.0.2.0/24", "--add", "2001:db8::1"];
    assert_eq!(list(&elsewhere), serde_json::json!(["192.0.2.0/24", "2001:db8::1/128"]));
    let refused = status_becomes(&ebbtide, 403);
    assert!(refused.body.contains("IP address 127.0.0.1 is not allowed"), "{}", refused.body);
    let told = support::stderr(&ebbtide.try_cli(&["cluster", "list"]));
    assert!(told.contains("IP address 127.0.0.1 is not allowed"), "{told}");
    for (words, wanted) in [
        (vec!["access-list", "nobody"], "there is no API key"),
        (vec!["access-list", &key, "--remove", "192.0.2.7"], "192.0.2.7/32 is not on the access list"),
        (vec!["access-list", &key, "--add", "localhost"], "is no address such as 192.0.2.7"),
    ] {
        let output = ebbtide.try_admin(&words);
        assert!(!output.status.success() && support::stderr(&output).contains(wanted), "{output:?}");
    }
    assert_eq!(list(&["--remove", "192.0.2.0/24"]), serde_json::json!(["2001:db8::1/128"]));
    assert_eq!(list(&["--clear", "--add", "127.0.0.0/8"]), serde_json::json!(["127.0.0.0/8"]));
    status_becomes(&ebbtide, 200);
    assert_eq!(list(&["--clear"]), serde_json::json!([]));
}

#[test]
fn access_lists_may_be_required() {
    let (_place, ebbtide) = configured("[api]\naccess_list_required = true\n");
    let [_, clusters] = paths(&ebbtide);
    let refused = get(&ebbtide, &clusters);
    assert_eq!(
        (refused.status, refused.header("x-error-code")),
        (403, Some("RESOURCE_REQUIRES_ACCESS_LIST"))
    );
    ebbtide.admin(&["access-list", &ebbtide.public_key, "--add", "127.0.0.1"]);
    status_becomes(&ebbtide, 200);
}
