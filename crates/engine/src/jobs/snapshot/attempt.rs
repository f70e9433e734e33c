//! One attempt to read everything at one cluster time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use mongo::{CollectionInfo, Namespace, listing::Pinned, read::Size};
use tokio_util::task::AbortOnDropHandle;
use vault::{ManifestHeader, ManifestWriter, Principals};

use super::{
    collection::{self, CollectionRead, Reading, SPARE_LISTS},
    guard::{Guard, Hit, Read},
    principals,
    sorted::SPLIT_BYTES_MIN,
    source::{ReadError, Source},
};
use crate::{
    connect::{Connected, to_model},
    crash,
    fold::Kept,
    lease::{JobContext, JobError},
    pipeline::{Pinner, SegmentStore},
};

/// Why an attempt did not succeed.
pub(super) enum Again {
    /// Another attempt at a later time may.
    Later(Why),
    /// None will, or the job must stop.
    Stop(JobError),
}

/// What ended an attempt.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) namespace: Namespace,
    pub(super) cause: String,
    /// The history window was too short.
    pub(super) too_old: bool,
    /// The deployment is in trouble, such as an election, and needs a while.
    pub(super) needs_time: bool,
    /// How long the attempt had been reading.
    pub(super) after: Duration,
}

impl Why {
    /// A read that does not count, in an attempt that began then.
    pub(super) fn of(hit: Hit, began: Instant) -> Self {
        let Hit { namespace, cause, needs_time } = hit;
        Self { namespace, cause, too_old: false, needs_time, after: began.elapsed() }
    }
}

impl From<JobError> for Again {
    fn from(error: JobError) -> Self {
        Self::Stop(error)
    }
}

/// What an attempt had when the history was gone at its time: read, proven and durable.
pub(super) struct Begun {
    /// The time.
    pub(super) at: model::ClusterTime,
    pub(super) manifest: ManifestWriter,
    pub(super) pinner: Pinner,
    pub(super) principals: Principals,
    /// Everything that was there then, views included.
    pub(super) listed: Vec<CollectionInfo>,
    /// Those of it that were read.
    pub(super) done: Vec<CollectionRead>,
}

/// Everything, read at one time or folded to one, and durable but for the manifest.
pub(super) struct Everything {
    pub(super) manifest: ManifestWriter,
    pub(super) pinner: Pinner,
    pub(super) at: model::ClusterTime,
    /// By namespace, views included.
    pub(super) collections: Vec<CollectionRead>,
    pub(super) excluded: Vec<(Namespace, String)>,
    pub(super) principals: Principals,
    /// What has changed since the times of the segments.
    pub(super) kept: Kept,
}

pub(super) struct Attempt<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) connected: &'a Connected,
    pub(super) store: &'a SegmentStore,
    /// What the manifest says of the snapshot, but for the time.
    pub(super) header: &'a ManifestHeader,
    /// Size of the deployment's cache.
    pub(super) cache_bytes: u64,
    /// DDL has hit these before, so they are read first.
    pub(super) hot: &'a [Namespace],
}

