//! mongodump and mongorestore: those on PATH, else built by Go from the module that `tests/mongo-tools` pins.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::cache::{self, Staging, put};

const TOOLS: [&str; 2] = ["mongodump", "mongorestore"];

/// A directory with both tools, or why there is none.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    if let Some(found) = on_path() {
        return Ok(found);
    }
    let sources = cache::workspace().join("tests/mongo-tools");
    let into = cache::directory()?.join("mongo-tools");
    if TOOLS.iter().all(|tool| into.join(tool).exists()) {
        return Ok(into);
    }
    if Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        bail!("mongodump and mongorestore are not on PATH, and there is no Go to build them");
    }
    std::fs::create_dir_all(&into).with_context(|| format!("make {}", into.display()))?;
    let staging = Staging::inside(&into)?;
    for tool in TOOLS {
        build(&sources, tool, &staging.path().join(tool))?;
        put(&staging.path().join(tool), &into.join(tool))?;
    }
    Ok(into)
}

fn build(sources: &Path, tool: &str, program: &Path) -> anyhow::Result<()> {
    println!("building {tool} with Go");
    let package = format!("github.com/mongodb/mongo-tools/{tool}/main");
    let mut command = Command::new("go");
    command
        .args(["build", "-mod=mod", "-o"])
        .arg(program)
        .arg(package)
        .current_dir(sources)
        .stdin(Stdio::null());
    let output = command.output().context("run go build")?;
    if !output.status.success() {
        bail!("go build of {tool}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The directory on PATH that has both.
fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|directory| TOOLS.iter().all(|tool| directory.join(tool).is_file()))
}

/// PATH with `directory` in front.
pub(crate) fn path_with(directory: &Path) -> anyhow::Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let parts = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(parts).context("put the tools on PATH")
}
