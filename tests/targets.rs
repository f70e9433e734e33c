//! Restores into other deployments and other projects: who may, and one at a time.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Command;

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server, data::Set, oracle};

/// A credential: what the command line and curl log in with.
struct Key(String, String);

impl Key {
    fn of(made: &serde_json::Value) -> Self {
        Self(text(made, "publicKey"), text(made, "privateKey"))
    }
}

/// Runs the command line in a project and with a key.
fn run(ebbtide: &Ebbtide, key: &Key, project: &str, words: &[&str]) -> std::process::Output {
    let mut command = support::program();
    command.args(words).args(["--output", "json", "--url", &ebbtide.url()]).env("EBBTIDE_PROJECT", project);
    command.env("EBBTIDE_PUBLIC_KEY", &key.0).env("EBBTIDE_PRIVATE_KEY", &key.1).output().unwrap()
}

/// Asks by HTTP for an automated restore; status and body.
fn ask(ebbtide: &Ebbtide, key: &Key, snapshot: &str, target: (&str, &str)) -> (u16, serde_json::Value) {
    let body = serde_json::json!({
        "deliveryType": "automated", "snapshotId": snapshot, "targetGroupId": target.0, "targetClusterName": target.1,
    });
    let url =
        format!("{}/api/atlas/v2/groups/{}/clusters/main/backup/restoreJobs", ebbtide.url(), ebbtide.project);
    let output = Command::new("curl")
        .args(["-sS", "--digest", "--user", &format!("{}:{}", key.0, key.1), "-w", "\n%{http_code}"])
        .args(["-H", "Accept: application/vnd.atlas.2025-03-12+json", "-H", "Content-Type: application/json"])
        .args(["-X", "POST", "-d", &body.to_string(), &url])
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let (body, code) = answer.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn into_another_project_with_rights_on_both_sides_only() {
    let (source, other) =
        (Server::start(Options::default()).await.unwrap(), Server::start(Options::default()).await.unwrap());
    let (from, to) = (source.client().await.unwrap(), other.client().await.unwrap());
    testbed::data::load(&from, 7, &[Set::Indexes, Set::Views, Set::TimeSeries]).await.unwrap();
    testbed::data::load(&to, 8, &[Set::Ttl]).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &source.uri());
    let snapshot = ebbtide.snapshot("main");
    let elsewhere = text(&ebbtide.admin(&["create-project", "elsewhere"]), "id");
    let key_in = |project: &str, role: &str| {
        Key::of(&ebbtide.admin(&["create-key", "--project", project, "--role", role]))
    };
    let theirs = key_in(&elsewhere, "GROUP_OWNER");
    let added = run(&ebbtide, &theirs, &elsewhere, &["cluster", "add", "test", "--uri", &other.uri()]);
    assert!(added.status.success(), "{}", stderr(&added));
    let untouched = oracle::state(&to).await.unwrap();

    // The owner of one side alone, of either.
    let ours = Key(ebbtide.public_key.clone(), ebbtide.private_key.clone());
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "test", "--target-project"];
    let start = [&start[..], &[&elsewhere, "--watch"]].concat();
    let refused = run(&ebbtide, &ours, &ebbtide.project, &start);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("insufficient permission"), "{}", stderr(&refused));
    let (code, body) = ask(&ebbtide, &ours, &snapshot, (&elsewhere, "test"));
    assert_eq!((code, text(&body, "errorCode").as_str()), (403, "CANNOT_RESTORE_TO_TARGET"), "{body}");
    let (code, body) = ask(&ebbtide, &theirs, &snapshot, (&elsewhere, "test"));
    assert!(code == 401 || code == 403, "{code}: {body}");
    assert_eq!(oracle::state(&to).await.unwrap(), untouched);

    // Whoever owns both.
    let both = key_in(&ebbtide.project, "ORG_OWNER");
    let done = run(&ebbtide, &both, &ebbtide.project, &start);
    assert!(done.status.success(), "{}", stderr(&done));
    oracle::assert_same(&oracle::state(&from).await.unwrap(), &oracle::state(&to).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outage_is_told_before_anything_is_done() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    testbed::data::load(&client, 7, &[Set::Views, Set::TimeSeries]).await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main", "--dry-run"];
    let plan = ebbtide.cli(&start);
    let number = |plan: &serde_json::Value, name: &str| plan[name].as_u64().unwrap();
    let series = number(&plan, "timeSeriesBytes");
    assert!(series > 0 && series < number(&plan, "logicalBytes"), "{plan}");
    assert_eq!(number(&plan, "bytesLoadedInCutOver"), series);
    assert!(number(&plan, "expectedOutageSeconds") > 0);
    let in_place = ebbtide.cli(&[&start[..], &["--in-place"]].concat());
    assert_eq!(number(&in_place, "bytesLoadedInCutOver"), number(&plan, "logicalBytes"));
    let told = ebbtide.try_text(&start);
    assert!(String::from_utf8_lossy(&told.stdout).contains("expected outage: about"), "{told:?}");
    let jobs = ebbtide.cli(&["restore", "list", "main"]);
    assert_eq!(jobs, serde_json::json!([]), "a dry run makes no job");
    assert_eq!(oracle::state(&client).await.unwrap(), before);

    let receipt = ebbtide.restore("main", &snapshot, "main")["receipt"].clone();
    assert_eq!(number(&receipt, "timeSeriesBytes"), series, "as it turned out to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_restore_into_one_target_at_a_time() {
    let server = Server::start(Options::default()).await.unwrap();
    let client = server.client().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    things.insert_many((0..100).map(|n| doc! { "_id": n })).await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let mut ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    things.drop().await.unwrap();
    ebbtide.stop();
    // Nobody runs jobs here: the first stays in the queue.
    ebbtide.serve_idle();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
    let first = text(&ebbtide.cli(&start), "id");
    let second = ebbtide.try_cli(&start);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("already in progress"), "{}", stderr(&second));
    let key = Key(ebbtide.public_key.clone(), ebbtide.private_key.clone());
    let project = ebbtide.project.clone();
    let (code, body) = ask(&ebbtide, &key, &snapshot, (&project, "main"));
    assert_eq!(
        (code, text(&body, "errorCode").as_str()),
        (409, "ATLAS_CLUSTER_RESTORE_IN_PROGRESS"),
        "{body}"
    );
    ebbtide.stop();
    ebbtide.serve(&[]);
    assert_eq!(ebbtide.cli(&["restore", "watch", "main", &first])["state"], "finished");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
    // And then the next may.
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
}
