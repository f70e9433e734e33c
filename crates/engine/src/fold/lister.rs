//! The segments of one collection as a fold lists them: kept ones by reference, new ones when they are durable.

use std::collections::VecDeque;

use futures::TryStreamExt as _;
use model::ClusterTime;
use tokio_util::task::AbortOnDropHandle;
use vault::{
    CollectionEntry, Manifest, ObjectName, PageRef, SegmentBuilder, SegmentEntry, SegmentList, SegmentPages,
};

use super::{Counters, FoldFailure};
use crate::{
    lease::JobError,
    pipeline::{FullSegment, Pending, SegmentStore},
};

/// Objects are pinned so many at a time.
const PIN_AT_A_TIME: usize = 256;
/// So many segments wait for one before them that is not durable yet.
const WAITING_MAX: usize = 1024;

enum Listed {
    Kept(SegmentEntry),
    New(Pending),
}

/// Lists segments in the order of their collection.
pub(super) struct Lister {
    store: SegmentStore,
    at: ClusterTime,
    list: SegmentList,
    /// Kept segments that the catalog was not told of yet.
    unpinned: Vec<SegmentEntry>,
    waiting: VecDeque<Listed>,
    is_empty: bool,
    counters: Counters,
}

impl Lister {
    pub(super) fn new(store: &SegmentStore, at: ClusterTime, list: SegmentList) -> Self {
        Self {
            store: store.clone(),
            at,
            list,
            unpinned: Vec::new(),
            waiting: VecDeque::new(),
            is_empty: true,
            counters: Counters::default(),
        }
    }

    /// Whether nothing is listed yet, or waits for it.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Lists a segment of the base, which is the collection's between its keys at the time of the fold as well.
    pub(super) async fn keep(&mut self, entry: SegmentEntry) -> Result<(), FoldFailure> {
        self.keep_older(SegmentEntry { as_of: self.at, ..entry }).await
    }

    /// Lists a segment of the base beside which changes are kept: its documents are of its own time.
    pub(super) async fn keep_older(&mut self, entry: SegmentEntry) -> Result<(), FoldFailure> {
        self.is_empty = false;
        self.unpinned.push(entry);
        if self.unpinned.len() >= PIN_AT_A_TIME { self.pin().await } else { Ok(()) }
    }

    /// Stores a new segment and lists it.
    pub(super) async fn submit(&mut self, full: SegmentBuilder) -> Result<(), FoldFailure> {
        let pending = self.store.submit(full, self.at).await?;
        self.list_new(pending).await
    }

    /// The same for one that has room on its way already.
    pub(super) async fn submit_full(&mut self, full: FullSegment) -> Result<(), FoldFailure> {
        let pending = self.store.submit_full(full, self.at);
        self.list_new(pending).await
    }

    async fn list_new(&mut self, pending: Pending) -> Result<(), FoldFailure> {
        self.is_empty = false;
        self.pin().await?;
        self.counters.segments_new += 1;
        self.waiting.push_back(Listed::New(pending));
        self.settle(WAITING_MAX).await
    }

    async fn pin(&mut self) -> Result<(), FoldFailure> {
        let names: Vec<_> = self.unpinned.iter().map(|entry| entry.name).collect();
        pin_all(&self.store, &names).await?;
        self.counters.segments_kept += names.len() as u64;
        self.waiting.extend(self.unpinned.drain(..).map(Listed::Kept));
        self.settle(WAITING_MAX).await
    }

    /// Lists what is durable, and waits as long as more than so many wait.
    async fn settle(&mut self, waiting_max: usize) -> Result<(), FoldFailure> {
        while let Some(first) = self.waiting.pop_front() {
            let entry = match first {
                Listed::New(pending) if !pending.is_done() && self.waiting.len() < waiting_max => {
                    self.waiting.push_front(Listed::New(pending));
                    return Ok(());
                }
                Listed::New(pending) => pending.entry().await?,
                Listed::Kept(entry) => entry,
            };
            self.store.ctx().progress().add(entry.documents, entry.bytes);
            self.list.push(&entry).await.map_err(JobError::from)?;
        }
        Ok(())
    }

