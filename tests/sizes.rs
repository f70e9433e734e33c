//! A file that nobody can read in one go is a file that everybody fears: there is a limit, and it is checked.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Lines of one source file, its unit tests included.
const LINES_MAX: usize = 700;
const DIRECTORIES: [&str; 3] = ["src", "crates", "xtask"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            // Programs that only test: `crates/*/tests`.
            if name != "tests" && name != "target" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_source_file_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        sources(&root.join(directory), &mut found);
    }
    assert!(found.len() > 50, "only {} source files found: is the root right?", found.len());
    let too_long: Vec<String> = found
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.strip_prefix(root).unwrap().display()))
        .collect();
    assert!(too_long.is_empty(), "longer than {LINES_MAX} lines, split by subject:\n{}", too_long.join("\n"));
}
