//! One collection from the vault to the target: created, loaded, made safe from elections, read back, indexed.
//!
//! After any error on the way the collection is in an unknown state; it is dropped and loaded again, a bounded number
//! of times. Nothing counts before its content, read back at majority, is that of the manifest: at once where it lies
//! under its own name already, else when everything is loaded.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use futures::StreamExt as _;
use history::ContentSum;
use model::collection_restore::CollectionStep;
use mongo::{
    Error, Namespace, time,
    write::{
        BuildOptions, CommitQuorum as Quorum, ConnectionPool, KeyCounts, LoadOptions, Loader, TtlPolicy,
        collections, indexes, timeseries, ttl, verify,
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use vault::{Order, SegmentEntry};

use super::{
    CommitQuorum,
    checkpoint::{Content, Parked, Staged},
    errors,
    plan::Way,
    segments::{self, Segment},
    source::{Item, Restore},
    specs,
    standing::{self, NAMESPACE_EXISTS},
};
use crate::{
    crash,
    lease::{JobContext, JobError, Stop},
};

/// How often one collection is loaded before the job gives up on it.
pub(crate) const LOAD_TRIES_MAX: u32 = 5;
/// Wait before the second try; doubles with each further one. An election takes about ten seconds.
const LOAD_RETRY_WAIT: Duration = Duration::from_secs(2);
/// Connections that load documents at a time; more were no faster.
pub(crate) const CONNECTIONS_MAX: usize = 4;
/// Index builds at a time. Each may take 200 MB of the server's memory, and the server itself runs no more than three.
pub(crate) const BUILDS_MAX: usize = 3;
/// A collection that has more than this is worth several connections, and several builds.
const LARGE_BYTES: u64 = 64 << 20;

/// What all loads of a job share.
pub(crate) struct Loads {
    /// The running job.
    pub(crate) ctx: JobContext,
    /// What is restored.
    pub(crate) job: Arc<Restore>,
    /// Connections to the target's primary.
    pub(crate) pool: ConnectionPool,
    /// Turned when one collection has failed for good: the others stop.
    pub(crate) halt: CancellationToken,
    /// Takes what has to be in the checkpoint before anybody goes on.
    pub(crate) made: mpsc::UnboundedSender<MadeNow>,
}

/// What was made where nothing may stand.
pub(crate) struct MadeNow {
    /// Its UUID, as hex.
    pub(crate) uuid: String,
    /// Answered when it is written down.
    pub(crate) written: oneshot::Sender<()>,
}

/// What a collection says that stopped because another one failed.
pub(crate) fn halted() -> JobError {
    JobError::failed("another collection failed first")
}

/// Why a try ended.
enum Trouble {
    /// The job must stop.
    Stopped(JobError),
    /// The target's error; `true` when another try may help.
    Target(&'static str, Error),
    /// What was read back is not what was written.
    Differs(String),
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        Self::Stopped(error)
    }
}

impl Trouble {
    fn is_worth_a_try(&self) -> bool {
        match self {
            Self::Stopped(_) => false,
            // A duplicate key while loading an empty collection means that it was not empty: something wrote to it.
            Self::Target(doing, error) => {
                errors::passes(error) || (*doing == LOADING && error.code() == Some(11_000))
            }
            Self::Differs(_) => true,
        }
    }

    fn into_error(self, ns: &impl Display) -> JobError {
        match self {
            Self::Stopped(error) => error,
            Self::Target(doing, error) => errors::job_error(doing, ns, error),
            Self::Differs(how) => {
                JobError::failed(format!("{ns} does not hold what was written to it: {how}"))
            }
        }
    }
}

/// How far a collection was fed.
enum Fed {
    /// To its end.
    All,
    /// So many of its segments.
    UpTo(usize),
}

const CREATING: &str = "creating";
const LOADING: &str = "loading";
const PROVING: &str = "reading back";

fn target(doing: &'static str) -> impl FnOnce(Error) -> Trouble {
    move |error| Trouble::Target(doing, error)
}

/// How many connections the load of a collection may use: all of them when its indexes are to be built afterwards. One
/// thread of the server builds them, and the sooner it can begin, the less there is to wait for at the end.
pub(crate) fn connections_for(item: &Item) -> usize {
    if item.entry.bytes <= LARGE_BYTES || is_ordered(item) {
        1
    } else if !specs::any_beside_id(&item.entry.meta.indexes) {
        2
    } else {
        CONNECTIONS_MAX
    }
}

/// How many builds the indexes of a collection are shared out to, by the keys of theirs. Several scan it several times, which
/// is little beside the sorting of keys that each does on a thread of its own.
pub(crate) fn builds_for(item: &Item, keys: &KeyCounts) -> usize {
    if item.entry.bytes <= LARGE_BYTES { 1 } else { keys.builds(&item.entry.meta.indexes, BUILDS_MAX).max(1) }
}

/// Whether the order of the documents is part of the content.
const fn is_ordered(item: &Item) -> bool {
    matches!(item.entry.meta.order, Order::Natural)
}

impl Loads {
    /// Loads `item` into `into` until it is proved. `mark` when the writes are not to staging names and have to be
    /// known as ours in the oplog. The keys are those of its first documents.
    pub(crate) async fn load(
        &self,
        item: &Item,
        into: &Namespace,
        mark: bool,
    ) -> Result<(Staged, KeyCounts), JobError> {
        let mut wait = LOAD_RETRY_WAIT;
        for attempt in 1.. {
            let trouble = match self.load_once(item, into, mark).await {
                Ok(loaded) => return Ok(loaded),
                Err(trouble) => trouble,
            };
            self.pool.clear();
            if attempt >= LOAD_TRIES_MAX || !trouble.is_worth_a_try() {
                return Err(trouble.into_error(&item.ns));
            }
            let error = trouble.into_error(&item.ns).full_text();
            tracing::warn!(namespace = %item.ns, attempt, error, "{} is loaded again: {error}", item.ns);
            self.ctx.services().probe("restore.load-again", &item.ns.to_string()).await;
            self.ctx.or_stop(tokio::time::sleep(wait)).await?;
            wait *= 2;
        }
        Err(JobError::failed(format!("{} could not be loaded", item.ns)))
    }

    async fn load_once(
        &self,
        item: &Item,
        into: &Namespace,
        mark: bool,
    ) -> Result<(Staged, KeyCounts), Trouble> {
        self.job.told.loading(item);
        let parked = self.create(item, into, mark).await?;
        crash::point("restore.load.after-create");
        let options = LoadOptions {
            connections: connections_for(item),
            insertion_order: is_ordered(item),
            mark_as: mark.then(|| self.job.job.clone()),
            written: Arc::clone(&self.job.pace.written),
        };
        let mut loader = Loader::open_on(&self.pool, into, options).await.map_err(target(LOADING))?;
        let mut counted = Counted::new(&self.ctx);
        let content = match self.feed(item, &mut loader, &mut counted).await {
            Ok(content) => content,
            // Whoever has the lease now must find nobody writing; what is under way ends with its connection.
            Err(Trouble::Stopped(JobError::Lost)) => {
                loader.abort().await;
                return Err(JobError::Lost.into());
            }
            // What is under way is waited for: a late insert would make a collection again that was swept.
            Err(trouble) => {
                loader.close().await.ok();
                return Err(trouble);
            }
        };
        loader.finish().await.map_err(target(LOADING))?;
        crash::point("restore.load.after-load");
        self.ctx.check()?;
        let mut staged = Staged::default();
        if item.beside.is_some() {
            staged.content = Some(Content::of(&content));
        } else if content != item.entry.content {
            return Err(Trouble::Differs(differing(&item.entry.content, &content)));
        }
        if mark {
            // Under staging names everything is proved together, when all is there.
            if let Some(how) = self.difference(&content, into).await? {
                return Err(Trouble::Differs(how));
            }
        }
        let keys = counted.keep();
        let uuid = collections::uuid_of(&self.job.deployment, into).await.map_err(target(PROVING))?;
        let uuid =
            uuid.ok_or_else(|| Trouble::Target(PROVING, Error::NamespaceNotFound(into.to_string())))?;
        Ok((Staged { uuid: hex::encode(uuid), parked: parked.into_iter().collect(), ..staged }, keys))
    }

    /// Makes the empty collection; gives back the lifetime that was taken out of its options.
    async fn create(&self, item: &Item, into: &Namespace, mark: bool) -> Result<Option<Parked>, Trouble> {
        let meta = &item.entry.meta;
        if item.way != Way::Buckets {
            let (options, parked) = ttl::park_collection(into, &meta.options).map_err(target(CREATING))?;
            self.create_empty(item, into, into, &options, mark).await?;
            return Ok(parked.map(Parked::of));
        }
        let series = timeseries::series_of(into).filter(|_| into == &item.ns);
        let series = series.and_then(|ns| self.job.items.iter().find(|other| other.ns == ns));
        let series = series.ok_or_else(|| {
            JobError::failed(format!("{} belongs to no time series of the snapshot", item.ns))
        })?;
        let (options, parked) =
            ttl::park_collection(&series.ns, &series.entry.meta.options).map_err(target(CREATING))?;
        self.create_empty(item, into, &series.ns, &options, mark).await?;
        Ok(parked.map(Parked::of))
    }

    /// Makes `what`, the collection `into` or the time series of these buckets, in place of anything that is there; or, under its
    /// own name where nothing may stand, of what this job has made.
    async fn create_empty(
        &self,
        item: &Item,
        into: &Namespace,
        what: &Namespace,
        options: &[u8],
        mark: bool,
    ) -> Result<(), Trouble> {
        let deployment = &self.job.deployment;
        let (db, name, id_index) = (&what.db, &what.collection, item.entry.meta.id_index.as_deref());
        let id_index = id_index.filter(|_| item.way != Way::Buckets);
        let takes_nothing = mark && self.job.made.is_known() && standing::must_be_free(&self.job, item);
        let made = match takes_nothing {
            true => collections::create(deployment, db, name, options, id_index).await,
            false => self.replace(item, what, options).await,
        };
        match made {
            Err(error) if takes_nothing && error.code() == Some(NAMESPACE_EXISTS) => {
                if !self.is_own(into).await.map_err(target(CREATING))? {
                    let called = self.job.items.iter().find(|other| other.ns == *what);
                    return Err(Trouble::Stopped(standing::made_meanwhile(called.unwrap_or(item))));
                }
                self.replace(item, what, options).await.map_err(target(CREATING))?;
            }
            made => made.map_err(target(CREATING))?,
        }
        if takes_nothing {
            let uuid = collections::uuid_of(deployment, into).await.map_err(target(CREATING))?;
            self.write_down(uuid.map(hex::encode).unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Has it written down what was made, before there is anything in it: an attempt that takes over knows by that what is its own.
    async fn write_down(&self, uuid: String) -> Result<(), Trouble> {
        self.job.made.note(&uuid);
        let (written, is_written) = oneshot::channel();
        self.made.send(MadeNow { uuid, written }).ok();
        // Nobody answers where the job has failed by now.
        is_written.await.map_err(|_| Trouble::Stopped(halted()))
    }

    async fn replace(&self, item: &Item, what: &Namespace, options: &[u8]) -> mongo::Result<()> {
        let deployment = &self.job.deployment;
        match item.way {
            Way::Buckets => timeseries::create(deployment, what, options).await,
            _ => {
                let id_index = item.entry.meta.id_index.as_deref();
                collections::create_anew(deployment, &what.db, &what.collection, options, id_index).await
            }
        }
    }

    /// Whether what has the name was made by this job. Where the answer to its making was lost, or an attempt died before it was
    /// written down, that is not known, and nothing is in it yet.
    async fn is_own(&self, into: &Namespace) -> mongo::Result<bool> {
        let deployment = &self.job.deployment;
        match collections::uuid_of(deployment, into).await? {
            Some(uuid) if self.job.made.has(&hex::encode(uuid)) => Ok(true),
            Some(_) => collections::is_empty(deployment, into).await,
            None => Ok(false),
        }
    }

    /// Feeds everything, and tells the sum of it.
    async fn feed(
        &self,
        item: &Item,
        loader: &mut Loader,
        counted: &mut Counted<'_>,
    ) -> Result<ContentSum, Trouble> {
        let (mut fed, mut content) = (Fed::UpTo(0), ContentSum::default());
        while let Fed::UpTo(done) = fed {
            tokio::select! {
                () = self.halt.cancelled() => return Err(Trouble::Stopped(halted())),
                passed = self.job.pace.pass(&self.ctx) => passed?,
            }
            fed = self.feed_some(item, done, loader, counted, &mut content).await?;
        }
        Ok(content)
    }

    /// Feeds the segments after the first `done`, as long as nothing has to be waited for. What was read ahead is let go
    /// then: its memory is that of all jobs of the process.
    async fn feed_some(
        &self,
        item: &Item,
        mut done: usize,
        loader: &mut Loader,
        counted: &mut Counted<'_>,
        content: &mut ContentSum,
    ) -> Result<Fed, Trouble> {
        let segments = segments::read(&self.ctx, &self.job.manifest, &item.entry, item.beside.as_ref(), done);
        let mut segments = std::pin::pin!(segments);
        loop {
            let next = tokio::select! {
                biased;
                stop = self.ctx.stopped() => return Err(Trouble::Stopped(stop.into())),
                () = self.halt.cancelled() => return Err(Trouble::Stopped(halted())),
                next = segments.next() => next,
            };
            let Some(segment) = next else { return Ok(Fed::All) };
            let Segment { entry, documents, content: of_segment } = segment?;
            if done == 0 && item.entry.bytes > LARGE_BYTES {
                counted.keys = KeyCounts::of(&item.entry.meta.indexes, &documents);
            }
            for piece in self.job.pace.pieces(documents)? {
                tokio::select! {
                    () = self.halt.cancelled() => return Err(Trouble::Stopped(halted())),
                    passed = self.job.pace.pass_in_hand(&self.ctx) => passed?,
                }
                tokio::select! {
                    biased;
                    Stop::Lost = self.ctx.stopped() => return Err(Trouble::Stopped(JobError::Lost)),
                    inserted = loader.insert(piece) => inserted.map_err(target(LOADING))?,
                }
            }
            counted.add(&entry);
            self.job.told.counted(item, of_segment.documents);
            content.merge(&of_segment);
            done += 1;
            self.ctx.services().probe("restore.segment-loaded", &item.ns.to_string()).await;
            if self.job.pace.is_used_up() {
                return Ok(Fed::UpTo(done));
            }
        }
    }

    /// Reads a loaded collection back at majority, and tells how it differs from what was to be loaded.
    async fn difference(&self, wanted: &ContentSum, into: &Namespace) -> Result<Option<String>, Trouble> {
        let read = async {
            let mut connection = self.pool.take().await?;
            let found = verify::content_on(&mut connection, into, None).await?;
            self.pool.put_back(connection);
            Ok(found)
        };
        let found = self.ctx.or_stop(read).await?.map_err(target(PROVING))?;
        Ok((found != *wanted).then(|| differing(wanted, &found)))
    }

    /// The time at which reading back begins.
    pub(crate) async fn time_of_proof(&self) -> Result<mongo::ClusterTime, JobError> {
        let now = || async {
            let now = self.ctx.or_stop(time::majority_now(&self.job.deployment)).await?;
            now.map_err(target(PROVING))
        };
        self.patiently(&self.job.target.name, now).await
    }

    /// Reads a loaded collection back, and tells how it differs from what the item tells by then.
    pub(crate) async fn prove(&self, item: &Item, into: &Namespace) -> Result<Option<String>, JobError> {
        self.patiently(&item.ns, || self.difference(&item.entry.content, into)).await
    }

    /// Notes that a collection failed, and not only stopped because another one did.
    pub(crate) fn told_failure<T>(
        &self,
        item: &Item,
        step: CollectionStep,
        done: Result<T, JobError>,
    ) -> Result<T, JobError> {
        done.inspect_err(|error| {
            if !self.halt.is_cancelled() {
                self.job.told.failed(item, step, error);
            }
        })
    }

    /// Does what changes nothing, again when it fails for a reason that passes, such as an election.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        to: &impl Display,
        mut work: impl FnMut() -> F,
    ) -> Result<T, JobError> {
        let mut wait = LOAD_RETRY_WAIT;
        let mut tries_left = LOAD_TRIES_MAX;
        loop {
            let done = tokio::select! {
                () = self.halt.cancelled() => return Err(halted()),
                done = work() => done,
            };
            tries_left -= 1;
            match done {
                Err(trouble) if tries_left > 0 && trouble.is_worth_a_try() => {}
                done => return done.map_err(|trouble| trouble.into_error(to)),
            }
            self.pool.clear();
            self.ctx.or_stop(tokio::time::sleep(wait)).await?;
            wait *= 2;
        }
    }

    /// Builds the indexes of a loaded collection, which have these keys; gives back the lifetimes that were put aside.
    pub(crate) async fn index(
        &self,
        item: &Item,
        into: &Namespace,
        keys: KeyCounts,
    ) -> Result<Vec<Parked>, JobError> {
        let options = BuildOptions { builds_max: builds_for(item, &keys), keys, ..build_options(&self.job) };
        let meta = &item.entry.meta;
        let specs = specs::to_build(&meta.options, &meta.indexes).map_err(|e| {
            JobError::failed_by(format!("an index of {} is malformed in the snapshot", item.ns), e)
        })?;
        let mut wait = LOAD_RETRY_WAIT;
        for attempt in 1.. {
            let built = indexes::build(&self.job.deployment, into, &specs, &options);
            let built = tokio::select! {
                () = self.halt.cancelled() => return Err(halted()),
                built = self.ctx.or_stop(built) => built?,
            };
            match built {
                Ok(report) => return Ok(report.parked.into_iter().map(Parked::of).collect()),
                // A deadline that passed, or members that are down, do not pass by trying again.
                Err(error)
                    if attempt >= LOAD_TRIES_MAX
                        || !errors::passes(&error)
                        || matches!(error, Error::TimedOut { .. }) =>
                {
                    return Err(index_error(&item.ns, error));
                }
                Err(error) => {
                    tracing::warn!(namespace = %item.ns, attempt, %error, "the indexes of {} are built again: {error}", item.ns)
                }
            }
            self.ctx.or_stop(tokio::time::sleep(wait)).await?;
            wait *= 2;
        }
        Err(JobError::failed(format!("the indexes of {} could not be built", item.ns)))
    }
}

fn index_error(ns: &Namespace, error: Error) -> JobError {
    match error {
        Error::TimedOut { .. } => JobError::failed_by(
            format!(
                "the indexes of {ns} could not be built in time; bring the members up, or restore with another indexCommitQuorum or indexDeadlineSeconds"
            ),
            error,
        ),
        error => errors::job_error("building the indexes of", ns, error),
    }
}

/// All lifetimes are put aside while the job runs, so that nothing is deleted between loading and proving.
pub(crate) fn build_options(job: &Restore) -> BuildOptions {
    let commit_quorum = match &job.options.index_commit_quorum {
        None => Quorum::default(),
        Some(CommitQuorum::Members(members)) => Quorum::Members(*members),
        Some(CommitQuorum::Majority) => Quorum::Majority,
        Some(CommitQuorum::VotingMembers) => Quorum::VotingMembers,
    };
    BuildOptions {
        commit_quorum,
        deadline: Some(Duration::from_secs(job.options.index_deadline_seconds)),
        ttl: TtlPolicy::ParkAll,
        ..BuildOptions::default()
    }
}

/// How two contents differ, for people.
pub(crate) fn differing(wanted: &ContentSum, found: &ContentSum) -> String {
    if wanted.documents == found.documents && wanted.bytes == found.bytes {
        return format!("the content hash is {found}, not {wanted}");
    }
    let (documents, bytes) = (wanted.documents, wanted.bytes);
    format!("it holds {} documents of {} bytes, not {documents} of {bytes}", found.documents, found.bytes)
}

/// Counts what a try has loaded, and takes it back when the try fails.
struct Counted<'a> {
    ctx: &'a JobContext,
    documents: u64,
    bytes: u64,
    /// Those of its first documents, where there may be several builds.
    keys: KeyCounts,
}

impl<'a> Counted<'a> {
    fn new(ctx: &'a JobContext) -> Self {
        Self { ctx, documents: 0, bytes: 0, keys: KeyCounts::default() }
    }

    fn add(&mut self, entry: &SegmentEntry) {
        self.documents += entry.documents;
        self.bytes += entry.bytes;
        self.ctx.progress().add(entry.documents, entry.bytes);
    }

    fn keep(mut self) -> KeyCounts {
        (self.documents, self.bytes) = (0, 0);
        std::mem::take(&mut self.keys)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // The counters wrap, so adding the complement takes away.
        self.ctx.progress().add(self.documents.wrapping_neg(), self.bytes.wrapping_neg());
    }
}