    /// Adds to what is told of the work.
    pub(super) fn count(&mut self, counters: Counters) {
        self.counters = self.counters.and(counters);
    }

    /// Finishes the list while others go on: what it waits for is stored by now or on its way.
    pub(super) fn finish(self) -> Listing {
        Listing(Work::Task(AbortOnDropHandle::new(tokio::spawn(self.finished()))))
    }

    async fn finished(mut self) -> Result<(SegmentPages, Counters), FoldFailure> {
        self.pin().await?;
        self.settle(0).await?;
        let pages = self.list.finish().await.map_err(JobError::from)?;
        Ok((pages, self.counters))
    }
}

/// The list of a collection in the making. Dropped, it stops.
pub(super) struct Listing(Work);

enum Work {
    Done(SegmentPages, Counters),
    Task(AbortOnDropHandle<Result<(SegmentPages, Counters), FoldFailure>>),
}

impl Listing {
    /// The list, once everything in it is durable, and what was done for it.
    pub(super) async fn pages(self) -> Result<(SegmentPages, Counters), FoldFailure> {
        match self.0 {
            Work::Done(pages, counters) => Ok((pages, counters)),
            Work::Task(task) => task
                .await
                .map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the listing of segments", e))?,
        }
    }
}

/// Pins objects of the base for the job. All of them have to be there: nothing else has their content.
pub(super) async fn pin_all(store: &SegmentStore, names: &[ObjectName]) -> Result<(), FoldFailure> {
    if names.is_empty() {
        return Ok(());
    }
    let stored = store.pinned(names).await?;
    match names.iter().find(|name| !stored.contains(name)) {
        None => Ok(()),
        Some(&missing) => {
            Err(FoldFailure::damaged(missing, "the catalog has it as damaged, or not at all; run verify"))
        }
    }
}

/// The list of a collection whose documents did not change: the pages of the base. None when they tell of another time
/// than their references do, as those of capped collections may.
pub(super) async fn reuse(
    store: &SegmentStore,
    base: &Manifest,
    entry: &CollectionEntry,
    at: ClusterTime,
) -> Result<Option<Listing>, FoldFailure> {
    let ctx = store.ctx();
    let names: Vec<_> = entry.segment_pages.iter().map(|page| page.name).collect();
    pin_all(store, &names).await?;
    let mut page_bytes = 0;
    for name in names {
        match ctx.or_stop(ctx.vault().stored_bytes(&name)).await? {
            Ok(Some(bytes)) => page_bytes += bytes,
            Ok(None) => return Err(FoldFailure::damaged(name, "it is missing in the vault")),
            Err(error) => return Err(FoldFailure::of_base(ctx, error).await),
        }
    }
    // The segments have to be pinned one by one: the snapshot that is the base may be deleted any time.
    let mut segments = base.segments(entry).try_chunks(PIN_AT_A_TIME);
    let mut counters = Counters::default();
    let as_of: Vec<_> = entry.segment_pages.iter().map(|page| page.as_of).collect();
    loop {
        let chunk = match ctx.or_stop(segments.try_next()).await? {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Err(FoldFailure::of_base(ctx, error.1).await),
        };
        if chunk.iter().any(|segment| as_of.iter().any(|as_of| *as_of != segment.as_of)) {
            return Ok(None);
        }
        let names: Vec<_> = chunk.iter().map(|segment| segment.name).collect();
        pin_all(store, &names).await?;
        counters.segments_kept += names.len() as u64;
    }
    ctx.progress().add(entry.documents, entry.bytes);
    let pages = entry.segment_pages.iter().map(|page| PageRef { as_of: at, ..*page }).collect();
    let pages = SegmentPages {
        pages,
        segments: entry.segments,
        content: entry.content,
        stored_bytes: entry.stored_bytes,
        page_bytes,
    };
    Ok(Some(Listing(Work::Done(pages, counters))))
}
