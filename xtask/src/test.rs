//! `cargo xtask test`: everything, on real servers (what needs Go or PostgreSQL says so when it is skipped).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{cache, mongod, tools};

const MONGODS_VARIABLE: &str = "EBBTIDE_TEST_MONGODS";
/// Each test may run a replica set of three, so more threads than this would only swap.
const THREADS_MAX: usize = 4;
const THREADS_MIN: usize = 2;

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let (flags, filters): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|word| word.starts_with('-'));
    let quick = match flags.as_slice() {
        [] => false,
        ["--quick"] => true,
        _ => bail!("unknown flags: {}; there is --quick", flags.join(" ")),
    };
    let mongods = servers()?;
    let started = Instant::now();
    let mut totals = Totals::default();
    let passed = cargo_test(&mongods, quick, &filters, &mut totals)?;
    println!(
        "\nall tests: {} passed, {} failed, {} ignored in {} programs, {} s",
        totals.passed,
        totals.failed,
        totals.ignored,
        totals.programs,
        started.elapsed().as_secs()
    );
    for name in &totals.failures {
        println!("failed: {name}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The directory of the servers: the one that is named, or ours, filled.
fn servers() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(MONGODS_VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    mongod::fetch(&mongod::all_versions())
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

fn cargo_test(mongods: &PathBuf, quick: bool, filters: &[&str], totals: &mut Totals) -> anyhow::Result<bool> {
    let processors = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
    let threads = processors.clamp(THREADS_MIN, THREADS_MAX).to_string();
    let mut command = Command::new(cargo());
    command.current_dir(cache::workspace()).args(["test", "--workspace", "--no-fail-fast"]);
    if std::env::var_os("CI").is_some() {
        command.arg("--locked");
    }
    if quick {
        command.args(["--lib", "--bins"]);
    }
    command.args(["--", "--test-threads", &threads]).args(filters);
    match tools::directory() {
        Ok(directory) => drop(command.env("PATH", tools::path_with(&directory)?)),
        Err(error) => println!("tests with mongorestore are skipped: {error:#}"),
    }
    command.env(MONGODS_VARIABLE, mongods).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("run cargo test")?;
    if let Some(output) = child.stdout.take() {
        // Shown as it comes and counted on the way.
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("read what cargo test prints")?;
            let mut terminal = std::io::stdout().lock();
            terminal.write_all(&line)?;
            terminal.write_all(b"\n")?;
            totals.count(&String::from_utf8_lossy(&line));
        }
    }
    Ok(child.wait().context("wait for cargo test")?.success())
}

/// What cargo's summaries add up to.
#[derive(Default)]
struct Totals {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Totals {
    fn count(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        for part in summary.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) =
                (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn summaries_add_up() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s",
            "test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 12.30s",
        ] {
            totals.count(line);
        }
        assert_eq!((totals.passed, totals.failed, totals.ignored, totals.programs), (42, 1, 2, 2));
        assert_eq!(totals.failures, ["a::c"]);
    }
}
