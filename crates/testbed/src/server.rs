//! [`Server`]: a standalone `mongod` or a replica set, for as long as the value lives.

mod address;
mod alone;
mod members;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow, bail};
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use tempfile::TempDir;

use crate::binaries;
use crate::process::{Process, free_port};
use crate::tls::Certificates;

pub use address::percent_encoded;

/// The name of every replica set that is started here.
pub const REPLICA_SET: &str = "rs0";
/// The administrator of a server that is started with [`Options::auth`].
pub const ROOT_USER: &str = "root";
/// The password of [`ROOT_USER`].
pub const ROOT_PASSWORD: &str = "root-secret";

const START_TRIES_MAX: u32 = 5;

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Such as `"6.0.5"`; see [`crate::versions`].
    pub version: String,
    /// Key file and a root user.
    pub auth: bool,
    /// TLS on every connection.
    pub tls: Option<TlsOptions>,
    /// Size of the oplog at first start; 1 is accepted and makes gaps easy.
    pub oplog_mb: Option<u32>,
    /// 0 for a standalone.
    pub replica_set_members: u8,
    /// Of the members, the last ones vote and hold no data.
    pub arbiters: u8,
    /// `--setParameter NAME=VALUE`.
    pub set_parameters: Vec<(String, String)>,
    /// WiredTiger's cache.
    pub cache_gb: f64,
    /// Further command line arguments.
    pub arguments: Vec<String>,
    /// The server itself, instead of the one of [`Options::version`].
    pub binary: Option<PathBuf>,
    /// Keep the data in this directory instead of a temporary one.
    pub directory: Option<PathBuf>,
    /// Let the processes outlive the value and this process (for demonstrations).
    pub outlives: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: crate::SUPPORTED_VERSIONS[0].to_owned(),
            auth: false,
            tls: None,
            oplog_mb: None,
            replica_set_members: 1,
            arbiters: 0,
            set_parameters: Vec::new(),
            cache_gb: 0.25,
            arguments: Vec::new(),
            binary: None,
            directory: None,
            outlives: false,
        }
    }
}

impl Options {
    /// The defaults (a replica set of one, no authentication) with another version.
    pub fn version(version: impl Into<String>) -> Self {
        Self { version: version.into(), ..Self::default() }
    }

    /// With a key file and a root user.
    pub fn with_auth(self) -> Self {
        Self { auth: true, ..self }
    }

    /// With this many members; 0 for a standalone.
    pub fn members(self, replica_set_members: u8) -> Self {
        Self { replica_set_members, ..self }
    }

    /// A primary, a secondary and an arbiter.
    pub fn with_arbiter(self) -> Self {
        Self { replica_set_members: 3, arbiters: 1, ..self }
    }

