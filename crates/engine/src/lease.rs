//! What a running job holds: its lease, its token to stop, its progress and its checkpoint.
//!
//! A job never looks at a clock or at the catalog to learn whether it may go on: it calls
//! [`JobContext::check`] between steps, or waits for [`JobContext::stopped`] inside one. The worker's heartbeat
//! turns that token when the user cancels, when the process shuts down and when the lease is lost, or might be:
//! a worker that could not renew its lease for as long as the lease lasts must assume that somebody else has the
//! job by now, and stops before that one starts.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use catalog::Lease;
use model::{WallTime, job::Work};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

pub use crate::progress::Counters;
use crate::{
    engine::{Services, wall_clock},
    sort::SORT_BUFFER_BYTES,
};

/// Why a job must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// The user cancelled: undo, then acknowledge.
    Cancelled = 1,
    /// The process shuts down: leave a checkpoint, give the lease back.
    Shutdown = 2,
    /// The lease is, or may be, somebody else's: write nothing any more, anywhere.
    Lost = 3,
}

/// What a job says when it has recorded its success itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The job's last transaction wrote its result and ended the work item.
    Recorded,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a job ended without success.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It cannot be done; the worker records the text, which a user reads.
    #[error("{message}")]
    Failed {
        /// What happened, to what, what to do now.
        message: String,
        /// What it came from.
        #[source]
        source: Option<Source>,
    },
    /// It could not be done now, but may be later: the worker gives the job back to be claimed again, as long
    /// as it has attempts left.
    #[error("{message}")]
    Retry {
        /// What happened, to what.
        message: String,
        /// What it came from.
        #[source]
        source: Option<Source>,
    },
    /// The cancel that the user asked for is done: nothing of the job is left.
    #[error("cancelled")]
    Cancelled,
    /// The process shuts down; the job goes on in the next one.
    #[error("the worker is shutting down")]
    Shutdown,
    /// The lease is gone; whoever has it now goes on.
    #[error("the job's lease was lost to another worker")]
    Lost,
}

impl JobError {
    /// A failure told in words alone.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), source: None }
    }

    /// A failure with what it came from.
    pub fn failed_by(message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Failed { message: message.into(), source: Some(source.into()) }
    }

    /// A hindrance that may pass.
    pub fn retry_by(message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Retry { message: message.into(), source: Some(source.into()) }
    }

    /// The message with all that it came from, for the catalog and the log.
    pub fn full_text(&self) -> String {
        with_causes(self)
    }
}

/// The message of an error with all that it came from, nothing said twice.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<Stop> for JobError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::Shutdown => Self::Shutdown,
            Stop::Lost => Self::Lost,
        }
    }
}

/// The token that stops a job, and why.
#[derive(Debug, Clone, Default)]
pub struct StopToken {
    token: CancellationToken,
    reason: Arc<AtomicU8>,
}

impl StopToken {
    /// Turns the token. A graver reason replaces a lesser one; never the other way round.
    pub fn stop(&self, stop: Stop) {
        self.reason.fetch_max(stop as u8, Ordering::SeqCst);
        self.token.cancel();
    }

    /// Why the job must stop, if it must.
    pub fn reason(&self) -> Option<Stop> {
        match self.reason.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Stop::Cancelled),
            2 => Some(Stop::Shutdown),
            _ => Some(Stop::Lost),
        }
    }

    /// Returns when the job must stop.
    pub async fn stopped(&self) -> Stop {
        self.token.cancelled().await;
        self.reason().unwrap_or(Stop::Lost)
    }
}

/// When a job was asked for: its lease is counted from then on.
#[derive(Debug, Clone, Copy)]
pub struct Asking(Moment);

impl Asking {
    /// Before the catalog is asked for a job.
    pub fn now() -> Self {
        Self(Moment::now())
    }
}

/// What a running job holds. Cheap to clone; clones are the same job.
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

