//! One process's share of the work: a worker loop and the reconcilers, until shutdown.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use catalog::Catalog;
use model::{WallTime, copy::RegionName, export::PlaceName, organization::Organization};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use vault::{Location, MasterKey, Vault};

use crate::{capture, reconcile, spill, worker};

/// How long a lease lasts without a heartbeat.
pub const LEASE_MS: i64 = 15_000;
/// Jobs that one process runs at a time.
pub const WORKERS: usize = 2;
/// Collections, or ranges of one, that one process reads at a time, all jobs together.
pub const READERS: usize = 2;
/// How long a shutdown waits for jobs to stop before it gives up on them; their leases then run out.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);
/// Memory that is kept to be used again goes when it was not needed for this long.
const MEMORY_RESTS: Duration = Duration::from_secs(2);

/// What the operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name under which this process claims jobs; for people and logs.
    pub worker_name: String,
    /// Jobs that run at a time; 0 makes this process claim none.
    pub workers: usize,
    /// Collections or ranges read at a time.
    pub readers: usize,
    /// Where sorts and lists that outgrow memory go for a while.
    pub spill_dir: PathBuf,
    /// Whether this process captures the oplogs of deployments with continuous backup.
    pub capture: bool,
    /// Where captured slices wait while the vault is away.
    pub spool_dir: PathBuf,
    /// How long a lease lasts without a heartbeat, in milliseconds.
    pub lease_ms: i64,
    /// How often the worker looks for jobs when nobody pokes it.
    pub poll_every: Duration,
    /// How often the reconcilers run when nobody pokes them.
    pub reconcile_every: Duration,
    /// Whether a job may raise the history window of a deployment while it reads (and put it back).
    pub raise_history_window: bool,
    /// How long an object that nothing refers to is kept before it is deleted.
    pub garbage_grace: Duration,
    /// In how long every captured deployment is compared wholly with what is recorded of it; none switches that off.
    pub live_check_every: Option<Duration>,
    /// How long lines of the audit log are kept; none keeps them for ever.
    pub audit_kept: Option<Duration>,
    /// Where snapshots may be exported to, by the names that buckets have.
    pub export_places: BTreeMap<PlaceName, Location>,
    /// Where other vaults are that snapshots may be copied to, by the names of their regions.
    pub copy_places: BTreeMap<RegionName, Location>,
    /// The organization that the markers of exports tell.
    pub organization: Organization,
    /// For tests and measurements.
    #[doc(hidden)]
    pub tuning: Tuning,
}

/// What tests and measurements may force; nobody else needs it.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// Collections of at least so many bytes are read in several ranges.
    pub split_bytes: Option<u64>,
    /// Read all collections but capped ones so.
    pub order: Option<mongo::read::Order>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            worker_name: format!("ebbtide-{}", std::process::id()),
            workers: WORKERS,
            readers: READERS,
            spill_dir: std::env::temp_dir().join("ebbtide-spill"),
            capture: true,
            spool_dir: std::env::temp_dir().join("ebbtide-spool"),
            lease_ms: LEASE_MS,
            poll_every: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(30),
            raise_history_window: true,
            garbage_grace: Duration::from_secs(3600),
            live_check_every: None,
            audit_kept: None,
            export_places: BTreeMap::new(),
            copy_places: BTreeMap::new(),
            organization: Organization::default(),
            tuning: Tuning::default(),
        }
    }
}

/// What every job and reconciler works with. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The control plane's rows.
    pub catalog: Catalog,
    /// The object store.
    pub vault: Vault,
    /// Opens connection strings.
    pub master_key: Arc<MasterKey>,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// What bounds the memory of all jobs together.
    pub budget: Budget,
    /// Jobs that wait for capture to reach a time.
    pub waiters: capture::Waiters,
    /// Wakes the worker: a job was queued.
    pub poke: Arc<Notify>,
    /// Places of copies that this process works on.
    pub(crate) copy_rights: crate::reconcile::CopyRights,
    /// What was seen of the clock.
    pub(crate) clock: Arc<crate::reconcile::ClockWatch>,
    /// Called at named moments of a job; for tests that must do something to a deployment just then.
    #[doc(hidden)]
    pub probe: Option<Probe>,
}

