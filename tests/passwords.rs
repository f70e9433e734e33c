//! What an operator does when the password of a deployment's account changes: the binary, its command line, a real mongod.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    process::Output,
    time::{Duration, Instant},
};

use bson::doc;
use serde_json::{Value, json};
use support::{Ebbtide, PATIENCE, stderr, text};
use testbed::{Options, Server};

const OLD: &str = "the-old-pass-word";
const NEW: &str = "the-new-pass-word";

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "waited for in vain: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All that a command said, which has no password in it.
fn said(output: &Output) -> String {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(output));
    assert!(!said.contains(OLD) && !said.contains(NEW), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_told_and_the_record_goes_on() {
    let server = Server::start(Options::version("6.0.5").with_auth()).await.unwrap();
    server.admin(doc! { "createUser": "keeper", "pwd": OLD, "roles": ["root"] }).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    shop.collection("items").insert_many((0..50).map(|n| doc! { "_id": n })).await.unwrap();
    let ebbtide = Ebbtide::start();
    let (old, new) = (server.uri_for("keeper", OLD), server.uri_for("keeper", NEW));
    ebbtide.cli(&["cluster", "add", "main", "--uri", &old, "--pit"]);
    let shown = || ebbtide.cli(&["timeline", "show", "main"]);
    let restorable_to = || shown()["restorable"][0]["to"]["seconds"].as_u64();
    until("a base is taken", || restorable_to().is_some()).await;
    let timeline = text(&shown()["timelines"][0], "id");

    server.admin(doc! { "updateUser": "keeper", "pwd": NEW }).await.unwrap();
    // Connections that are open stay as they are until they break.
    server.stop(0).await.unwrap();
    server.restart(0).await.unwrap();
    server.wait_for_members().await.unwrap();
    let error = || shown()["capture"]["error"].as_str().map(str::to_owned);
    until("the refusal is shown", || error().is_some_and(|error| error.contains("uthentication"))).await;
    let reached = restorable_to().unwrap();

    let other = Server::start(Options::version("6.0.5")).await.unwrap();
    let away = format!("mongodb://keeper:{NEW}@127.0.0.1:1/?serverSelectionTimeoutMS=200");
    let malformed = format!("mongodb://keeper:{NEW}@/@?");
    for (uri, code) in [
        (old.as_str(), "AUTHENTICATION_FAILED"),
        (&other.uri(), "OTHER_REPLICA_SET"),
        (&away, "UNREACHABLE"),
        (&malformed, "INVALID_CONNECTION_STRING"),
    ] {
        let refused = ebbtide.try_text(&["cluster", "update", "main", "--uri", uri]);
        assert_eq!(refused.status.code(), Some(1), "{code}");
        let said = said(&refused);
        assert!(
            said.contains("the connection string of main stays as it is:") && said.contains(code),
            "{said}"
        );
    }
    // One that was left in the environment does not count beside something else.
    let left = [("EBBTIDE_CLUSTER_URI", away.as_str())];
    let window = ebbtide.try_with(&["cluster", "update", "main", "--restore-window-days", "3"], &left);
    assert!(window.status.success(), "{}", said(&window));
    assert!(error().is_some(), "nothing has mended it so far");

    let changed = ebbtide.try_with(&["cluster", "update", "main"], &[("EBBTIDE_CLUSTER_URI", &new)]);
    let told = said(&changed);
    assert!(changed.status.success(), "{told}");
    assert!(told.starts_with("main is reached by the new connection string: MongoDB 6.0.5\n"), "{told}");
    shop.collection("items").insert_one(doc! { "_id": "later" }).await.unwrap();
    until("the record goes on", || error().is_none() && restorable_to() > Some(reached)).await;
    let after = shown();
    assert_eq!(after["timelines"].as_array().unwrap().len(), 1, "one timeline all along: {after:#}");
    assert_eq!(
        (&after["timelines"][0]["id"], &after["timelines"][0]["state"]),
        (&json!(timeline), &json!("open"))
    );
    let snapshot = ebbtide.cli(&["snapshot", "create", "main", "--watch"]);
    assert_eq!(documents(&ebbtide.cli(&["snapshot", "show", "main", &text(&snapshot, "id")])), 51);

    let mut written = vec![ebbtide.log().into_bytes()];
    let files = support::files(&ebbtide.directory);
    written.extend(files.iter().filter_map(|file| std::fs::read(file).ok()));
    for secret in [OLD, NEW] {
        let found = |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!written.iter().any(found), "a password was written down");
    }
}

fn documents(snapshot: &Value) -> u64 {
    snapshot["documents"].as_u64().unwrap_or_else(|| panic!("no documents in {snapshot:#}"))
}
