//! A sorted collection whose documents changed: segments that no change touches are kept by reference, the others are
//! read, folded and cut anew, so that the list is the one that a fresh snapshot of the same documents has.
//!
//! Where the cutter ends a segment is decided by the documents since the cut before, and by the next one. So from a cut
//! that is one of the base as well, with unchanged documents behind it, all cuts are those of the base. A segment is
//! kept when a cut stands before it, no change is within it, and none is before or at the first document of the
//! next one, which decides whether it ends there. Everything else goes through the cutter until it cuts before the
//! unchanged first document of a segment.
//!
//! Where changes may be kept beside segments ([`Keeping`]), a segment before which a cut stands and in which little changes is
//! kept as well, as of its own time. It owns all keys up to the first one of the next segment, and the first segment those before
//! it as well. A run that stays may hold older changes of a stretch that a new segment has outlived: that stretch must not
//! become the part of a segment that is kept as of its own time, where they would count again. So none is where the
//! next one may begin later than before, as its first document goes, and none where it comes to be the first one.

use bytes::Bytes;
use futures::{TryStreamExt as _, stream::BoxStream};
use history::{ClusterTime, CollectionId, key::push_document_key, raw};
use vault::{Order, SegmentEntry, SegmentList};

use super::{
    Counters, FoldFailure, Obstacle,
    delta::{ApplyError, SortedChanges},
    failure::Ended,
    lister::{Lister, Listing},
    of_model,
    runs::{self, Keeping},
};
use crate::{
    lease::JobError,
    pipeline::{Giver, OutOfOrder, SegmentStore, Segmenter, handover},
};

/// The segments of a collection in the base.
pub(super) type Segments = BoxStream<'static, vault::Result<SegmentEntry>>;

/// From when to when is folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The time of the base.
    pub(super) base_at: model::ClusterTime,
    /// The time of the fold.
    pub(super) at: model::ClusterTime,
}

/// Folds the changes of one collection into its segments, or keeps some beside them. The changes are those of all collections from this one on;
/// they are given back, however it ends, unless the job does.
pub(super) async fn rewrite(
    store: &SegmentStore,
    id: CollectionId,
    segments: Segments,
    changes: &mut Option<SortedChanges>,
    list: SegmentList,
    span: Span,
    keeping: Option<&mut Keeping<'_>>,
) -> Result<Listing, Ended> {
    let _reader = store.ctx().reader().await?;
    let lister = Lister::new(store, span.at, list);
    let base_at = of_model(span.base_at);
    let mut rewriting =
        Rewriting { store, id, base_at, changes, keeping, lister, counters: Counters::default() };
    rewriting.run(segments).await?;
    let Rewriting { mut lister, counters, .. } = rewriting;
    lister.count(counters);
    Ok(lister.finish())
}

struct Rewriting<'a, 'k> {
    store: &'a SegmentStore,
    id: CollectionId,
    base_at: ClusterTime,
    changes: &'a mut Option<SortedChanges>,
    keeping: Option<&'a mut Keeping<'k>>,
    lister: Lister,
    counters: Counters,
}

impl Rewriting<'_, '_> {
    async fn run(&mut self, mut segments: Segments) -> Result<(), Ended> {
        // What is being cut; none when the cutter cuts before the next segment of the base.
        let mut open: Option<Segmenter> = None;
        let mut is_any_folded = false;
        let mut current = self.next(&mut segments).await?;
        if current.is_none() {
            open = Some(self.fold(self.segmenter(), None, None).await?);
        }
        while let Some(entry) = current {
            let following = self.next(&mut segments).await?;
            let bound = following.as_ref().map(|following| following.first_key.clone());
            if let Some(segmenter) = &open
                && self.is_unchanged_at(&entry.first_key)
                && (segmenter.is_empty() || self.is_cut_before(segmenter, &entry).await?)
            {
                self.end(open.take()).await?;
            }
            if open.is_none() && !self.is_touched(bound.as_deref()) {
                self.lister.keep(entry).await?;
            } else if open.is_none()
                && !(is_any_folded && self.lister.is_empty())
                && self.keep_beside(&entry, bound.as_deref()).await?
            {
                // Nothing of it is read.
            } else {
                is_any_folded = true;
                let segmenter = open.take().unwrap_or_else(|| self.segmenter());
                open = Some(self.fold(segmenter, Some(&entry), bound).await?);
            }
            current = following;
        }
        Ok(self.end(open).await?)
    }

