//! A PostgreSQL server of our own, when its programs are on this machine.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Stdio},
};

/// Set to make a missing PostgreSQL a failure.
const REQUIRE: &str = "EBBTIDE_TEST_REQUIRE_POSTGRES";

/// A running server. Stopped and deleted when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    directory: tempfile::TempDir,
    user: Option<&'static str>,
    port: u16,
}

impl Postgres {
    /// Starts a server, or says why not.
    ///
    /// # Panics
    /// Without a server, when the environment requires one.
    pub fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(server) => Some(server),
            Err(why) => {
                assert!(std::env::var_os(REQUIRE).is_none(), "PostgreSQL is required by {REQUIRE}: {why}");
                eprintln!("SKIPPED: {why}");
                None
            }
        }
    }

    fn try_start() -> Result<Self, String> {
        let programs = programs().ok_or("no PostgreSQL binaries")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        // PostgreSQL refuses to run as root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
        let user = is_root.then_some("nobody");
        if let Some(user) = user {
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(directory.path(), open).map_err(|error| error.to_string())?;
            run(Command::new("chown").arg(user).arg(directory.path()))?;
        }
        let mut server = Self { programs, directory, user, port: 0 };
        server.run("initdb", &["--auth=trust", "--username=ebbtide", "--no-sync", "--encoding=UTF8"])?;
        // Somebody else may take the port between its choice and its use.
        server.listen().or_else(|_| server.listen()).or_else(|_| server.listen())?;
        Ok(server)
    }

    fn listen(&mut self) -> Result<(), String> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        self.port = free.map_err(|error| error.to_string())?.port();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= -c max_connections=200 \
             -c shared_buffers=16MB -c fsync=off -c deadlock_timeout=100ms",
            self.port
        );
        let log = self.directory.path().join("log");
        let log = log.to_str().ok_or("the temporary directory is not UTF-8")?;
        self.run("pg_ctl", &["--wait", "--log", log, "--options", &options, "start"])
    }

    /// Where a database of it is; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://ebbtide@127.0.0.1:{}/{database}", self.port)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(&program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--clear-groups"]).arg(&program);
                command
            }
        };
        run(command.arg("--pgdata").arg(self.directory.path().join("data")).args(arguments).current_dir("/"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(why) = self.run("pg_ctl", &["--wait", "--mode", "immediate", "stop"]) {
            eprintln!("PostgreSQL was not stopped: {why}");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    // Not a pipe: the server that pg_ctl starts would inherit it and keep it open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// The directory with `initdb`, `pg_ctl` and `postgres`: on PATH, or where Debian puts them.
fn programs() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    on_path
        .into_iter()
        .flatten()
        .chain(versions.map(|version| version.path().join("bin")))
        .find(|directory| ["initdb", "pg_ctl", "postgres"].iter().all(|name| directory.join(name).is_file()))
}
