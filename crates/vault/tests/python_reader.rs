//! The independent reader in `docs/` gets at the data of the golden vault without any code of ours.
//!
//! It runs with `python3`, or with what `EBBTIDE_TEST_PYTHON` names, when that has the modules it needs.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{WHOLE as SNAPSHOT, WITH_DELTAS, golden_vault, snapshot, state};

const TIMELINE: &str = "650000020404040404040404";
const ARCHIVE: &str = "650000000404040404040404aaaaaaaaaaaaaaaaaaaaaaaa";

fn python() -> Option<String> {
    let python = std::env::var("EBBTIDE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports =
        Command::new(&python).args(["-c", "import blake3, cryptography, xxhash, zstandard"]).output();
    imports.is_ok_and(|output| output.status.success()).then_some(python)
}

fn crate_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(python: &str, vault: &Path, arguments: &[&str]) -> Output {
    let script = crate_directory().join("../../docs/read_vault.py");
    let key = crate_directory().join("tests/golden/v1/master.key");
    let mut command = Command::new(python);
    // What it imports lies beside it, and nothing is to be left there.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(script).arg(vault).arg("--key-file").arg(key).args(arguments).output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

fn object_files(vault: &Path, kind: &str) -> Vec<PathBuf> {
    let fans = std::fs::read_dir(vault.join("v1").join(kind)).unwrap();
    fans.flat_map(|fan| std::fs::read_dir(fan.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

fn python_or_skip(test: &str) -> Option<String> {
    let python = python();
    if python.is_none() {
        eprintln!("SKIPPED: {test} needs python3 with blake3, cryptography, xxhash and zstandard");
    }
    python
}

#[test]
fn the_independent_reader_reads_the_golden_vault() {
    let Some(python) = python_or_skip("the_independent_reader_reads_the_golden_vault") else { return };
    let vault = crate_directory().join("tests/golden/v1/vault");
    let text = |arguments: &[&str]| {
        let output = read(&python, &vault, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut listed: Vec<_> = text(&["list"]).lines().map(ToOwned::to_owned).collect();
    listed.sort_unstable();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].starts_with(&format!("{SNAPSHOT} golden rs 1700000000,7 1503 ")), "{listed:?}");
    assert!(listed[1].starts_with(&format!("{WITH_DELTAS} golden rs 1700000200,1 ")), "{listed:?}");
    let collections = text(&["show", SNAPSHOT]);
    let names: Vec<_> = collections.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["shop.orders", "shop.log", "shop.recent"]);

    let orders = read(&python, &vault, &["dump", SNAPSHOT, "shop.orders"]).stdout;
    let documents: Vec<_> = history::raw::documents(&orders).collect::<Result<_, _>>().unwrap();
    assert_eq!(documents.len(), 1500);
    assert_eq!(history::raw::field(documents[7], "_id").unwrap().unwrap().value, 21i64.to_le_bytes());
    assert!(read(&python, &vault, &["dump", SNAPSHOT, "shop.recent"]).stdout.is_empty());
    assert_eq!(read(&python, &vault, &["archive", ARCHIVE, "5000"]).stdout.len(), 5000);
    assert!(!read(&python, &vault, &["dump", SNAPSHOT, "shop.none"]).status.success());

    let slices = text(&["slices"]);
    let lines: Vec<Vec<_>> = slices.lines().map(|line| line.split(' ').collect()).collect();
    let told: Vec<_> = lines.iter().map(|line| (line[0], line[1], line[4], line[5], line[6])).collect();
    let expected = [
        (TIMELINE, "0", "1700000001,1", "1700000300,1", "300"),
        (TIMELINE, "1", "1700000301,1", "1700000303,1", "3"),
    ];
    assert_eq!(told, expected);
    let oplog = read(&python, &vault, &["slices", TIMELINE]).stdout;
    let entries: Vec<_> = history::raw::documents(&oplog).collect::<Result<_, _>>().unwrap();
    assert_eq!(entries.len(), 303);
    for (seconds, entry) in (1_700_000_001u32..).zip(&entries) {
        let time = history::raw::field(entry, "ts").unwrap().unwrap().value;
        assert_eq!(time, (u64::from(seconds) << 32 | 1).to_le_bytes());
    }
    assert!(!read(&python, &vault, &["slices", SNAPSHOT]).status.success());

    // Where a slice is missing the record begins behind it; one in the place of another is told.
    let broken = tempfile::tempdir().unwrap();
    copy(&vault, broken.path());
    let file = |line: &[&str]| broken.path().join("v1/slices").join(&line[2][..2]).join(line[2]);
    let first = std::fs::read(file(&lines[0])).unwrap();
    std::fs::remove_file(file(&lines[0])).unwrap();
    let output = read(&python, broken.path(), &["slices", TIMELINE]);
    assert_eq!(history::raw::documents(&output.stdout).count(), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("before number 1 are not there"));
    std::fs::write(file(&lines[1]), &first).unwrap();
    let output = read(&python, broken.path(), &["slices", TIMELINE]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is damaged at block 0"));

    let damaged = tempfile::tempdir().unwrap();
    copy(&vault, damaged.path());
    for file in ["segments", "slices"].iter().flat_map(|kind| object_files(damaged.path(), kind)) {
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let dumps = [SNAPSHOT, WITH_DELTAS].map(|snapshot| ["dump", snapshot, "shop.orders"]);
    for arguments in [&dumps[0][..], &dumps[1], &["slices", TIMELINE]] {
        let output = read(&python, damaged.path(), arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("is damaged at block"));
    }
}

/// The state of the snapshots is what `golden_state.rs` says; here it need only be the same.
#[tokio::test]
async fn the_independent_reader_makes_of_deltas_what_rust_makes_of_them() {
    let Some(python) = python_or_skip("the_independent_reader_makes_of_deltas_what_rust_makes_of_them")
    else {
        return;
    };
    let path = crate_directory().join("tests/golden/v1/vault");
    let vault = golden_vault().await;
    for id in [SNAPSHOT, WITH_DELTAS] {
        for (name, documents) in state(&vault, &snapshot(&vault, id).await).await {
            let output = read(&python, &path, &["dump", id, &format!("shop.{name}")]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == documents.concat(), "{name} of {id} is something else");
        }
    }

    // Damage to a delta is told, and concerns nobody who does not need it.
    let damaged = tempfile::tempdir().unwrap();
    copy(&path, damaged.path());
    for file in object_files(damaged.path(), "deltas") {
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let output = read(&python, damaged.path(), &["dump", WITH_DELTAS, "shop.carts"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("deltas ") && text.contains("is damaged at block"),
        "{text}"
    );
    assert!(read(&python, damaged.path(), &["dump", SNAPSHOT, "shop.orders"]).status.success());
}
