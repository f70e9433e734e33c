//! Progress bars are for people: on a terminal, and nowhere else.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::{Command, Stdio};

use bson::{Document, doc};
use support::{Ebbtide, stderr};
use testbed::{Options, Server};

/// Runs a command on a terminal of its own; what is seen there.
fn seen_on_a_terminal(ebbtide: &Ebbtide, words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols 120; '{}' {}", env!("CARGO_BIN_EXE_ebbtide"), quoted.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    command.env("EBBTIDE_URL", ebbtide.url()).env("EBBTIDE_PROJECT", &ebbtide.project);
    command.env("EBBTIDE_PUBLIC_KEY", &ebbtide.public_key).env("EBBTIDE_PRIVATE_KEY", &ebbtide.private_key);
    let output = command.env("TERM", "xterm").output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}{}", stderr(&output));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_are_drawn_on_a_terminal_and_nothing_elsewhere() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no script on PATH, so no terminal to look at");
        return;
    }
    let server = Server::start(Options::default()).await.unwrap();
    let orders = server.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_many((0..1000).map(|n| doc! { "_id": n })).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());

    let quiet = ebbtide.try_text(&["snapshot", "create", "main", "--watch"]);
    assert!(quiet.status.success() && stderr(&quiet).is_empty(), "{}", stderr(&quiet));
    let seen = seen_on_a_terminal(&ebbtide, &["snapshot", "create", "main", "--watch"]);
    assert!(seen.contains('[') && seen.contains("documents,"), "{seen}");
    assert!(seen.contains("completed"), "{seen}");

    let snapshots = ebbtide.cli(&["snapshot", "list", "main"]);
    let place = tempfile::tempdir().unwrap();
    for (at, terminal) in [(0, true), (1, false)] {
        let snapshot = support::text(&snapshots[at], "id");
        let file = place.path().join(format!("{at}.tar.gz"));
        let words =
            ["restore", "download", "main", "--snapshot", &snapshot, "--file", file.to_str().unwrap()];
        if terminal {
            let seen = seen_on_a_terminal(&ebbtide, &words);
            assert!(seen.contains("fetching") && seen.contains("%"), "{seen}");
        } else {
            let quiet = ebbtide.try_text(&words);
            assert!(quiet.status.success() && stderr(&quiet).is_empty(), "{}", stderr(&quiet));
        }
        assert!(file.exists());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut command = support::program();
    command.args(["openapi"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut running = command.spawn().unwrap();
    drop(running.stdout.take());
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}