    async fn next(&self, segments: &mut Segments) -> Result<Option<SegmentEntry>, FoldFailure> {
        match self.store.ctx().or_stop(segments.try_next()).await? {
            Ok(next) => Ok(next),
            Err(error) => Err(FoldFailure::of_base(self.store.ctx(), error).await),
        }
    }

    fn segmenter(&self) -> Segmenter {
        Segmenter::new(Order::Sorted, &self.store.ctx().services().budget.buffers)
    }

    fn next_change(&self) -> Option<&[u8]> {
        self.changes.as_ref()?.key_in(self.id)
    }

    /// Whether the next document is the one of this key, as it was. Changes before it are done.
    fn is_unchanged_at(&self, key: &[u8]) -> bool {
        self.next_change().is_none_or(|change| change > key)
    }

    /// Whether a change is in the segment at hand, or decides where it ends; `bound` is the first key of the next one.
    fn is_touched(&self, bound: Option<&[u8]>) -> bool {
        self.next_change().is_some_and(|change| bound.is_none_or(|bound| change <= bound))
    }

    /// Keeps what little has changed in a segment beside it. Tells whether it was little, and may be kept.
    async fn keep_beside(&mut self, entry: &SegmentEntry, bound: Option<&[u8]>) -> Result<bool, Ended> {
        if self.keeping.is_none() {
            return Ok(false);
        }
        let (id, as_of, bytes_max) = (self.id, of_model(entry.as_of), entry.bytes / runs::SHARE);
        let bound = bound.map(<[u8]>::to_vec);
        let mut changes = self.take_changes()?;
        // It reads from disk, and from the vault.
        let work = tokio::task::spawn_blocking(move || {
            let few = take_few(&mut changes, id, bound.as_deref(), as_of, bytes_max);
            (changes, few)
        });
        let (changes, few) =
            work.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a fold", e))?;
        *self.changes = Some(changes);
        let few = match few {
            Ok(Some(few)) => few,
            Ok(None) => return Ok(false),
            Err(ApplyError::Defect { key, defect }) => {
                return Err(Ended::Obstacle(Obstacle::Document { key, defect }));
            }
            Err(ApplyError::Job(error)) => return Err(error.into()),
        };
        if few.is_empty() {
            self.lister.keep(entry.clone()).await?;
            return Ok(true);
        }
        self.counters.documents_kept_beside += few.len() as u64;
        self.lister.keep_older(entry.clone()).await?;
        if let Some(keeping) = &mut self.keeping {
            keeping.keep(id, few).await?;
        }
        Ok(true)
    }

    fn take_changes(&mut self) -> Result<SortedChanges, JobError> {
        let changes = self.changes.take();
        changes.ok_or_else(|| JobError::failed("a bug in Ebbtide lost the changes of a fold"))
    }

    /// Whether the cutter cuts before the first document of a segment.
    async fn is_cut_before(&mut self, open: &Segmenter, entry: &SegmentEntry) -> Result<bool, FoldFailure> {
        let ctx = self.store.ctx();
        let first = ctx.or_stop(ctx.vault().read_document(entry, &entry.first_key)).await?;
        match first {
            Ok(Some(document)) => Ok(open.ends_before(&entry.first_key, document.len())),
            Ok(None) => {
                Err(FoldFailure::damaged(entry.name, "its first document is not what the manifest says"))
            }
            Err(error) => Err(FoldFailure::of_base(ctx, error).await),
        }
    }

    async fn end(&mut self, open: Option<Segmenter>) -> Result<(), FoldFailure> {
        match open.and_then(|mut segmenter| segmenter.finish()) {
            Some(last) => self.lister.submit(last).await,
            None => Ok(()),
        }
    }

