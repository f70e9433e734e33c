//! Where the `mongod` binaries are.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// Names the directory that holds `mongod-<version>` files.
pub const DIRECTORY_VARIABLE: &str = "EBBTIDE_TEST_MONGODS";

/// The directory of the binaries: `$EBBTIDE_TEST_MONGODS`, else where `cargo xtask mongod` puts them.
pub fn directory() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("ebbtide").join("mongod"))
}

/// The binary of one version, such as `"6.0.5"`.
pub fn find(version: &str) -> anyhow::Result<PathBuf> {
    let path = directory()?.join(format!("mongod-{version}"));
    if !path.is_file() {
        bail!(
            "no mongod {version} at {}: run `cargo xtask mongod {version}`, or name a directory that has it in \
             {DIRECTORY_VARIABLE}",
            path.display()
        );
    }
    Ok(path)
}

/// The versions that are there, sorted.
pub fn versions() -> anyhow::Result<Vec<String>> {
    let directory = directory()?;
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("list {}", directory.display())),
    };
    let mut versions: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix("mongod-").map(str::to_owned))
        .filter(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        .collect();
    versions.sort();
    Ok(versions)
}
