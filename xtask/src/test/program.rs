//! One test program: how it is started, and what became of it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{cargo, guard, locked, order::Run};
use crate::cache;

/// What no program needs, on no machine: it hangs.
const LIMIT: Duration = Duration::from_secs(20 * 60);

#[derive(Debug)]
pub(super) struct Program {
    /// `package/target`; a filter may name it. No test has a slash in its name.
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// What cargo built.
    Built { executable: PathBuf, manifest: PathBuf, package: String, version: String },
    /// The examples in the documentation, which only cargo can run.
    Documentation,
}

/// What is the same for all programs.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) variables: Vec<(OsString, OsString)>,
    /// How many tests of one program run at a time.
    pub(super) threads: usize,
}

impl Program {
    pub(super) fn documentation() -> Self {
        Self { name: "documentation/all".to_owned(), kind: Kind::Documentation }
    }

    fn command(&self) -> Command {
        match &self.kind {
            Kind::Documentation => {
                let mut command = guarded(cargo().get_program());
                command
                    .current_dir(cache::workspace())
                    .args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"])
                    .args(locked())
                    .arg("--");
                command
            }
            Kind::Built { executable, manifest, package, version } => {
                let mut command = guarded(executable);
                let root = manifest.parent().unwrap_or(Path::new("/"));
                // What cargo said of *this* program is not true of that one.
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("CARGO_PKG_") {
                        command.env_remove(name);
                    }
                }
                command
                    .current_dir(root)
                    .env("CARGO_MANIFEST_DIR", root)
                    .env("CARGO_MANIFEST_PATH", manifest)
                    .env("CARGO_PKG_NAME", package)
                    .env("CARGO_PKG_VERSION", version);
                command
            }
        }
    }
}

/// A command under a guard, which is in a group of its own: an interrupt ends us, and the guard ends the rest.
fn guarded(program: impl AsRef<OsStr>) -> Command {
    // Not by its name, under which another one may have been built meanwhile.
    let mut command = Command::new("/proc/self/exe");
    if !Path::new("/proc/self/exe").exists() {
        command = Command::new(std::env::current_exe().unwrap_or_default());
    }
    let (parent, limit) = (std::process::id().to_string(), LIMIT.as_secs().to_string());
    command.args([guard::COMMAND, &parent, &limit]).arg(program).process_group(0);
    command
}

/// What became of a program.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) end: End,
    pub(super) took: Duration,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

#[derive(Debug)]
pub(super) enum End {
    Ended(ExitStatus),
    /// It could not be run.
    Not(String),
}

impl Outcome {
    pub(super) fn succeeded(&self) -> bool {
        matches!(self.end, End::Ended(status) if status.success())
    }

    /// Whether there is more to tell than that all tests were filtered out.
    pub(super) fn ran_something(&self) -> bool {
        let ran = |line: &str| line.starts_with("running ") && !line.starts_with("running 0 ");
        !self.succeeded() || self.stdout.lines().any(ran)
    }

    /// All that it printed, in one piece.
    pub(super) fn show(&self) {
        let end = match &self.end {
            End::Ended(status) if status.success() => String::from("ok"),
            End::Ended(status) => format!("FAILED, {status}"),
            End::Not(why) => format!("FAILED, not run: {why}"),
        };
        let mut terminal = std::io::stdout().lock();
        // Where nobody reads what is printed, the totals still count.
        let _ = writeln!(terminal, "\n--- {}: {:.1} s, {end}", self.name, self.took.as_secs_f64());
        for text in [&self.stdout, &self.stderr] {
            let text = text.trim_matches('\n');
            if !text.is_empty() {
                let _ = writeln!(terminal, "{text}");
            }
        }
        let _ = terminal.flush();
    }
}

/// Runs a program to its end.
pub(super) fn run(run: &Run, environment: &Environment) -> Outcome {
    let mut command = run.program.command();
    command
        .args(["--test-threads", &environment.threads.to_string()])
        .args(&run.filters)
        .envs(environment.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    let begun = Instant::now();
    let (end, stdout, stderr) = match to_the_end(command) {
        Ok((status, stdout, stderr)) => (End::Ended(status), stdout, stderr),
        Err(error) => (End::Not(format!("{error:#}")), String::new(), String::new()),
    };
    Outcome { name: run.program.name.clone(), end, took: begun.elapsed(), stdout, stderr }
}

/// How a command ends and what it prints. To files and not to pipes: something that a test leaves behind would keep a
/// pipe open.
fn to_the_end(mut command: Command) -> anyhow::Result<(ExitStatus, String, String)> {
    let stdout = tempfile::tempfile().context("make a file for what it prints")?;
    let stderr = tempfile::tempfile().context("make a file for what it prints")?;
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let status = command.status().context("start it")?;
    Ok((status, all_of(stdout)?, all_of(stderr)?))
}

fn all_of(mut file: File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).context("read what it printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Command, to_the_end};

    #[test]
    fn what_is_printed_and_the_end_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let (status, stdout, stderr) = to_the_end(command).expect("a shell can be run");
        assert_eq!(status.code(), Some(3));
        assert_eq!((stdout.as_str(), stderr.as_str()), ("one\nthree\n", "two\n"));
    }
}
