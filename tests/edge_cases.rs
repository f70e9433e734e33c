//! `docs/edge-cases.md` names a test for each case: every one of them is there.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["crates", "tests", "src"] {
        sources(&root.join(directory), &mut found);
    }
    let files: Vec<(String, String)> = found
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let text = std::fs::read_to_string(root.join("docs/edge-cases.md")).unwrap();
    let mut named = 0;
    let mut file = String::new();
    // Odd parts are what stands between backticks.
    for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::")) {
        let (place, test) = quoted.rsplit_once("::").unwrap();
        if !place.is_empty() {
            file = place.rsplit('/').next().unwrap().trim_end_matches(".rs").replace("::", "/");
        }
        // Unit tests stand in the file of what they test, or in one of their own.
        let own = file.strip_suffix("/tests").unwrap_or(&file);
        let is_there = |(path, source): &(String, String)| {
            [own, &file].iter().any(|file| path.ends_with(&format!("/{file}.rs")))
                && source.contains(&format!("fn {test}("))
        };
        assert!(test == "test" || files.iter().any(is_there), "docs/edge-cases.md names {file}::{test}");
        named += 1;
    }
    assert!(named > 60, "only {named} tests are named");
}
