//! `cargo xtask test`: everything, on real servers (what needs Go or PostgreSQL says so when it is skipped).
//!
//! Most test programs have few tests, and those mostly wait for servers: run one after another, as `cargo test` does it, they
//! leave processors idle. So cargo only builds them, and they are run here, several at a time.

mod build;
pub(crate) mod guard;
mod lanes;
mod order;
mod program;
mod totals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{cache, mongod, tools};
use lanes::Width;
use order::{Known, Plan};
use program::Environment;
use totals::Totals;

const MONGODS_VARIABLE: &str = "EBBTIDE_TEST_MONGODS";

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::read(arguments)?;
    let environment = environment(wanted.width.threads)?;
    let started = Instant::now();
    let known = Known::recorded()?;
    let programs = build::programs(wanted.quick)?;
    let built = started.elapsed().as_secs();
    if !wanted.quick {
        for stranger in known.strangers(&programs) {
            println!("xtask/src/test/known.txt names {stranger}, which is no test program");
        }
    }
    let plan = Plan::new(programs, &wanted.filters, &known);
    println!("built in {built} s; {} programs, {}", plan.len(), wanted.width);
    let mut totals = Totals::default();
    lanes::run(plan, wanted.width, &environment, |outcome| {
        totals.add(&outcome);
        // With a filter most programs have nothing to do.
        if outcome.ran_something() || wanted.filters.is_empty() {
            outcome.show();
        }
    });
    println!("\nall tests: {totals}, {} s ({built} s of them to build)", started.elapsed().as_secs());
    for name in &totals.failures {
        println!("failed: {name}");
    }
    Ok(if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was asked for.
struct Wanted<'a> {
    quick: bool,
    width: Width,
    filters: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn read(arguments: &[&'a str]) -> anyhow::Result<Self> {
        let mut wanted = Self { quick: false, width: Width::of_this_machine(), filters: Vec::new() };
        for &word in arguments {
            match word.split_once('=') {
                _ if word == "--quick" => wanted.quick = true,
                Some(("--lanes", number)) => wanted.width.lanes = positive(number)?,
                Some(("--threads", number)) => wanted.width.threads = positive(number)?,
                _ if word.starts_with('-') => {
                    bail!("unknown flag {word}; there are --quick, --lanes=N and --threads=N")
                }
                _ => wanted.filters.push(word),
            }
        }
        Ok(wanted)
    }
}

fn positive(number: &str) -> anyhow::Result<usize> {
    match number.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!("{number:?} is no number above 0"),
    }
}

/// What all programs get: the servers, and the tools on PATH.
fn environment(threads: usize) -> anyhow::Result<Environment> {
    let mut variables = vec![(OsString::from(MONGODS_VARIABLE), servers()?.into_os_string())];
    match tools::directory() {
        Ok(directory) => variables.push((OsString::from("PATH"), tools::path_with(&directory)?)),
        Err(error) => println!("tests with mongorestore are skipped: {error:#}"),
    }
    Ok(Environment { variables, threads })
}

/// The directory of the servers: the one that is named, or ours, filled.
fn servers() -> anyhow::Result<PathBuf> {
    match std::env::var_os(MONGODS_VARIABLE).filter(|value| !value.is_empty()) {
        // Programs do not run where this one does.
        Some(named) => std::path::absolute(named).context("name the directory of the servers"),
        None => mongod::fetch(&mongod::all_versions()),
    }
}

fn cargo() -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = std::process::Command::new(cargo);
    command.current_dir(cache::workspace());
    command
}

/// What makes cargo refuse to change Cargo.lock, where nobody could commit it.
fn locked() -> Option<&'static str> {
    std::env::var_os("CI").map(|_| "--locked")
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn flags_and_filters_are_told_apart() {
        let wanted =
            Wanted::read(&["--quick", "a::b", "--lanes=3", "--threads=1", "x=y"]).expect("it is right");
        assert!(wanted.quick);
        assert_eq!((wanted.width.lanes, wanted.width.threads), (3, 1));
        assert_eq!(wanted.filters, ["a::b", "x=y"]);
        for wrong in ["--slow", "--lanes=0", "--lanes", "--threads=two", "--nocapture"] {
            assert!(Wanted::read(&[wrong]).is_err(), "{wrong} is taken");
        }
    }
}