impl Attempt<'_> {
    /// Reads everything. When the history is gone under the read, `begun` gets what there is by then.
    pub(super) async fn run(
        &self,
        sizes: &mut HashMap<Namespace, Size>,
        begun: &mut Option<Begun>,
    ) -> Result<Everything, Again> {
        let ctx = self.ctx;
        let deployment = &self.connected.deployment;
        let (term, pinned) = self.list().await?.map_err(not_listed)?;
        let began = Instant::now();
        let at = to_model(pinned.at);
        tracing::info!(cluster_time = %at, collections = pinned.collections.len(), "reading {} collections at cluster time {at}", pinned.collections.len());
        ctx.services().probe("snapshot.pinned", "").await;
        crash::point("snapshot.pinned");

        let source = Arc::new(Source::new(deployment, term, pinned.at, self.cache_bytes));
        let listed = pinned.collections.clone();
        let (with_documents, views) =
            pinned.collections.into_iter().partition::<Vec<_>, _>(|info| info.kind.has_documents());
        let learnt = ctx.or_stop(collection::learn_sizes(&source, &with_documents, sizes)).await?;
        learnt.map_err(|error| later(Namespace::new("admin", "$cmd.collStats"), error, began))?;
        let sized = |info: CollectionInfo| {
            let size = sizes.get(&info.namespace).copied().unwrap_or_default();
            (info, size)
        };
        let planned: Vec<(CollectionInfo, Size)> = with_documents.into_iter().map(sized).collect();
        self.set_totals(&planned);
        let planned = self.in_order(planned);
        let pinner = Pinner::new(self.store);
        let header = ManifestHeader { cluster_time: at, ..self.header.clone() };
        let manifest = ManifestWriter::new(ctx.vault(), header, Arc::new(pinner.clone()));

        ctx.progress().phase("read");
        let principals = principals::read(ctx, &source)
            .await
            .map_err(|(namespace, error)| sort_out(namespace, error, began))?;
        let mut done = Vec::with_capacity(planned.len());
        if let Err(again) = self.read_all(&source, planned, &manifest, began, &mut done).await {
            if matches!(&again, Again::Later(why) if why.too_old) {
                *begun = Some(Begun { at, manifest, pinner, principals, listed, done });
            }
            return Err(again);
        }
        let mut collections = done;
        collections.extend(views.into_iter().map(|info| CollectionRead::empty(info, at)));
        collections.sort_by(|a, b| a.info.namespace.cmp(&b.info.namespace));
        let (excluded, kept) = (pinned.excluded, Kept::default());
        Ok(Everything { manifest, pinner, at, collections, excluded, principals, kept })
    }

    /// A listing that is true at a time, and the term of the primary by then.
    pub(super) async fn list(&self) -> Result<Result<(i64, Pinned), mongo::Error>, JobError> {
        let deployment = &self.connected.deployment;
        self.ctx.progress().phase("list");
        let listing = async {
            let term = deployment.term().await?;
            Ok((term, mongo::listing::pin(deployment).await?))
        };
        self.ctx.or_stop(listing).await
    }

    /// Reads some collections at a time that was pinned in this term of the primary.
    pub(super) async fn read_some(
        &self,
        term: i64,
        at: mongo::ClusterTime,
        some: Vec<CollectionInfo>,
        manifest: &ManifestWriter,
    ) -> Result<Vec<CollectionRead>, Again> {
        let (ctx, began) = (self.ctx, Instant::now());
        let source = Arc::new(Source::new(&self.connected.deployment, term, at, self.cache_bytes));
        let mut sizes = HashMap::new();
        let learnt = ctx.or_stop(collection::learn_sizes(&source, &some, &mut sizes)).await?;
        learnt.map_err(|error| later(Namespace::new("admin", "$cmd.collStats"), error, began))?;
        let size = |info: &CollectionInfo| sizes.get(&info.namespace).copied().unwrap_or_default();
        let planned = some.into_iter().map(|info| (info.clone(), size(&info))).collect();
        let mut done = Vec::new();
        self.read_all(&source, self.in_order(planned), manifest, began, &mut done).await?;
        Ok(done)
    }

    /// The order in which collections are begun.
    pub(super) fn in_order(&self, mut planned: Vec<(CollectionInfo, Size)>) -> Vec<(CollectionInfo, Size)> {
        planned.sort_by_cached_key(|(info, size)| (self.heat(info), size.bytes, info.namespace.clone()));
        // The largest may have one reader for itself, and would keep everybody waiting if it came last.
        let cold = planned.partition_point(|(info, _)| self.heat(info) < usize::MAX);
        if let Some(rest) = planned.get_mut(cold..).filter(|rest| !rest.is_empty()) {
            rest.rotate_right(1);
        }
        planned
    }

    /// How collections are read at the time of a source.
    pub(super) fn reading(&self, source: &Arc<Source>) -> Reading {
        let tuning = &self.ctx.services().settings.tuning;
        Reading {
            ctx: self.ctx.clone(),
            source: Arc::clone(source),
            store: self.store.clone(),
            split_bytes: tuning.split_bytes.unwrap_or(SPLIT_BYTES_MIN),
            order: tuning.order,
        }
    }

    /// Reads the collections in the order given, some at a time, and looks behind each. When the history goes, those are
    /// `done` that count all the same.
    async fn read_all(
        &self,
        source: &Arc<Source>,
        planned: Vec<(CollectionInfo, Size)>,
        manifest: &ManifestWriter,
        began: Instant,
        done: &mut Vec<CollectionRead>,
    ) -> Result<(), Again> {
        let mut guard = Guard::new(&self.connected.deployment, source.term, source.at);
        let ended = self.read_each(source, planned, manifest, began, &mut guard, done).await;
        if matches!(&ended, Err(Again::Later(why)) if why.too_old) {
            // Those that were not looked behind yet count when nothing is found now, and only then.
            if let Err(error) = self.ctx.or_stop(guard.look()).await? {
                tracing::debug!(error = %error, "what was read last cannot be looked behind: {error}");
            }
            done.truncate(guard.proven());
        }
        ended
    }

    async fn read_each(
        &self,
        source: &Arc<Source>,
        planned: Vec<(CollectionInfo, Size)>,
        manifest: &ManifestWriter,
        began: Instant,
        guard: &mut Guard,
        done: &mut Vec<CollectionRead>,
    ) -> Result<(), Again> {
        let ctx = self.ctx;
        let reading = self.reading(source);
        // What stands first is also begun first, and no more than there are readers are under way.
        let reads =
            planned.into_iter().map(|(info, size)| read_one(reading.clone(), info, size.bytes, manifest));
        let mut reads = stream::iter(reads).buffer_unordered(ctx.services().settings.readers.max(1));
        while let Some((namespace, ended)) = ctx.or_stop(reads.next()).await? {
            let read = ended.map_err(|error| sort_out(namespace, error, began))?;
            ctx.services().probe("snapshot.collection-read", &read.info.namespace.to_string()).await;
            let urgent = self.heat(&read.info) < usize::MAX;
            let behind = Read { namespace: read.info.namespace.clone(), uuid: read.info.uuid };
            done.push(read);
            fail_on(ctx.or_stop(guard.ended(behind, urgent)).await?, began)?;
            ctx.progress().collection_done();
        }
        fail_on(ctx.or_stop(guard.look()).await?, began)
    }

    /// Lower is read earlier: what DDL has hit last comes first.
    fn heat(&self, info: &CollectionInfo) -> usize {
        self.hot.iter().position(|namespace| *namespace == info.namespace).unwrap_or(usize::MAX)
    }

    fn set_totals(&self, planned: &[(CollectionInfo, Size)]) {
        let documents = planned.iter().map(|(_, size)| size.documents).sum();
        let bytes = planned.iter().map(|(_, size)| size.bytes).sum();
        self.ctx.progress().totals(documents, bytes, planned.len() as u64);
    }
}

