//! `cargo xtask bench`: builds everything for speed and measures Ebbtide beside mongodump and mongorestore.

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};

use crate::{cache, mongod, tools};

/// What `cargo xtask bench --help` tells.
const HELP: &str = "\
cargo xtask bench [--size-mb N] [--runs N] [--version V] [--only PART,…] [--segments N]
                  [--disk-reads N] [--memory-mb N] [--operations N] [--directory D]

  --size-mb N     megabytes of BSON in the data set (2000)
  --runs N        runs of each measurement (3); the median is told
  --version V     MongoDB server, one that cargo xtask mongod fetches (6.0.5)
  --only PART,…   snapshot, restore, scattered (random _ids, cold; needs root to drop the page cache),
                  segments (memory for a snapshot of very many), requests, timeline (continuous backup: folded
                  snapshots, rewinds, points in time), folded (the first of these alone)
  --segments N    segments of that snapshot (1000000)
  --disk-reads N  reads a second that the disk gives to the server with random _ids (no limit; needs root and
                  control groups of version 1)
  --memory-mb N   megabytes of memory that this server may take, with what the kernel keeps of its files (no
                  limit; needs the same)
  --operations N  operations that are recorded and restored over (1000000)
  --directory D   where data goes (a temporary directory)

mongodump and mongorestore are taken from PATH, or built with Go; without either they are left out, and said so.
";

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    if arguments.iter().any(|word| matches!(*word, "--help" | "-h")) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let mongods = mongod::fetch(&mongod::all_versions())?;
    let mut build = Command::new(cargo());
    build.current_dir(cache::workspace()).args(["build", "--release", "--locked", "-p", "ebbtide"]);
    build.args(["-p", "ebbtide-testbed", "--bin", "ebbtide", "--bin", "bench"]).stdin(Stdio::null());
    let mut example = Command::new(cargo());
    example.current_dir(cache::workspace()).args(["build", "--release", "--locked", "-p", "ebbtide-vault"]);
    example.args(["--example", "many_segments"]).stdin(Stdio::null());
    for build in [&mut build, &mut example] {
        if !build.status().context("run cargo build")?.success() {
            bail!("the release build failed");
        }
    }
    let programs =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache::workspace().join("target"), Into::into);
    let programs = programs.join("release");
    let mut bench = Command::new(programs.join("bench"));
    bench.arg("--ebbtide").arg(programs.join("ebbtide"));
    bench.arg("--many-segments").arg(programs.join("examples").join("many_segments"));
    match tools::directory() {
        Ok(directory) => {
            bench.arg("--mongodump").arg(directory.join("mongodump"));
            bench.arg("--mongorestore").arg(directory.join("mongorestore"));
        }
        Err(error) => println!("without mongodump and mongorestore: {error:#}"),
    }
    bench.args(arguments).env("EBBTIDE_TEST_MONGODS", mongods).stdin(Stdio::null());
    let status = bench.status().context("run the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