struct Inner {
    services: Services,
    lease: Lease,
    stop: StopToken,
    /// When the request was made that renewed the lease last: the catalog counted from later on.
    renewed: Mutex<Moment>,
    must_finish: Mutex<Option<WallTime>>,
    progress: Counters,
    checkpoint: Mutex<Option<Value>>,
}

/// A point in time on both clocks: one does not go backwards, the other goes on while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    instant: Instant,
    wall: WallTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), wall: wall_clock() }
    }

    /// How long ago it was, by the clock that says more.
    pub(crate) fn elapsed(&self) -> Duration {
        let by_wall = u64::try_from(wall_clock().0.saturating_sub(self.wall.0)).unwrap_or(0);
        self.instant.elapsed().max(Duration::from_millis(by_wall))
    }
}

impl JobContext {
    /// The context of a job claimed since `asking`.
    pub fn new(services: Services, lease: Lease, asking: Asking) -> Self {
        let Asking(claimed) = asking;
        let checkpoint = Mutex::new(lease.checkpoint.clone());
        Self {
            inner: Arc::new(Inner {
                services,
                lease,
                stop: StopToken::default(),
                renewed: Mutex::new(claimed),
                must_finish: Mutex::default(),
                progress: Counters::default(),
                checkpoint,
            }),
        }
    }

    /// The catalog, the vault, the master key and the settings.
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// The catalog.
    pub fn catalog(&self) -> &catalog::Catalog {
        &self.inner.services.catalog
    }

    /// The vault.
    pub fn vault(&self) -> &vault::Vault {
        &self.inner.services.vault
    }

    /// The lease, with its fencing epoch: every write to the catalog on behalf of the job carries it.
    pub fn lease(&self) -> &Lease {
        &self.inner.lease
    }

    /// What the job was asked to do.
    pub fn work(&self) -> Work {
        self.inner.lease.work
    }

    /// The wall clock. Never orders data.
    pub fn now(&self) -> WallTime {
        self.inner.services.now()
    }

    /// Counters that the heartbeat reports.
    pub fn progress(&self) -> &Counters {
        &self.inner.progress
    }

    /// The token that stops the job.
    pub fn stop_token(&self) -> &StopToken {
        &self.inner.stop
    }

    /// How long the lease holds without another heartbeat. Zero once somebody else may have the job.
    pub fn lease_left(&self) -> Duration {
        let lease = Duration::from_millis(self.services().settings.lease_ms.unsigned_abs());
        let renewed = *self.inner.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        lease.saturating_sub(renewed.elapsed())
    }

    /// Whether the job is still surely ours. A process that was frozen finds out here, before any heartbeat could tell.
    pub fn holds_lease(&self) -> bool {
        if self.lease_left().is_zero() {
            self.inner.stop.stop(Stop::Lost);
        }
        self.inner.stop.reason() != Some(Stop::Lost)
    }

    /// Fails once somebody else may have the job, and for no other reason: for what has to be done even when the job
    /// must stop.
    ///
    /// # Errors
    /// [`JobError::Lost`].
    pub fn check_lease(&self) -> Result<(), JobError> {
        if self.holds_lease() { Ok(()) } else { Err(JobError::Lost) }
    }

    /// From `since` on the job can no longer be given up for what may pass: what it is about is half changed.
    pub fn must_finish(&self, since: WallTime) {
        *self.inner.must_finish.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }

    /// See [`JobContext::must_finish`].
    pub fn must_finish_since(&self) -> Option<WallTime> {
        *self.inner.must_finish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to send commands to a deployment, for as long as the job is surely ours.
    pub fn permit(&self) -> mongo::Permit {
        let ctx = self.clone();
        mongo::Permit::new(move || ctx.holds_lease())
    }

    /// Fails once the job must stop. Call it between steps.
    ///
    /// # Errors
    /// [`JobError::Cancelled`], [`JobError::Shutdown`] or [`JobError::Lost`].
    pub fn check(&self) -> Result<(), JobError> {
        self.holds_lease();
        self.inner.stop.reason().map_or(Ok(()), |stop| Err(stop.into()))
    }

    /// Returns when the job must stop.
    pub async fn stopped(&self) -> Stop {
        self.inner.stop.stopped().await
    }

    /// Waits for `work`, or drops it once the job must stop.
    ///
    /// # Errors
    /// As [`JobContext::check`].
    pub async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, JobError> {
        self.check()?;
        tokio::select! {
            biased;
            stop = self.stopped() => Err(stop.into()),
            done = work => Ok(done),
        }
    }

    /// A permit to read from a deployment into buffers; held while reading.
    ///
    /// # Errors
    /// As [`JobContext::check`].
    pub async fn reader(&self) -> Result<OwnedSemaphorePermit, JobError> {
        let permit = self.or_stop(Arc::clone(&self.services().budget.readers).acquire_owned()).await?;
        permit.map_err(|_| JobError::Shutdown)
    }

    /// A permit to hold so many bytes for sorting; more than there are means all of them. Whoever waits here must hold
    /// no reader's permit.
    ///
    /// # Errors
    /// As [`JobContext::check`].
    pub async fn sort_memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, JobError> {
        let mebibytes = u32::try_from(bytes.min(SORT_BUFFER_BYTES).div_ceil(1 << 20)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.services().budget.sort_mebibytes);
        let permit = self.or_stop(memory.acquire_many_owned(mebibytes)).await?;
        permit.map_err(|_| JobError::Shutdown)
    }

    /// The last checkpoint that this or an earlier attempt wrote.
    ///
    /// # Errors
    /// [`JobError::Failed`] when it was written by something that this version cannot read.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, JobError> {
        let held = self.inner.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().map(serde_json::from_value).transpose().map_err(|e| {
            JobError::failed_by("the job's checkpoint was written by another version of Ebbtide", e)
        })
    }

    /// Makes a checkpoint durable: on return, any later attempt starts from it.
    ///
    /// # Errors
    /// [`JobError::Lost`] when the lease is gone, [`JobError::Cancelled`] when the user has cancelled meanwhile
    /// (the checkpoint is durable all the same), else what the catalog says.
    pub async fn checkpoint<T: Serialize>(&self, state: &T) -> Result<(), JobError> {
        let value = serde_json::to_value(state)
            .map_err(|e| JobError::failed_by("the checkpoint cannot be serialised", e))?;
        self.beat(Some(&value)).await?;
        *self.inner.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.check()
    }

    /// One heartbeat, with or without a checkpoint; turns the stop token as the catalog says.
    pub(crate) async fn beat(&self, checkpoint: Option<&Value>) -> Result<(), JobError> {
        let services = self.services();
        let progress = self.inner.progress.snapshot();
        let asking = Moment::now();
        let directive = services
            .catalog
            .jobs()
            .heartbeat(self.lease(), self.now(), services.settings.lease_ms, Some(&progress), checkpoint)
            .await?;
        if directive != model::job::Directive::Lost {
            *self.inner.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asking;
        }
        match directive {
            model::job::Directive::Continue => Ok(()),
            model::job::Directive::Cancel => {
                self.inner.stop.stop(Stop::Cancelled);
                Ok(())
            }
            model::job::Directive::Lost => {
                self.inner.stop.stop(Stop::Lost);
                Err(JobError::Lost)
            }
        }
    }
}

impl From<catalog::Error> for JobError {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::LeaseLost { .. } => Self::Lost,
            busy if busy.is_transient() => Self::retry_by("the catalog was busy", busy),
            other => Self::failed_by("the catalog could not be used", other),
        }
    }
}

impl From<vault::Error> for JobError {
    fn from(error: vault::Error) -> Self {
        if error.is_transient() {
            Self::retry_by("the vault could not be used", error)
        } else {
            Self::failed_by("the vault could not be used", error)
        }
    }
}

impl From<mongo::Error> for JobError {
    fn from(error: mongo::Error) -> Self {
        if matches!(error, mongo::Error::NotPermitted) {
            return Self::Lost;
        }
        if error.is_transient() {
            Self::retry_by("the deployment did not answer as it should", error)
        } else {
            Self::failed_by("the deployment refused", error)
        }
    }
}
