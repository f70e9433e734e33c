//! A change of the master key: alone or not at all, and finished after a crash at any step.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use support::{Ebbtide, stderr};

/// Every name given to `crash::point` by the rotation, in the order of its steps.
fn points() -> Vec<String> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/key.rs")).unwrap();
    let names = source.split("crash::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() >= 5, "{names:?}");
    names
}

fn rotate(ebbtide: &Ebbtide, more: &[&str], crash_at: &str) -> std::process::Output {
    let mut command = support::program();
    command.args(["admin", "key", "rotate"]).args(more).args(ebbtide.data_flags());
    command.env("EBBTIDE_CRASH_AT", crash_at).output().unwrap()
}

fn key(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn a_rotation_that_was_interrupted_is_finished_by_the_same_command() {
    let points = points();
    let last = points.last().unwrap().clone();
    for point in points {
        let place = tempfile::tempdir().unwrap();
        let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &[]);
        let current = ebbtide.directory.join("master.key");
        let [pending, old] =
            ["new", "old"].map(|suffix| ebbtide.directory.join(format!("master.key.{suffix}")));
        let before = key(&current);
        // What an earlier rotation left.
        std::fs::write(&old, "an older key").unwrap();
        let interrupted = rotate(&ebbtide, &[], &point);
        assert!(!interrupted.status.success(), "{point} is not reached");
        assert!(key(&current).starts_with("ebbtide-master-key-v1:"), "{point}");
        if point != last {
            // Nobody works with half of it.
            let refused = ebbtide.try_admin(&["create-project", "other"]);
            assert!(!refused.status.success(), "{point}");
            assert!(stderr(&refused).contains("admin key rotate"), "{point}: {}", stderr(&refused));
            let finished = rotate(&ebbtide, &[], "");
            assert!(finished.status.success(), "{point}: {}", stderr(&finished));
        }
        assert_ne!(key(&current), before, "{point}");
        assert_eq!(key(&old), before, "{point}");
        assert!(!pending.exists(), "{point}");
        // The API key was sealed under the old master key.
        ebbtide.serve(&[]);
        assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]), "{point}");
    }
}

#[test]
fn an_interrupted_rotation_into_another_file_is_finished_too() {
    let place = tempfile::tempdir().unwrap();
    let mut ebbtide = Ebbtide::prepare(place.path().join("data"), &[]);
    let next = place.path().join("next.key");
    let flags = ["--new-key-file", next.to_str().unwrap()];
    assert!(!rotate(&ebbtide, &flags, "rotate.after-catalog").status.success());
    assert!(!next.exists());
    let before = key(&ebbtide.directory.join("master.key"));
    let finished = rotate(&ebbtide, &flags, "");
    assert!(finished.status.success(), "{}", stderr(&finished));
    assert_eq!(key(&ebbtide.directory.join("master.key")), before, "the old file is left alone");
    let again = rotate(&ebbtide, &flags, "");
    assert!(!again.status.success() && stderr(&again).contains("is there already"), "{}", stderr(&again));
    let (project, public, private) =
        (ebbtide.project.clone(), ebbtide.public_key.clone(), ebbtide.private_key.clone());
    ebbtide = Ebbtide::on(ebbtide.directory.clone(), &["--master-key-file", next.to_str().unwrap()]);
    (ebbtide.project, ebbtide.public_key, ebbtide.private_key) = (project, public, private);
    ebbtide.serve(&[]);
    assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]));
}

#[test]
fn a_key_that_was_never_written_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let ebbtide = Ebbtide::prepare(place.path().join("data"), &[]);
    std::fs::write(ebbtide.directory.join("master.key.new"), "").unwrap();
    let finished = rotate(&ebbtide, &[], "");
    assert!(finished.status.success(), "{}", stderr(&finished));
}

#[test]
fn the_key_of_a_running_server_is_left_alone() {
    let mut ebbtide = Ebbtide::start();
    let file = ebbtide.directory.join("master.key");
    let before = key(&file);
    let refused = rotate(&ebbtide, &[], "");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("stop the server"), "{}", stderr(&refused));
    assert_eq!(key(&file), before);
    assert!(!ebbtide.directory.join("master.key.new").exists());
    // Even one that is killed leaves nothing that has to be removed.
    ebbtide.kill();
    let done = rotate(&ebbtide, &[], "");
    assert!(done.status.success(), "{}", stderr(&done));
}
