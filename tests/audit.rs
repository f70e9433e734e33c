//! The audit log as people use it: through the command line, over a restart and the death of the server.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server};

fn operations(lines: &Value) -> Vec<&str> {
    lines.as_array().unwrap().iter().map(|line| line["operation"].as_str().unwrap()).collect()
}

/// A client command by another key.
fn as_(key: &Value, ebbtide: &Ebbtide, words: &[&str]) -> Output {
    let (public, private) = (text(key, "publicKey"), text(key, "privateKey"));
    ebbtide.try_text(&[words, &["--public-key", &public, "--private-key", &private]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changed_what_is_listed_also_after_the_server_was_killed() {
    let server = Server::start(Options::default().with_auth()).await.unwrap();
    let mut ebbtide = Ebbtide::start();
    ebbtide.add("orders", &server.uri());
    let snapshot = ebbtide.snapshot("orders");
    let reader = ebbtide.key("GROUP_READ_ONLY");
    let refused = as_(&reader, &ebbtide, &["snapshot", "delete", "orders", &snapshot]);
    assert!(!refused.status.success());
    ebbtide.kill();
    ebbtide.serve(&[]);

    let lines = ebbtide.cli(&["audit", "list"]);
    let expected = [
        "ebbtideDeleteSnapshot",
        "admin create-key",
        "ebbtideTakeSnapshot",
        "ebbtideAddCluster",
        "admin create-key",
        "admin create-project",
    ];
    assert_eq!(operations(&lines), expected);
    let told = |number: usize, names: &[&str]| -> Value {
        names.iter().map(|name| lines[number][*name].clone()).collect::<Vec<_>>().into()
    };
    assert_eq!(
        told(0, &["who", "from", "outcome", "status", "errorCode", "action"]),
        json!([text(&reader, "publicKey"), "127.0.0.1", "refused", 403, "ACCESS_FORBIDDEN", null])
    );
    assert!(
        lines[0]["resource"].as_str().unwrap().ends_with(&format!("/clusters/orders/snapshots/{snapshot}"))
    );
    assert_eq!(
        told(2, &["who", "outcome", "action", "subject", "projectId"]),
        json!([ebbtide.public_key, "ok", "snapshot.create", snapshot, ebbtide.project])
    );
    assert_eq!(told(5, &["outcome", "action", "subject"]), json!(["ok", "project.create", ebbtide.project]));
    for command in [1, 4, 5] {
        let who = lines[command]["who"].as_str().unwrap();
        assert!(who.starts_with("admin (") && who.len() > "admin ()".len(), "{who}");
        assert!(lines[command]["status"].is_null() && !lines[command]["from"].is_null());
    }
    let all = lines.to_string();
    let secrets = [testbed::server::ROOT_PASSWORD, &ebbtide.private_key, &text(&reader, "privateKey")];
    assert!(secrets.iter().all(|secret| !all.contains(secret)), "{all}");

    let few = ebbtide.cli(&["audit", "list", "--limit", "2", "--since", "1h"]);
    assert_eq!(operations(&few), expected[..2]);
    let made = ebbtide.cli(&["audit", "list", "--operation", "admin create-key"]);
    assert_eq!(operations(&made), ["admin create-key"; 2]);
    let before = ebbtide.cli(&["audit", "list", "--until", "1h"]);
    assert_eq!(before, json!([]));
    let table = String::from_utf8(ebbtide.try_text(&["audit", "list"]).stdout).unwrap();
    assert!(table.contains("refused (403 ACCESS_FORBIDDEN)"), "{table}");
    assert!(table.contains(&format!("snapshot.create {snapshot}")), "{table}");
    assert!(
        as_(&reader, &ebbtide, &["audit", "list"]).status.success(),
        "who may read the project may read its log"
    );
}

#[test]
fn what_concerns_the_server_is_for_owners_of_the_organization() {
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &[]);
    assert!(!ebbtide.try_admin(&["create-project", "shop"]).status.success(), "the name is taken");
    ebbtide.admin(&["key", "rotate"]);
    let refused = ebbtide.try_admin(&["release-compliance-policy", "--project", &ebbtide.project]);
    assert!(stderr(&refused).contains("has no compliance policy"), "{}", stderr(&refused));
    ebbtide.serve(&[]);
    let refused = ebbtide.try_cli(&["audit", "list", "--organization"]);
    assert!(stderr(&refused).contains("ACCESS_FORBIDDEN"), "{}", stderr(&refused));
    let wrong = ebbtide.try_cli(&["audit", "list", "--since", "yesterday"]);
    assert!(stderr(&wrong).contains("30min, 12h or 7d"), "{}", stderr(&wrong));
    let wrong = ebbtide.try_cli(&["audit", "list", "--operation", "nothing"]);
    assert!(stderr(&wrong).contains("INVALID_ENUM_VALUE"), "{}", stderr(&wrong));

    let key = ebbtide.key("ORG_OWNER");
    (ebbtide.public_key, ebbtide.private_key) = (text(&key, "publicKey"), text(&key, "privateKey"));
    let lines = ebbtide.cli(&["audit", "list", "--organization"]);
    let told: Vec<_> =
        lines.as_array().unwrap().iter().map(|line| (&line["operation"], &line["outcome"])).collect();
    let expected = [
        ("admin create-key", "ok"),
        ("admin release-compliance-policy", "failed"),
        ("admin key rotate", "ok"),
        ("admin create-project", "failed"),
        ("admin create-key", "ok"),
        ("admin create-project", "ok"),
    ];
    let expected: Vec<_> = expected.map(|(operation, outcome)| (json!(operation), json!(outcome))).into();
    assert_eq!(told, expected.iter().map(|(operation, outcome)| (operation, outcome)).collect::<Vec<_>>());
}
