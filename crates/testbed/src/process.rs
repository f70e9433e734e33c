//! Processes that cannot outlive the test: spawned, signalled by pid, their output kept.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a start or a clean stop may take before it is called a failure; generous, since machines are shared.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Below the range that Linux takes outgoing ports from, so that a port stays ours over a restart.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
const PORT_TRIES_MAX: u32 = 200;
const LOG_LINES_SHOWN: usize = 12;
const LOG_LINE_CHARACTERS_MAX: usize = 400;

/// The command line and the state of one member.
#[derive(Debug)]
pub(crate) struct Process {
    command: Vec<String>,
    log: PathBuf,
    port: u16,
    outlives: bool,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new(command: Vec<String>, log: PathBuf, port: u16, outlives: bool) -> Self {
        Self { command, log, port, outlives, child: None }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Spawns the process and waits until it accepts connections.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            bail!("mongod on port {} is running already", self.port);
        }
        self.child = Some(spawn(self.command.clone(), self.outlives, &self.log.with_extension("out"))?);
        let deadline = Instant::now() + PATIENCE;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        loop {
            if let Some(child) = self.child.as_mut()
                && let Some(status) = child.try_wait().context("wait for mongod")?
            {
                self.child = None;
                bail!("mongod ended at start ({status}): {}\n{}", self.command.join(" "), self.log_tail());
            }
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let tail = self.log_tail();
                self.kill();
                bail!("mongod accepts no connection on port {} after {PATIENCE:?}\n{tail}", self.port);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child =
            self.child.as_ref().ok_or_else(|| anyhow!("mongod on port {} is not running", self.port))?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal).with_context(|| format!("signal mongod, process {}", child.id()))
    }

    /// SIGTERM, then waits for the end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while let Some(child) = self.child.as_mut() {
            if child.try_wait().context("wait for mongod")?.is_some() {
                self.child = None;
            } else if Instant::now() > deadline {
                let tail = self.log_tail();
                self.kill();
                bail!("mongod on port {} does not stop on SIGTERM\n{tail}", self.port);
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// SIGKILL; harmless when it is gone already.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Forgets the process without ending it.
    pub(crate) fn let_go(&mut self) {
        self.child = None;
    }

    /// The last warnings and errors of the log, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Warnings and worse, and a few lines of plain text (a process that dies at start writes no JSON).
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !line.contains("\"s\":\"I\"") && !line.contains("\"s\":\"D"))
            .map(|line| line.chars().take(LOG_LINE_CHARACTERS_MAX).collect())
            .collect();
        let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!("last warnings of {}:\n{}", self.log.display(), lines[first..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.outlives {
            self.kill();
        }
    }
}

/// A port that nobody listens on now, and that no other process gets from here before this one has ended: whoever is to listen
/// on it may do so late, and again after a pause.
pub fn free_port() -> anyhow::Result<u16> {
    use std::hash::{BuildHasher, Hasher};
    // Those of this process; the locks end with it.
    static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let locks = locks_of_ports()?;
    for _ in 0..PORT_TRIES_MAX {
        // Every RandomState has keys of its own, which is all the randomness that is needed here.
        let random = std::hash::RandomState::new().build_hasher().finish();
        let port = PORTS.start + u16::try_from(random % PORTS.len() as u64)?;
        // Claimed first: it is looked at by one process at a time.
        let Some(claim) = claim(&locks.join(port.to_string()))? else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            return Ok(port);
        }
    }
    bail!("no free port between {} and {} in {PORT_TRIES_MAX} tries", PORTS.start, PORTS.end)
}

/// Where there is a file for every port that was ever claimed. Each user has one: nobody can lock the files of another.
fn locks_of_ports() -> anyhow::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let directory = std::env::temp_dir().join(format!("ebbtide-test-ports-{user}"));
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// The locked file, unless somebody holds it.
fn claim(path: &Path) -> anyhow::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

struct Order {
    command: Vec<String>,
    outlives: bool,
    output: std::fs::File,
    reply: mpsc::Sender<std::io::Result<Child>>,
}

/// Starts a program in a process group of its own, its output appended to the file `output`. Unless it
/// `outlives` this process, Linux kills it at this process's end, however that comes.
///
/// Spawns on one thread that lives as long as this process: the "parent death signal" of Linux is sent when the
/// *thread* that spawned ends, and a test thread ends long before a server that several tests share.
pub fn spawn(command: Vec<String>, outlives: bool, output: &Path) -> anyhow::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for order in inbox {
                let result = spawn_here(&order.command, order.outlives, &order.output);
                // Nobody waits any more: the test is over.
                let _ = order.reply.send(result);
            }
        });
        orders
    });
    let output = std::fs::File::options()
        .create(true)
        .append(true)
        .open(output)
        .with_context(|| format!("open {}", output.display()))?;
    let (reply, answer) = mpsc::channel();
    let program = command.first().cloned().unwrap_or_default();
    let order = Order { command, outlives, output, reply };
    spawner.send(order).map_err(|_| anyhow!("the spawning thread is gone"))?;
    answer.recv().context("the spawning thread is gone")?.with_context(|| format!("start {program}"))
}

fn spawn_here(command: &[String], outlives: bool, output: &std::fs::File) -> std::io::Result<Child> {
    let mut words: Vec<&str> = Vec::new();
    if !outlives && has_setpriv() {
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"]);
    }
    words.extend(command.iter().map(String::as_str));
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
}

fn has_setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let tried = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}
