//! The master key in an operator's hands: made and told, read from a command, exported.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use support::{Ebbtide, stderr};

/// What is said whenever a key is made.
const TOLD: &str = "Keep a copy of it somewhere else";

fn admin(data: &Path, words: &[&str]) -> std::process::Output {
    let mut command = support::program();
    command.arg("admin").args(words).args(["--data-dir", data.to_str().unwrap(), "--output", "json"]);
    command.output().unwrap()
}

#[test]
fn whichever_command_makes_the_key_says_how_to_keep_it() {
    let place = tempfile::tempdir().unwrap();
    // A project first, as the guide does it while no server runs.
    let first = place.path().join("first");
    let made = admin(&first, &["create-project", "shop"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = stderr(&made);
    assert!(said.contains(TOLD) && said.contains("admin key export --data-dir"), "{said}");
    let again = admin(&first, &["create-project", "other"]);
    assert!(again.status.success() && !stderr(&again).contains(TOLD), "{}", stderr(&again));
    let mut ebbtide = Ebbtide::on(first, &[]);
    ebbtide.serve(&[]);
    assert!(!ebbtide.log().contains(TOLD), "{}", ebbtide.log());

    // The server first, with the key elsewhere.
    let key = place.path().join("elsewhere.key");
    let mut ebbtide = Ebbtide::on(place.path().join("second"), &["--master-key-file", key.to_str().unwrap()]);
    ebbtide.serve(&[]);
    let said = ebbtide.log();
    assert!(said.contains(TOLD), "{said}");
    assert!(said.contains(&format!("--master-key-file {} >", key.display())), "{said}");
    assert!(key.exists());
}
