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

/// A data directory whose key was taken out of it, the key as `admin key export` printed it, and a configuration with
/// this command.
fn with_key_outside(place: &Path, command: &[&str]) -> Ebbtide {
    let data = place.join("data");
    let prepared = Ebbtide::prepare(data.clone(), &[]);
    let kept = std::fs::read_to_string(data.join("master.key")).unwrap();
    let exported = admin(&data, &["key", "export"]);
    let exported: serde_json::Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!(exported["masterKey"], kept.trim());
    assert!(exported["fingerprint"].as_str().unwrap().len() == 12);
    std::fs::write(place.join("kept-elsewhere"), exported["masterKey"].as_str().unwrap()).unwrap();
    std::fs::remove_file(data.join("master.key")).unwrap();
    let config = place.join("ebbtide.toml");
    std::fs::write(&config, format!("[master_key]\ncommand = {command:?}\n")).unwrap();
    let mut ebbtide = Ebbtide::on(data, &["--config", config.to_str().unwrap()]);
    (ebbtide.project, ebbtide.public_key, ebbtide.private_key) =
        (prepared.project.clone(), prepared.public_key.clone(), prepared.private_key.clone());
    ebbtide
}

#[test]
fn the_key_can_come_from_a_command() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("kept-elsewhere");
    let mut ebbtide = with_key_outside(place.path(), &["cat", kept.to_str().unwrap()]);
    ebbtide.serve(&[]);
    // The API key was sealed with the key when that was a file.
    assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]));
    ebbtide.new_key();
    assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]));
    assert!(!ebbtide.directory.join("master.key").exists(), "no key is made beside the command's");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(!ebbtide.log().contains(text.trim()) && !ebbtide.log().contains(TOLD), "{}", ebbtide.log());
    ebbtide.stop();
    let refused = ebbtide.try_admin(&["key", "rotate"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("comes from a command"), "{}", stderr(&refused));
}

#[test]
fn a_command_that_gives_no_key_is_named_and_what_it_printed_is_not_shown() {
    let place = tempfile::tempdir().unwrap();
    let ebbtide = with_key_outside(place.path(), &["sh", "-c", "echo hunter2; exit 3"]);
    let mut command = support::program();
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(ebbtide.data_flags());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("the command \"sh\"") && said.contains("exit status: 3"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_exported_key_opens_what_was_sealed() {
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &[]);
    let mut command = support::program();
    let output = command.args(["admin", "key", "export"]).args(ebbtide.data_flags()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let copy = place.path().join("copy.txt");
    std::fs::write(&copy, &output.stdout).unwrap();
    std::fs::remove_file(ebbtide.directory.join("master.key")).unwrap();
    // Without it nothing starts, and no other key is made.
    let lost = ebbtide.try_admin(&["create-project", "other"]);
    assert!(!lost.status.success() && stderr(&lost).contains("put the key back"), "{}", stderr(&lost));
    let file = ebbtide.directory.join("master.key");
    std::fs::rename(&copy, &file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    ebbtide.serve(&[]);
    assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]));
}
