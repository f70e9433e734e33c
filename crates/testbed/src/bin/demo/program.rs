//! The `ebbtide` program: its commands, and the server as a process.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use testbed::process;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(30);
const LOG_LINES_SHOWN: usize = 15;

/// The program and its data directory.
pub(crate) struct Ebbtide {
    /// The program.
    pub(crate) program: PathBuf,
    /// `--data-dir`.
    pub(crate) data_dir: PathBuf,
}

impl Ebbtide {
    /// A command on the data directory, answered by JSON.
    pub(crate) fn admin(&self, words: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        command.arg("admin").args(words).arg("--data-dir").arg(&self.data_dir);
        crate::screen::say(&format!(
            "$ ebbtide admin {} --data-dir {}",
            words.join(" "),
            self.data_dir.display()
        ));
        run(command.args(["--output", "json"]))
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn serve(&self, address: &str, outlives: bool) -> anyhow::Result<Server> {
        let words = ["serve", "--data-dir", &self.data_dir.to_string_lossy(), "--listen", address];
        crate::screen::say(&format!("$ ebbtide {}", words.join(" ")));
        let log = self.data_dir.with_extension("log");
        let mut command = vec![self.program.to_string_lossy().into_owned()];
        command.extend(words.map(str::to_owned));
        let mut server = Server { child: Some(process::spawn(command, outlives, &log)?), log, outlives };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(child) = server.child.as_mut()
                && let Some(status) = child.try_wait().context("wait for the server")?
            {
                bail!("the server ended at start ({status})\n{}", server.log_tail());
            }
            if started.elapsed() > PATIENCE {
                bail!("the server does not listen on {address} after {PATIENCE:?}\n{}", server.log_tail());
            }
            sleep(POLL);
        }
        Ok(server)
    }
}

/// The running server; dropped, it is stopped.
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
    outlives: bool,
}

impl Server {
    /// For `kill`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).unwrap_or_default()
    }

    /// Its log file.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!("last lines of {}:\n{}", self.log.display(), lines[first..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (Some(mut child), false) = (self.child.take(), self.outlives) {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command of the program; its answer is JSON.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.stdin(Stdio::null()).output().context("run ebbtide")?;
    // Not the command as Debug shows it: that would show the secrets in its environment too.
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let shown = format!("ebbtide {}", words.join(" "));
    if !output.status.success() {
        bail!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("`{shown}` does not answer by JSON: {text:?}"))
}
