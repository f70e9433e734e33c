//! Imports point down only: ARCHITECTURE.md says so, this keeps it true.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each package of the workspace and the packages of the workspace that it may use.
const LAYERS: [(&str, &[&str]); 10] = [
    ("ebbtide-model", &[]),
    ("ebbtide-history", &[]),
    ("ebbtide-vault", &["ebbtide-model", "ebbtide-history"]),
    ("ebbtide-mongo", &["ebbtide-history"]),
    ("ebbtide-catalog", &["ebbtide-model"]),
    (
        "ebbtide-engine",
        &["ebbtide-model", "ebbtide-history", "ebbtide-vault", "ebbtide-mongo", "ebbtide-catalog"],
    ),
    ("ebbtide-api", &["ebbtide-model", "ebbtide-vault", "ebbtide-catalog"]),
    (
        "ebbtide",
        &[
            "ebbtide-model",
            "ebbtide-history",
            "ebbtide-vault",
            "ebbtide-mongo",
            "ebbtide-catalog",
            "ebbtide-engine",
            "ebbtide-api",
        ],
    ),
    ("ebbtide-testbed", &[]),
    ("xtask", &[]),
];

/// What stands for an outside world, and the only packages that may speak to it.
const OUTSIDE: [(&str, &[&str]); 5] = [
    ("mongodb", &["ebbtide-mongo", "ebbtide-testbed"]),
    ("sqlx", &["ebbtide-catalog"]),
    ("object_store", &["ebbtide-vault"]),
    ("axum", &["ebbtide-api", "ebbtide"]),
    ("clap", &["ebbtide"]),
];

/// Pure packages: no IO, no async, no clock.
const PURE: [&str; 2] = ["ebbtide-model", "ebbtide-history"];
const IMPURE: [&str; 6] = ["tokio", "futures", "async-trait", "rustix", "reqwest", "tracing-subscriber"];

struct Package {
    /// Normal and build dependencies.
    uses: BTreeSet<String>,
    /// Dependencies of the tests alone.
    tests_use: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let mut read = Package { uses: BTreeSet::new(), tests_use: BTreeSet::new() };
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap().to_owned();
            let set = if dependency["kind"] == "dev" { &mut read.tests_use } else { &mut read.uses };
            set.insert(name);
        }
        packages.insert(package["name"].as_str().unwrap().to_owned(), read);
    }
    packages
}

#[test]
fn every_package_is_in_the_table() {
    let known: BTreeSet<String> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(packages().into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn imports_point_down() {
    let packages = packages();
    for (name, allowed) in LAYERS {
        let package = &packages[name];
        let ours = |used: &&String| packages.contains_key(*used);
        for used in package.uses.iter().filter(ours) {
            assert!(allowed.contains(&used.as_str()), "{name} may not use {used}");
        }
        for used in package.tests_use.iter().filter(ours) {
            let fine = allowed.contains(&used.as_str()) || used == "ebbtide-testbed";
            assert!(fine, "the tests of {name} may not use {used}");
        }
    }
}

#[test]
fn each_outside_world_has_one_door() {
    for (name, package) in packages() {
        for (outside, doors) in OUTSIDE {
            let allowed = doors.contains(&name.as_str()) || !package.uses.contains(outside);
            assert!(allowed, "{name} may not use {outside}: only {} may", doors.join(", "));
        }
    }
}

#[test]
fn the_pure_packages_are_pure() {
    let packages = packages();
    for name in PURE {
        for impure in IMPURE.iter().chain(OUTSIDE.iter().map(|(outside, _)| outside)) {
            assert!(!packages[name].uses.contains(*impure), "{name} is pure and may not use {impure}");
        }
    }
}
