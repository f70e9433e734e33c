//! From a full segment to a durable one.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use catalog::StoredObject;
use model::ClusterTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use vault::{DeltaBuilder, DeltaEntry, Hands, ObjectName, SegmentBuilder, SegmentEntry};

use super::FullSegment;
use crate::{
    crash,
    lease::{JobContext, JobError},
};

/// How often a job asks again whether the collector has finished deleting what it wants to write.
const DELETING_POLL: Duration = Duration::from_millis(200);

/// Stores segments of one job. Cheap to clone.
#[derive(Clone)]
pub struct SegmentStore {
    ctx: JobContext,
    added: Arc<AtomicU64>,
}

/// Room for one segment on its way, until it is dropped.
pub(super) struct Room(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// A segment or a delta on its way; the entry comes when it is durable. Dropped, it stops.
pub struct Pending<T = SegmentEntry> {
    task: AbortOnDropHandle<Result<T, JobError>>,
}

impl<T> Pending<T> {
    /// Waits until it is durable.
    ///
    /// # Errors
    /// What the vault or the catalog said.
    pub async fn entry(self) -> Result<T, JobError> {
        self.task
            .await
            .map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the storing of a segment", e))?
    }

    /// Whether waiting would end at once.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }
}

impl SegmentStore {
    /// A store for the job.
    pub fn new(ctx: &JobContext) -> Self {
        Self { ctx: ctx.clone(), added: Arc::new(AtomicU64::new(0)) }
    }

    /// The job that it stores for.
    pub fn ctx(&self) -> &JobContext {
        &self.ctx
    }

    /// Bytes added to the vault so far.
    pub fn added_bytes(&self) -> u64 {
        self.added.load(Relaxed)
    }

    /// Counts bytes added by others, such as pages of the manifest.
    pub fn add_bytes(&self, bytes: u64) {
        self.added.fetch_add(bytes, Relaxed);
    }

    /// Hands a full segment over. Waits while too many are on their way; that is what bounds the memory.
    ///
    /// # Errors
    /// When the job must stop.
    pub async fn submit(&self, builder: SegmentBuilder, as_of: ClusterTime) -> Result<Pending, JobError> {
        let room = self.room().await?;
        Ok(self.submit_full(FullSegment { builder, room }, as_of))
    }

    /// The same for one that has room already.
    pub(crate) fn submit_full(&self, full: FullSegment, as_of: ClusterTime) -> Pending {
        let store = self.clone();
        let task = tokio::spawn(async move { store.store(full, as_of).await });
        Pending { task: AbortOnDropHandle::new(task) }
    }

    async fn store(&self, full: FullSegment, as_of: ClusterTime) -> Result<SegmentEntry, JobError> {
        let FullSegment { builder, room: until_sealed } = full;
        let budget = &self.ctx.services().budget;
        let (vault, processors, buffers) = (self.ctx.vault(), &budget.processors, &budget.buffers);
        let hashing = vault.clone();
        let draft = on_processor(processors, move || builder.finish(&hashing)).await??;
        let name = draft.entry.name;
        let mut entry = draft.entry.clone();
        entry.as_of = as_of;
        // Known and still there: the collector cannot take it from under a pin. One that was cut short is stored anew.
        if self.pinned(&[name]).await?.contains(&name) {
            if let Some(bytes) = vault.whole_segment(&name).await? {
                entry.stored_bytes = bytes;
                buffers.give(draft.into_buffer());
                return Ok(entry);
            }
            tracing::warn!(%name, "{name} is missing in the vault, or damaged; it is stored anew");
        }
        let sealing = vault.clone();
        let reused = Arc::clone(buffers);
        let sealed = on_processors(processors, move |hands| {
            let sealed = draft.seal_with(&sealing, hands);
            reused.give(draft.into_buffer());
            sealed
        });
        let sealed = sealed.await??;
        let putting = self.ctx.or_stop(Arc::clone(&budget.puts).acquire_owned()).await?;
        let _until_durable = putting.map_err(|_| JobError::Shutdown)?;
        drop(until_sealed);
        crash::point("snapshot.before-segment");
        entry.stored_bytes = vault.put(&sealed).await?;
        crash::point("snapshot.after-segment");
        let stored = StoredObject {
            name: name.to_string(),
            kind: name.kind.as_str().to_owned(),
            stored_bytes: entry.stored_bytes,
        };
        self.ctx.catalog().objects().stored(self.ctx.lease(), &[stored]).await?;
        self.added.fetch_add(entry.stored_bytes, Relaxed);
        Ok(entry)
    }

    /// Waits until one more may be on its way.
    ///
    /// # Errors
    /// When the job must stop.
    pub(super) async fn room(&self) -> Result<Room, JobError> {
        let room = Arc::clone(&self.ctx.services().budget.segments).acquire_owned();
        self.ctx.or_stop(room).await?.map(Room).map_err(|_| JobError::Shutdown)
    }

    /// Hands a delta over, as [`SegmentStore::submit`] does a segment.
    ///
    /// # Errors
    /// When the job must stop.
    pub async fn submit_delta(&self, builder: DeltaBuilder) -> Result<Pending<DeltaEntry>, JobError> {
        let (room, store) = (self.room().await?, self.clone());
        let task = tokio::spawn(async move { store.store_delta(builder, room).await });
        Ok(Pending { task: AbortOnDropHandle::new(task) })
    }

    /// Stores a delta, unless it is there.
    async fn store_delta(&self, builder: DeltaBuilder, _until_durable: Room) -> Result<DeltaEntry, JobError> {
        let vault = self.ctx.vault();
        let sealing = vault.clone();
        let processors = &self.ctx.services().budget.processors;
        let sealed = on_processors(processors, move |hands| builder.seal_with(&sealing, hands)).await??;
        let name = sealed.entry.name;
        let is_whole = self.pinned(&[name]).await?.contains(&name)
            && vault.stored_bytes(&name).await? == Some(sealed.entry.stored_bytes);
        if is_whole {
            return Ok(sealed.entry);
        }
        crash::point("fold.snapshot-before-delta");
        let stored_bytes = vault.put(&sealed.object).await?;
        crash::point("fold.snapshot-after-delta");
        let stored =
            StoredObject { name: name.to_string(), kind: name.kind.as_str().to_owned(), stored_bytes };
        self.ctx.catalog().objects().stored(self.ctx.lease(), &[stored]).await?;
        self.added.fetch_add(stored_bytes, Relaxed);
        Ok(DeltaEntry { stored_bytes, ..sealed.entry })
    }

    /// Pins objects for the job and tells which of them are durable already. Waits for deletes under way to end.
    ///
    /// # Errors
    /// [`JobError::Lost`], or what the catalog says.
    pub async fn pinned(&self, names: &[ObjectName]) -> Result<HashSet<ObjectName>, JobError> {
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        loop {
            let report = self.ctx.catalog().objects().pin(self.ctx.lease(), &texts).await?;
            if report.deleting.is_empty() {
                return Ok(names
                    .iter()
                    .filter(|name| report.stored.contains(&name.to_string()))
                    .copied()
                    .collect());
            }
            self.ctx.or_stop(tokio::time::sleep(DELETING_POLL)).await?;
        }
    }
}

/// Runs work that needs a processor and no waiting, on the threads made for that, no more at a time than cores.
///
/// # Errors
/// When the work panicked, or the process shuts down.
pub async fn on_processor<T: Send + 'static>(
    processors: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    let permit = Arc::clone(processors).acquire_owned().await.map_err(|_| JobError::Shutdown)?;
    let done = tokio::task::spawn_blocking(move || {
        let _while_working = permit;
        work()
    });
    done.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a computation", e))
}

/// The same for work that two can share. The second processor is one that nobody wants at that moment: where there is much
/// to do each has work of its own, and at the end of it nobody waits for one.
///
/// # Errors
/// As [`on_processor`].
pub async fn on_processors<T: Send + 'static>(
    processors: &Arc<Semaphore>,
    work: impl FnOnce(Hands) -> T + Send + 'static,
) -> Result<T, JobError> {
    let others = Arc::clone(processors);
    on_processor(processors, move || {
        let second = others.try_acquire();
        work(if second.is_ok() { Hands::Two } else { Hands::One })
    })
    .await
}