/// See [`Services::probe`]: the name of the moment, and what it is about.
#[doc(hidden)]
pub type Probe = Arc<dyn Fn(&'static str, String) -> futures::future::BoxFuture<'static, ()> + Send + Sync>;

impl Services {
    /// Calls the probe, if there is one.
    pub(crate) async fn probe(&self, moment: &'static str, about: &str) {
        if let Some(probe) = &self.probe {
            probe(moment, about.to_owned()).await;
        }
    }

    /// The wall clock, for expiries and for people.
    pub fn now(&self) -> WallTime {
        wall_clock()
    }

    /// Lets go of memory that nobody needed since the last call.
    fn trim_memory(&self) {
        self.budget.buffers.trim();
        self.vault.trim_memory();
    }

    /// Lets go of all memory that nobody needs in this moment.
    pub(crate) fn let_memory_go(&self) {
        self.trim_memory();
        self.trim_memory();
    }
}

/// The one place where the engine reads the wall clock.
pub fn wall_clock() -> WallTime {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Permits shared by all jobs of the process; see [`crate::pipeline`] for the bytes that they stand for.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Held by whoever reads from a deployment into buffers.
    pub readers: Arc<Semaphore>,
    /// Held by a segment from the moment it is full until it is sealed and has a permit to be put.
    pub segments: Arc<Semaphore>,
    /// Held by a sealed segment until it is durable.
    pub puts: Arc<Semaphore>,
    /// Held while bytes are hashed, compressed and sealed.
    pub processors: Arc<Semaphore>,
    /// One for each MiB that sorts and windows hold.
    pub sort_mebibytes: Arc<Semaphore>,
    /// Memory of segments, used again and again.
    pub buffers: Arc<crate::pipeline::Buffers>,
}

impl Budget {
    /// Permits for so many readers; one processor permit per core.
    pub fn new(readers: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let permits = |n: usize| Arc::new(Semaphore::new(n.max(1)));
        Self {
            readers: permits(readers),
            segments: permits(crate::pipeline::SEGMENTS_IN_FLIGHT),
            puts: permits(crate::pipeline::PUTS_IN_FLIGHT),
            processors: permits(cores.min(crate::pipeline::SEGMENTS_IN_FLIGHT)),
            sort_mebibytes: permits(crate::sort::SORT_BUFFER_BYTES >> 20),
            buffers: Arc::default(),
        }
    }
}

/// The engine of one process.
#[derive(Clone)]
pub struct Engine {
    services: Services,
    reconcilers: Arc<reconcile::Reconcilers>,
}

impl Engine {
    /// An engine over these. Nothing runs yet.
    pub fn new(catalog: Catalog, vault: Vault, master_key: Arc<MasterKey>, settings: Settings) -> Self {
        let budget = Budget::new(settings.readers);
        let services = Services {
            catalog,
            vault,
            master_key,
            settings: Arc::new(settings),
            budget,
            waiters: capture::Waiters::default(),
            poke: Arc::new(Notify::new()),
            copy_rights: crate::reconcile::CopyRights::default(),
            clock: Arc::default(),
            probe: None,
        };
        let reconcilers = Arc::new(reconcile::Reconcilers::new(services.clone()));
        Self { services, reconcilers }
    }

    /// The same engine with a probe.
    #[doc(hidden)]
    pub fn with_probe(mut self, probe: Probe) -> Self {
        self.services.probe = Some(probe);
        // What keeps things in order has services of its own.
        self.reconcilers = Arc::new(reconcile::Reconcilers::new(self.services.clone()));
        self
    }

    /// What the jobs work with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Wakes the worker: a job was queued.
    pub fn poke(&self) -> Arc<Notify> {
        Arc::clone(&self.services.poke)
    }

    /// The reconcilers, to poke them and to show how they are.
    pub fn reconcilers(&self) -> &Arc<reconcile::Reconcilers> {
        &self.reconcilers
    }

    /// Runs until `shutdown`; then stops the jobs, gives their leases back and returns.
    ///
    /// # Errors
    /// When the spill directory cannot be used. Everything else is retried for ever and logged.
    pub async fn run(&self, shutdown: CancellationToken) -> std::io::Result<()> {
        let settings = &self.services.settings;
        std::fs::create_dir_all(&settings.spill_dir)?;
        spill::sweep(&settings.spill_dir)?;
        let reconciling = tokio::spawn(Arc::clone(&self.reconcilers).run(shutdown.clone()));
        let capturing = async {
            if settings.capture {
                capture::run(&self.services, &shutdown).await;
            }
        };
        let working = worker::run(&self.services, &self.services.poke, &shutdown);
        tokio::join!(working, capturing, self.give_memory_back(&shutdown));
        if let Err(panicked) = reconciling.await {
            tracing::error!(error = %panicked, "the reconcilers ended by a panic");
        }
        Ok(())
    }

    /// What one phase of a job keeps to use it again is not needed in the next.
    async fn give_memory_back(&self, shutdown: &CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(MEMORY_RESTS)).await.is_some() {
            self.services.trim_memory();
        }
    }
}
