//! Programs that are measured: run as processes, timed by the wall, their memory read from the kernel.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::requests::Connection;

/// How often it is asked whether a snapshot is completed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A server under measurement; ended when dropped.
pub(crate) struct Ebbtide {
    child: Child,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    directory: PathBuf,
    /// Its address.
    pub(crate) url: String,
}

impl Ebbtide {
    /// Starts a server on a fresh data directory, with a project and a key. `core` pins it to one core.
    pub(crate) fn start(program: &Path, directory: &Path, core: Option<usize>) -> anyhow::Result<Self> {
        let data = directory.to_str().context("the directory is UTF-8")?;
        let project = admin(program, data, &["create-project", "bench"])?;
        let project = project["id"].as_str().context("a project id")?;
        Self::start_in(program, directory, project, core)
    }

    /// Starts a server on a data directory that has a project.
    pub(crate) fn start_in(
        program: &Path,
        directory: &Path,
        project: &str,
        core: Option<usize>,
    ) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let data = directory.to_str().context("the directory is UTF-8")?;
        let config = directory.with_extension("toml");
        std::fs::write(&config, "[rate_limit]\nenabled = false\n")?;
        let key = admin(program, data, &["create-key", "--project", project, "--role", "GROUP_OWNER"])?;
        let text = |name: &str| key[name].as_str().map(str::to_owned).context("a key");
        let environment = vec![
            ("EBBTIDE_URL", url.clone()),
            ("EBBTIDE_PROJECT", project.to_owned()),
            ("EBBTIDE_PUBLIC_KEY", text("publicKey")?),
            ("EBBTIDE_PRIVATE_KEY", text("privateKey")?),
        ];
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["serve", "--data-dir", data, "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--config").arg(&config);
        // What is said takes time, and is wanted by whoever asks where the time goes.
        if std::env::var_os("EBBTIDE_LOG").is_none() {
            command.env("EBBTIDE_LOG", "warn");
        }
        let child = command.stdin(Stdio::null()).spawn().context("start ebbtide serve")?;
        let server =
            Self { child, program: program.to_owned(), environment, directory: directory.to_owned(), url };
        server.wait_until_up()?;
        Ok(server)
    }

    fn wait_until_up(&self) -> anyhow::Result<()> {
        let address = self.url.trim_start_matches("http://");
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("ebbtide serve did not come up on {address}")
    }

    /// Runs a client command; its JSON.
    pub(crate) fn client(&self, words: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        command.args(words).args(["--output", "json"]);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        json(&mut command)
    }

    /// Takes a snapshot of a cluster over the API; from the request to the answer that it is completed, and the snapshot as
    /// the client shows it.
    pub(crate) fn snapshot(&self, cluster: &str) -> anyhow::Result<(Duration, Value)> {
        let [project, user, password] = ["EBBTIDE_PROJECT", "EBBTIDE_PUBLIC_KEY", "EBBTIDE_PRIVATE_KEY"]
            .map(|name| self.environment(name));
        let path = format!("/api/atlas/v2/groups/{project}/clusters/{cluster}/backup/snapshots");
        let mut connection = Connection::open(self.url.trim_start_matches("http://"), &path, user, password)?;
        let started = Instant::now();
        let body = r#"{"description":"benchmark","retentionInDays":1}"#;
        let taken: Value = serde_json::from_slice(&connection.request("POST", &path, body)?)?;
        let id = taken["id"].as_str().context("the id of a snapshot")?;
        let path = format!("{path}/{id}");
        let took = loop {
            let snapshot: Value = serde_json::from_slice(&connection.request("GET", &path, "")?)?;
            match snapshot["status"].as_str() {
                Some("completed") => break started.elapsed(),
                Some("queued" | "inProgress") => std::thread::sleep(LOOK_EVERY),
                _ => bail!("the snapshot failed: {snapshot}"),
            }
        };
        Ok((took, self.client(&["snapshot", "show", cluster, id])?))
    }

    /// A value of the client's environment.
    pub(crate) fn environment(&self, name: &str) -> &str {
        self.environment.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// Highest resident memory so far, in bytes.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("the kernel tells the peak")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Seconds of processor time that it has used so far, all cores together.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        // Linux counts in hundredths of a second for every user of this file (USER_HZ).
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(") ").next().context("a process has a state")?;
        let ticks = |at: usize| after_name.split(' ').nth(at).and_then(|t| t.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("the kernel tells the time used")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Bytes in its vault.
    pub(crate) fn vault_bytes(&self) -> anyhow::Result<u64> {
        directory_bytes(&self.directory.join("vault"))
    }
}

/// Runs `ebbtide admin` on a data directory; its JSON.
pub(crate) fn admin(program: &Path, data: &str, words: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(program);
    command.arg("admin").args(words).args(["--data-dir", data, "--output", "json"]);
    json(&mut command)
}

impl Drop for Ebbtide {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Bytes of all files below a directory.
pub(crate) fn directory_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            directory_bytes(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

/// Runs a shell line to its end; how long it took.
pub(crate) fn timed(line: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let output = Command::new("bash").args(["-c", &format!("set -o pipefail; {line}")]).output()?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(started.elapsed())
}

/// Writes back and drops the page cache. Needs root; says so otherwise.
pub(crate) fn drop_page_cache() -> anyhow::Result<()> {
    timed("sync; echo 3 > /proc/sys/vm/drop_caches").map(drop).context("drop the page cache (needs root)")
}

fn json(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.stdin(Stdio::null()).output().context("run ebbtide")?;
    if !output.status.success() {
        bail!(
            "ebbtide failed: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    serde_json::from_slice(&output.stdout).context("ebbtide printed JSON")
}