/// Reads one collection in a task of its own, so that several use several cores.
async fn read_one(
    reading: Reading,
    info: CollectionInfo,
    bytes: u64,
    manifest: &ManifestWriter,
) -> (Namespace, Result<CollectionRead, ReadError>) {
    let namespace = info.namespace.clone();
    let spare = (0..SPARE_LISTS).map(|_| manifest.segment_list()).collect();
    let read = collection::read(reading, info, bytes, manifest.segment_list(), spare);
    let task = AbortOnDropHandle::new(tokio::spawn(read));
    let panicked =
        |e| Err(JobError::failed_by("a bug in Ebbtide stopped the reading of a collection", e).into());
    (namespace, task.await.unwrap_or_else(panicked))
}

/// A read that DDL has falsified ends the attempt; so does a deployment that cannot be asked about it.
fn fail_on(looked: Result<Option<Hit>, mongo::Error>, began: Instant) -> Result<(), Again> {
    match looked {
        Ok(None) => Ok(()),
        Ok(Some(hit)) => Err(Again::Later(Why::of(hit, began))),
        Err(error) => Err(later(Namespace::new("local", "oplog.rs"), error, began)),
    }
}

/// What becomes of an attempt when the deployment cannot be listed.
pub(super) fn not_listed(error: mongo::Error) -> Again {
    later(Namespace::new("admin", "$cmd.listCollections"), error, Instant::now())
}

/// What becomes of an attempt that began then, once the read of a collection has ended like that.
pub(super) fn sort_out(namespace: Namespace, error: ReadError, began: Instant) -> Again {
    match error {
        ReadError::Job(error) => Again::Stop(error),
        ReadError::OutOfOrder => {
            Again::Stop(JobError::failed(format!("{namespace}: the server gave the same _id twice")))
        }
        ReadError::Mongo(error) => later(namespace, error, began),
        ReadError::Falsified(hit) => Again::Later(Why::of(hit, began)),
        ReadError::LongKeys => {
            Again::Stop(JobError::failed(format!("{namespace}: its _ids are too long to be sorted")))
        }
    }
}

/// Whether a later attempt may do what this one could not.
pub(super) fn later(namespace: Namespace, error: mongo::Error, began: Instant) -> Again {
    use mongo::Error as E;
    let too_old = matches!(error, E::SnapshotTooOld { .. });
    let gone = matches!(
        error,
        E::SnapshotUnavailable { .. } | E::NamespaceNotFound(_) | E::Unstable { .. } | E::OplogGap { .. }
    );
    let needs_time = error.is_transient() && !matches!(error, E::CursorLost { .. });
    if too_old || gone || error.is_transient() {
        Again::Later(Why { namespace, cause: error.to_string(), too_old, needs_time, after: began.elapsed() })
    } else {
        Again::Stop(JobError::failed_by(format!("{namespace} cannot be read"), error))
    }
}