    /// With one more `--setParameter`.
    pub fn set_parameter(mut self, name: &str, value: &str) -> Self {
        self.set_parameters.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How TLS is used.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Refuse clients that show no certificate. X.509 authentication works either way.
    pub require_client_certificate: bool,
}

/// A running deployment. Dropped, it ends its processes and removes its data.
#[derive(Debug)]
pub struct Server {
    options: Options,
    ports: Vec<u16>,
    members: Mutex<Vec<Arc<tokio::sync::Mutex<Process>>>>,
    certificates: Option<Certificates>,
    directory: PathBuf,
    // After the members, so that the files go after the processes.
    _temporary: Option<TempDir>,
}

impl Server {
    /// Starts the processes, initiates the set, waits for a primary and makes the root user.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let binary = match &options.binary {
            Some(named) => named.clone(),
            None => binaries::find(&options.version)?,
        };
        let (directory, temporary) = match &options.directory {
            Some(named) => (named.clone(), None),
            None => {
                let made = tempfile::Builder::new().prefix("ebbtide-mongod-").tempdir();
                let made = made.context("make a data directory")?;
                (made.path().to_path_buf(), Some(made))
            }
        };
        std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let certificates = match options.tls {
            Some(_) => Some(Certificates::create(&directory.join("tls"))?),
            None => None,
        };
        let mut server = Self {
            ports: Vec::new(),
            members: Mutex::default(),
            certificates,
            directory,
            _temporary: temporary,
            options,
        };
        for index in 0..usize::from(server.options.replica_set_members.max(1)) {
            server.start_new_member(&binary, index).await?;
        }
        server.form().await.map_err(|error| server.explain(error))?;
        Ok(server)
    }

    async fn start_new_member(&mut self, binary: &Path, index: usize) -> anyhow::Result<()> {
        let directory = self.directory.join(format!("member-{index}"));
        for attempt in 1.. {
            std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
            let port = free_port()?;
            let log = self.directory.join(format!("member-{index}.log"));
            let command = self.command(binary, &directory, &log, port)?;
            let mut process = Process::new(command, log, port, self.options.outlives);
            match process.start().await {
                Ok(()) => {
                    self.ports.push(port);
                    self.members_locked().push(Arc::new(tokio::sync::Mutex::new(process)));
                    return Ok(());
                }
                // Somebody else was faster with the port.
                Err(error)
                    if attempt < START_TRIES_MAX && error.to_string().contains("ddress already in use") =>
                {
                    std::fs::remove_dir_all(&directory).ok();
                }
                Err(error) => return Err(error),
            }
        }
        bail!("no mongod could be started")
    }

    fn command(&self, binary: &Path, directory: &Path, log: &Path, port: u16) -> anyhow::Result<Vec<String>> {
        let options = &self.options;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut command: Vec<String> = vec![text(binary)];
        let mut add = |words: &[&str]| command.extend(words.iter().map(|word| (*word).to_owned()));
        add(&[
            "--dbpath",
            &text(directory),
            "--port",
            &port.to_string(),
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
        ]);
        add(&["--logpath", &text(log), "--logappend"]);
        add(&["--wiredTigerCacheSizeGB", &options.cache_gb.to_string()]);
        add(&["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        // Unknown to 4.4, which stops at once anyway.
        if !options.version.starts_with("4.") {
            add(&["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]);
        }
        for (name, value) in &options.set_parameters {
            add(&["--setParameter", &format!("{name}={value}")]);
        }
        if options.replica_set_members > 0 {
            add(&["--replSet", REPLICA_SET]);
        }
        if let Some(megabytes) = options.oplog_mb {
            add(&["--oplogSize", &megabytes.to_string()]);
        }
        if options.auth {
            add(&["--keyFile", &text(&self.key_file()?)]);
        }
        if let (Some(tls), Some(certificates)) = (&options.tls, &self.certificates) {
            add(&["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", &text(&certificates.server)]);
            add(&["--tlsCAFile", &text(&certificates.authority)]);
            if !tls.require_client_certificate {
                add(&["--tlsAllowConnectionsWithoutCertificates"]);
            }
        }
        command.extend(options.arguments.iter().cloned());
        Ok(command)
    }

    fn key_file(&self) -> anyhow::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join("key");
        if !path.exists() {
            std::fs::write(&path, "a2V5IG9mIHRoZSB0ZXN0IGRlcGxveW1lbnQ=\n").context("write the key file")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400))
                .context("protect the key file")?;
        }
        Ok(path)
    }

    async fn form(&self) -> anyhow::Result<()> {
        // Without credentials: until the first user exists, the localhost exception lets us in.
        if self.options.replica_set_members > 0 {
            let bearing = i32::from(self.options.replica_set_members - self.options.arbiters);
            let member = |(id, port): (i32, &u16)| {
                doc! { "_id": id, "host": format!("127.0.0.1:{port}"), "arbiterOnly": id >= bearing }
            };
            let members: Vec<Document> = (0i32..).zip(&self.ports).map(member).collect();
            let mut config = doc! { "_id": REPLICA_SET, "version": 1, "members": members };
            if self.ports.len() > 1 {
                // With the default of ten seconds every election test would take twelve.
                config.insert(
                    "settings",
                    doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 },
                );
            }
            let client = self.connect(&self.uri_of(&[0], None, true)).await?;
            let initiate = doc! { "replSetInitiate": config };
            client.database("admin").run_command(initiate).await.context("initiate the replica set")?;
        }
        if self.options.auth {
            let primary = if self.options.replica_set_members > 0 { self.primary().await? } else { 0 };
            let client = self.connect(&self.uri_of(&[primary], None, true)).await?;
            let user = doc! { "createUser": ROOT_USER, "pwd": ROOT_PASSWORD, "roles": ["root"] };
            client.database("admin").run_command(user).await.context("make the root user")?;
        }
        self.wait_for_members().await
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let logs: Vec<String> = self
            .members_locked()
            .iter()
            .filter_map(|member| member.try_lock().ok().map(|process| process.log_tail()))
            .collect();
        error.context(format!("start mongod {}\n{}", self.options.version, logs.join("\n")))
    }

    fn members_locked(&self) -> MutexGuard<'_, Vec<Arc<tokio::sync::Mutex<Process>>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, index: usize) -> anyhow::Result<Arc<tokio::sync::Mutex<Process>>> {
        self.members_locked().get(index).cloned().ok_or_else(|| anyhow!("there is no member {index}"))
    }

    async fn connect(&self, uri: &str) -> anyhow::Result<Client> {
        let mut options = ClientOptions::parse(uri).await.context("parse the connection string")?;
        options.app_name = Some("ebbtide-testbed".to_owned());
        Client::with_options(options).context("make a client")
    }

    /// A driver client for the whole deployment.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.connect(&self.uri()).await
    }

    /// A driver client for one member alone.
    pub async fn direct_client(&self, index: usize) -> anyhow::Result<Client> {
        self.connect(&self.uri_of_member(index)).await
    }

    /// Runs a command on the `admin` database of the deployment.
    pub async fn admin(&self, command: Document) -> anyhow::Result<Document> {
        Ok(self.client().await?.database("admin").run_command(command).await?)
    }

    /// Ends all processes and removes the data; what `Drop` does, by name.
    pub fn shut_down(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for member in self.members_locked().drain(..) {
            let Ok(mut process) = member.try_lock() else { continue };
            if failed {
                show_and_keep_log(&process);
            }
            if self.options.outlives { process.let_go() } else { process.kill() }
        }
    }
}

fn show_and_keep_log(process: &Process) {
    eprintln!("{}", process.log_tail());
    let kept = std::env::temp_dir().join("ebbtide-test-logs");
    let name = format!("mongod-{}-{}.log", std::process::id(), process.pid().unwrap_or_default());
    if std::fs::create_dir_all(&kept).is_ok() && std::fs::copy(process.log(), kept.join(&name)).is_ok() {
        eprintln!("the whole log is kept as {}", kept.join(name).display());
    }
}
