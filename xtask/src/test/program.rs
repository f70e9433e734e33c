//! One test program: how it is started, waited for and ended, and what became of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::{cargo, locked, order::Run};

/// What no program needs, on no machine: it hangs.
const LIMIT: Duration = Duration::from_secs(20 * 60);
const POLL: Duration = Duration::from_millis(50);

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
                let mut command = cargo();
                command
                    .args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"])
                    .args(locked())
                    .arg("--");
                command
            }
            Kind::Built { executable, manifest, package, version } => {
                let mut command = bound_to_us(executable);
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

/// A command that Linux kills at the end of the thread that starts it, however that comes: an interrupt of this program
/// leaves no other behind. The servers of a test are bound to it in the same way.
fn bound_to_us(executable: &Path) -> Command {
    static CAN_BIND: OnceLock<bool> = OnceLock::new();
    let bind = ["--pdeathsig", "KILL", "--"];
    let works = || {
        let tried = Command::new("setpriv").args(bind).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    if !*CAN_BIND.get_or_init(works) {
        return Command::new(executable);
    }
    let mut command = Command::new("setpriv");
    command.args(bind).arg(executable);
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
    /// It was killed after that long.
    TooLong(Duration),
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
            End::TooLong(limit) => format!("FAILED, killed after {} s", limit.as_secs()),
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
    let (end, stdout, stderr) = match to_the_end(command, LIMIT) {
        Ok(all) => all,
        Err(error) => (End::Not(format!("{error:#}")), String::new(), String::new()),
    };
    Outcome { name: run.program.name.clone(), end, took: begun.elapsed(), stdout, stderr }
}

/// How a command ends and what it prints. To files and not to pipes: something that a test leaves behind would keep a
/// pipe open.
fn to_the_end(mut command: Command, limit: Duration) -> anyhow::Result<(End, String, String)> {
    let stdout = tempfile::tempfile().context("make a file for what it prints")?;
    let stderr = tempfile::tempfile().context("make a file for what it prints")?;
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn().context("start it")?;
    let deadline = Instant::now() + limit;
    let end = loop {
        if let Some(status) = child.try_wait().context("wait for it")? {
            break End::Ended(status);
        }
        if Instant::now() >= deadline {
            kill_all(&mut child);
            break End::TooLong(limit);
        }
        std::thread::sleep(POLL);
    };
    Ok((end, all_of(stdout)?, all_of(stderr)?))
}

fn all_of(mut file: File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).context("read what it printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Kills a process and all that it started.
fn kill_all(child: &mut Child) {
    let below = descendants(child.id());
    // Errors mean that they have ended.
    let _ = child.kill();
    let _ = child.wait();
    for process in below.into_iter().filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// The processes below one; none where there is no `/proc`.
fn descendants(of: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // `id (name) state parent …`, and a name may have spaces and parentheses.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::{Command, Duration, End, Instant, to_the_end};

    fn shell(script: &str, limit: Duration) -> (End, String, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        to_the_end(command, limit).expect("a shell can be run")
    }

    #[test]
    fn what_is_printed_and_the_end_are_kept() {
        let (end, stdout, stderr) =
            shell("echo one; echo two >&2; echo three; exit 3", Duration::from_secs(60));
        assert!(matches!(end, End::Ended(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!((stdout.as_str(), stderr.as_str()), ("one\nthree\n", "two\n"));
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_below() {
        let begun = Instant::now();
        let (end, stdout, _) = shell("sleep 300 & echo $!; wait", Duration::from_millis(500));
        assert!(matches!(end, End::TooLong(_)), "{end:?}");
        // A busy machine may take a moment to end it; without `/proc` there is nothing to see.
        let state = format!("/proc/{}/stat", stdout.trim());
        let lives = || std::fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(begun.elapsed() < Duration::from_secs(60), "what it started lives");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
