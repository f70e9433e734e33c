//! A server process under test, driven through its own command line.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "each test file uses a part of it"
)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use bson::Timestamp;
use serde_json::Value;

/// Longest that a server may take to come up, or a job to end, before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Ebbtide {
    child: Option<Child>,
    pub directory: PathBuf,
    pub port: u16,
    pub project: String,
    pub public_key: String,
    pub private_key: String,
    extra: Vec<String>,
    _keep: Option<tempfile::TempDir>,
}

impl Ebbtide {
    /// A server on a fresh data directory, with a project and an owner's key.
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// The same with arguments of `serve` and variables of its environment.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let keep = tempfile::tempdir().unwrap();
        let directory = keep.path().join("data");
        let mut server = Self::prepare(directory, arguments);
        server._keep = Some(keep);
        server.serve(environment);
        server
    }

    /// A data directory with a project and an owner's key; nothing runs yet.
    pub fn prepare(directory: PathBuf, arguments: &[&str]) -> Self {
        let mut server = Self::on(directory, arguments);
        server.project = text(&server.admin(&["create-project", "shop"]), "id");
        server.new_key();
        server
    }

    /// A data directory as it is; nothing runs yet.
    pub fn on(directory: PathBuf, arguments: &[&str]) -> Self {
        Self {
            child: None,
            directory,
            port: free_port(),
            project: String::new(),
            public_key: String::new(),
            private_key: String::new(),
            extra: arguments.iter().map(|a| (*a).to_owned()).collect(),
            _keep: None,
        }
    }

    /// Makes an owner's key in the project and uses it from now on.
    pub fn new_key(&mut self) {
        let key = self.key("GROUP_OWNER");
        self.public_key = text(&key, "publicKey");
        self.private_key = text(&key, "privateKey");
    }

    pub fn key(&self, role: &str) -> Value {
        self.admin(&["create-key", "--project", &self.project, "--role", role])
    }

    pub fn serve(&mut self, environment: &[(&str, &str)]) {
        self.spawn(&[], environment);
    }

    /// Starts the server, which dies by itself, maybe before it serves anything.
    pub fn serve_to_die(&mut self, environment: &[(&str, &str)]) {
        self.launch(&[], environment);
        self.wait_for_death();
    }

    /// Asks a server that runs no jobs, and then starts one that runs them and dies at this point: who asks has the answer
    /// before anything can die.
    pub fn ask_then_die<T>(&mut self, point: &str, ask: impl FnOnce(&Self) -> T) -> T {
        self.serve_idle();
        let asked = ask(self);
        self.stop();
        self.serve_to_die(&[("EBBTIDE_CRASH_AT", point)]);
        asked
    }

    fn spawn(&mut self, arguments: &[&str], environment: &[(&str, &str)]) {
        self.launch(arguments, environment);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended while it started: {}", self.log());
            assert!(started.elapsed() < PATIENCE, "the server did not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn launch(&mut self, arguments: &[&str], environment: &[(&str, &str)]) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = program();
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)])
            .args(self.data_flags())
            .args(arguments);
        command.env("EBBTIDE_LOG", "info").envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Serves the API and runs no jobs.
    pub fn serve_idle(&mut self) {
        self.spawn(&["--no-jobs"], &[]);
    }

    /// Ends the server as an operator does, and waits for it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), rustix::process::Signal::TERM);
            child.wait().unwrap();
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until the server has died by itself.
    pub fn wait_for_death(&mut self) {
        let started = Instant::now();
        let mut child = self.child.take().unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "the server did not die: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the deployment `main` can be restored to this time.
    pub async fn until_restorable(&self, at: Timestamp) {
        let begun = Instant::now();
        loop {
            let shown = self.cli(&["timeline", "show", "main"]);
            let to = shown["restorable"].as_array().unwrap().last().map(|range| range["to"].clone());
            let reached = |to: &Value| {
                let part = |name: &str| u32::try_from(to[name].as_u64().unwrap()).unwrap();
                (part("seconds"), part("increment")) >= (at.time, at.increment)
            };
            if to.as_ref().is_some_and(reached) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not restorable: {shown}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs `ebbtide admin …` on the data directory; its JSON.
    pub fn admin(&self, words: &[&str]) -> Value {
        let output = self.try_admin(words);
        assert!(output.status.success(), "admin {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn try_admin(&self, words: &[&str]) -> Output {
        program()
            .arg("admin")
            .args(words)
            .args(self.data_flags())
            .args(["--output", "json"])
            .output()
            .unwrap()
    }

    pub fn data_flags(&self) -> Vec<String> {
        let mut flags = vec!["--data-dir".to_owned(), self.directory.to_str().unwrap().to_owned()];
        flags.extend(self.extra.iter().cloned());
        flags
    }

    /// Runs a client command that must end well; its JSON.
    pub fn cli(&self, words: &[&str]) -> Value {
        let output = self.try_cli(words);
        assert!(
            output.status.success(),
            "{words:?}: {}\n{}\nserver: {}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub fn try_cli(&self, words: &[&str]) -> Output {
        self.try_text(&[words, &["--output", "json"]].concat())
    }

    /// Runs a client command as a person does.
    pub fn try_text(&self, words: &[&str]) -> Output {
        self.try_with(words, &[])
    }

    /// The same with more variables in the environment.
    pub fn try_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = program();
        command.args(words).envs(environment.iter().copied());
        command.env("EBBTIDE_URL", self.url()).env("EBBTIDE_PROJECT", &self.project);
        command.env("EBBTIDE_PUBLIC_KEY", &self.public_key).env("EBBTIDE_PRIVATE_KEY", &self.private_key);
        command.output().unwrap()
    }

    pub fn add(&self, name: &str, uri: &str) {
        self.cli(&["cluster", "add", name, "--uri", uri]);
    }

    /// Takes a snapshot and waits for it; its id.
    pub fn snapshot(&self, cluster: &str) -> String {
        text(&self.cli(&["snapshot", "create", cluster, "--watch"]), "id")
    }

    /// Restores and waits; the job as the server shows it at the end.
    pub fn restore(&self, cluster: &str, snapshot: &str, target: &str) -> Value {
        self.cli(&["restore", "start", cluster, "--snapshot", snapshot, "--target", target, "--watch"])
    }

    fn log_file(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// What the server wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Ebbtide {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    for name in
        ["EBBTIDE_URL", "EBBTIDE_PROJECT", "EBBTIDE_PUBLIC_KEY", "EBBTIDE_PRIVATE_KEY", "EBBTIDE_DATA_DIR"]
    {
        command.env_remove(name);
    }
    command
}

pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A port that nobody listened on a moment ago, and that no other test and no outgoing connection gets: a server that is started
/// again on it finds it free.
pub fn free_port() -> u16 {
    testbed::process::free_port().unwrap()
}

/// Every file below a directory, of which there are none when it is not there.
///
/// A server may be writing to it. What the vault is putting has `#` in its name until it is whole, and is no file of its own.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(directory) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.file_name().unwrap().to_string_lossy().contains('#') {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is in a directory; it may vanish while it is read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory)
        .and_then(|all| all.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
    match listed {
        Ok(paths) => paths,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{}: {error}", directory.display()),
    }
}