    /// Folds one segment, or an empty base, with the changes before `bound`.
    async fn fold(
        &mut self,
        segmenter: Segmenter,
        entry: Option<&SegmentEntry>,
        bound: Option<Vec<u8>>,
    ) -> Result<Segmenter, Ended> {
        let ctx = self.store.ctx();
        let documents = match entry {
            None => Bytes::new(),
            Some(entry) => {
                self.counters.bytes_read += entry.stored_bytes;
                match ctx.or_stop(ctx.vault().read_segment(entry)).await? {
                    Ok(segment) => segment.into_bytes(),
                    Err(error) => return Err(FoldFailure::of_base(ctx, error).await.into()),
                }
            }
        };
        let changes = self.take_changes()?;
        // Of an empty collection everything is there, of its base's time.
        let through = entry.map_or(self.base_at, |entry| of_model(entry.as_of));
        let (giver, mut full) = handover(self.store);
        let mut folding = Folding { id: self.id, bound, through, changes, segmenter, giver };
        // It waits for the disk, for room and for the receiver: it must not hold one.
        let work = tokio::task::spawn_blocking(move || {
            let ended = folding.run(&documents);
            (folding.changes, folding.segmenter, ended)
        });
        while let Some(full) = ctx.or_stop(full.recv()).await? {
            self.lister.submit_full(full).await?;
        }
        let bug = |e| JobError::failed_by("a bug in Ebbtide stopped a fold", e);
        let (changes, segmenter, ended) = work.await.map_err(bug)?;
        *self.changes = Some(changes);
        match (ended, entry) {
            (Ok(()), _) => Ok(segmenter),
            (Err(Stopped::Obstacle(obstacle)), _) => Err(Ended::Obstacle(obstacle)),
            (Err(Stopped::Base(what)), Some(entry)) => Err(FoldFailure::damaged(entry.name, what).into()),
            (Err(Stopped::Base(what)), None) => {
                Err(JobError::failed(format!("a bug in Ebbtide: nothing was folded: {what}")).into())
            }
            (Err(Stopped::Job(error)), _) => Err(error.into()),
        }
    }
}

/// Takes the changes of a segment that is to be kept as of its own time; none where they are too many, or where the next segment,
/// which begins with `bound`, may come to begin later.
fn take_few(
    changes: &mut SortedChanges,
    id: CollectionId,
    bound: Option<&[u8]>,
    as_of: ClusterTime,
    bytes_max: u64,
) -> Result<Option<Vec<runs::Rest>>, ApplyError> {
    let Some(few) = changes.take_few(id, bound, as_of, bytes_max)? else { return Ok(None) };
    let goes = |bound| changes.deletes(id, bound);
    if !few.is_empty() && bound.map_or(Ok(false), goes)? {
        changes.put_back(id, few);
        return Ok(None);
    }
    Ok(Some(few))
}

/// Why the fold of one segment stopped.
enum Stopped {
    Obstacle(Obstacle),
    /// The documents of the base are not what they should be.
    Base(String),
    Job(JobError),
}

impl From<JobError> for Stopped {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<OutOfOrder> for Stopped {
    fn from(_: OutOfOrder) -> Self {
        Self::Base("its documents are not in the order of their keys".to_owned())
    }
}

impl From<history::Malformed> for Stopped {
    fn from(error: history::Malformed) -> Self {
        Self::Base(error.to_string())
    }
}

impl From<ApplyError> for Stopped {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Defect { key, defect } => Self::Obstacle(Obstacle::Document { key, defect }),
            ApplyError::Job(error) => Self::Job(error),
        }
    }
}

/// The fold of one segment: a merge of its documents with the changes.
struct Folding {
    id: CollectionId,
    bound: Option<Vec<u8>>,
    /// Changes up to then are in the segment.
    through: ClusterTime,
    changes: SortedChanges,
    segmenter: Segmenter,
    giver: Giver,
}

impl Folding {
    fn run(&mut self, documents: &[u8]) -> Result<(), Stopped> {
        let mut key = Vec::new();
        for document in raw::documents(documents) {
            let document = document?;
            key.clear();
            push_document_key(&mut key, document)?;
            while self.next_change()?.is_some_and(|change| change < key.as_slice()) {
                self.change(None)?;
            }
            if self.next_change()? == Some(key.as_slice()) {
                self.change(Some(document))?;
            } else {
                self.offer(&key, document)?;
            }
        }
        while self.next_change()?.is_some() {
            self.change(None)?;
        }
        Ok(())
    }

    /// The key of the next change that is to be folded now.
    fn next_change(&mut self) -> Result<Option<&[u8]>, JobError> {
        let bound = self.bound.as_deref();
        self.changes.pass(self.id, bound, self.through)?;
        let key = self.changes.key_in(self.id);
        Ok(key.filter(|key| bound.is_none_or(|bound| *key < bound)))
    }

    fn change(&mut self, before: Option<&[u8]>) -> Result<(), Stopped> {
        match self.changes.apply_next(before)? {
            Some((key, Some(after))) => self.offer(key.as_bytes(), &after),
            _ => Ok(()),
        }
    }

    fn offer(&mut self, key: &[u8], document: &[u8]) -> Result<(), Stopped> {
        match self.segmenter.offer(key, document)? {
            Some(full) => Ok(self.giver.give(full)?),
            None => Ok(()),
        }
    }
}
