//! From a record to differences: each document that was written to is looked up as it was, in the vault, and the record
//! tells what it is now. Only the blocks are read that may hold one of them.

use std::{collections::VecDeque, sync::Arc};

use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesOrdered},
};
use history::{CollectionId, SortKey, change::Outcome};
use mongo::write::documents::can_be_named;
use tokio::sync::OwnedSemaphorePermit;
use vault::{Manifest, SegmentEntry};

use super::{
    super::source::Item,
    decision::id_of,
    differences::{Difference, Differences, Writer},
    known::{KnownDocuments, Was},
};
use crate::{
    damage,
    fold::{
        changed::{Changed, ChangedDocument},
        runs::{Beside, Pending, behind},
    },
    lease::{JobContext, JobError},
    spill::SpillWriter,
};

/// Segments that are searched at a time.
const SEARCHES_MAX: usize = 4;
/// Changes that are held for one search.
const SEARCH_BYTES: usize = 1 << 20;

/// Why a collection cannot stay, in words.
pub(super) type Refused = String;

/// Finds what is different in one collection. `changed` stands at it, and behind it afterwards, unless it is refused. What is
/// known is not looked up.
pub(super) async fn compare(
    ctx: &JobContext,
    manifest: &Manifest,
    item: &Item,
    known: KnownDocuments,
    changed: &mut Changed,
    spill: &mut SpillWriter,
) -> Result<Result<Differences, Refused>, JobError> {
    let Some(id) = id_of(item) else { return Ok(Err("it has no identity".to_owned())) };
    let beside = match ctx.or_stop(Beside::of(ctx.vault(), manifest)).await? {
        Ok(beside) => Arc::new(beside),
        Err(error) => return Err(damage::noted(ctx.catalog(), error).await),
    };
    let (mut writer, searches) = (Writer::new(spill), FuturesOrdered::new());
    writer.read(known.bytes_read);
    let mut comparing = Comparing { ctx, id, beside, known, changed, writer, searches };
    match comparing.all(manifest, item).await {
        Ok(()) => Ok(Ok(comparing.writer.finish()?)),
        Err(Ended::Refused(reason)) => {
            // What was written of it belongs to nothing.
            comparing.writer.finish()?;
            Ok(Err(reason))
        }
        Err(Ended::Job(error)) => Err(error),
    }
}

enum Ended {
    Refused(Refused),
    Job(JobError),
}

impl<E: Into<JobError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Job(error.into())
    }
}

/// Changed documents, each with what it was.
type Found = Vec<(ChangedDocument, Was)>;

/// What a search has come to, with the permit for the memory that it takes.
struct Searched {
    found: Found,
    read_bytes: u64,
    _permit: OwnedSemaphorePermit,
}

struct Comparing<'a> {
    ctx: &'a JobContext,
    id: CollectionId,
    beside: Arc<Beside>,
    known: KnownDocuments,
    changed: &'a mut Changed,
    writer: Writer<'a>,
    searches: FuturesOrdered<BoxFuture<'static, Result<Searched, Ended>>>,
}

impl Comparing<'_> {
    async fn all(&mut self, manifest: &Manifest, item: &Item) -> Result<(), Ended> {
        let mut segments = manifest.segments(&item.entry);
        let mut current = next(self.ctx, &mut segments).await?;
        while let Some(segment) = current {
            let following = next(self.ctx, &mut segments).await?;
            let bound = following.as_ref().map(|following| following.first_key.clone());
            self.below(Some(segment), bound).await?;
            current = following;
        }
        // Of a collection that was empty.
        self.below(None, None).await?;
        while !self.searches.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Everything that changed below `bound` was in this segment, if anywhere.
    async fn below(&mut self, segment: Option<SegmentEntry>, bound: Option<Vec<u8>>) -> Result<(), Ended> {
        loop {
            let next = self.changed.next_key(self.id);
            if next.is_none_or(|next| bound.as_deref().is_some_and(|bound| next >= bound)) {
                return Ok(());
            }
            let changes = self.changed.take(self.id, bound.clone(), SEARCH_BYTES).await?;
            let is_cut = changes.last().is_some_and(|last| last.more);
            let mut known = Vec::with_capacity(changes.len());
            for change in &changes {
                known.push(self.known.was(change.key.as_bytes()).await?);
            }
            let permit = self.permit().await?;
            let search = Search {
                ctx: self.ctx.clone(),
                id: self.id,
                beside: Arc::clone(&self.beside),
                segment: segment.clone(),
            };
            self.searches.push_back(search.run(changes, known, permit).boxed());
            while self.searches.len() >= SEARCHES_MAX || (is_cut && !self.searches.is_empty()) {
                self.settle_one().await?;
            }
        }
    }

    /// Memory for what one search finds.
    async fn permit(&mut self) -> Result<OwnedSemaphorePermit, Ended> {
        let budget = Arc::clone(&self.ctx.services().budget.segments);
        // What is under way holds some: whoever waited for more without letting go of it might wait for himself.
        while !self.searches.is_empty() {
            match Arc::clone(&budget).try_acquire_owned() {
                Ok(permit) => return Ok(permit),
                Err(_) => self.settle_one().await?,
            }
        }
        let permit = self.ctx.or_stop(budget.acquire_owned()).await?;
        Ok(permit.map_err(|e| JobError::failed_by("the budget of segments is closed", e))?)
    }

    /// Takes what the first search under way has found.
    async fn settle_one(&mut self) -> Result<(), Ended> {
        let Some(searched) = self.ctx.or_stop(self.searches.next()).await? else { return Ok(()) };
        let Searched { found, read_bytes, _permit } = searched?;
        self.writer.read(read_bytes);
        for (change, want) in found {
            let key = change.key.as_bytes().to_vec();
            let mut after = Vec::new();
            let now = match change.changes.onto(want.as_deref(), &mut after) {
                Ok(Outcome::Document) => Some(after),
                Ok(Outcome::Absent) => None,
                Err(defect) => return Err(contradicted(&change.key, &defect.to_string())),
            };
            let now = if change.more {
                let rest = self.changed.go_on(now).await?;
                rest.map_err(|defect| contradicted(&change.key, &defect))?
            } else {
                now
            };
            if !want.iter().chain(&now).all(|document| can_be_named(document)) {
                return Err(Ended::Refused(
                    "the _id of a document that changed cannot be named in a query".to_owned(),
                ));
            }
            self.writer.push(&Difference { key, want, now })?;
        }
        Ok(())
    }
}

async fn next(
    ctx: &JobContext,
    segments: &mut BoxStream<'static, vault::Result<SegmentEntry>>,
) -> Result<Option<SegmentEntry>, JobError> {
    match ctx.or_stop(segments.try_next()).await? {
        Ok(next) => Ok(next),
        Err(error) => Err(damage::noted(ctx.catalog(), error).await),
    }
}

fn contradicted(key: &SortKey, defect: &str) -> Ended {
    Ended::Refused(format!("the record contradicts the document with the key {key:?}: {defect}"))
}

/// A search for documents as they were.
struct Search {
    ctx: JobContext,
    id: CollectionId,
    beside: Arc<Beside>,
    /// None for a collection that was empty.
    segment: Option<SegmentEntry>,
}

impl Search {
    async fn run(
        self,
        changes: Vec<ChangedDocument>,
        known: Vec<Option<Was>>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Searched, Ended> {
        let unknown = changes.iter().zip(&known).filter(|(_, known)| known.is_none());
        let keys: Vec<_> = unknown.map(|(change, _)| &change.key).collect();
        let (mut looked_up, read_bytes) = self.look_up(&keys).await?;
        let mut found = Vec::with_capacity(changes.len());
        for (change, known) in changes.into_iter().zip(known) {
            let was = known.or_else(|| looked_up.pop_front()).unwrap_or_default();
            found.push((change, was));
        }
        Ok(Searched { found, read_bytes, _permit: permit })
    }

    /// What the documents with these keys were, and what was read to find out.
    async fn look_up(&self, keys: &[&SortKey]) -> Result<(VecDeque<Was>, u64), Ended> {
        let (Some(segment), false) = (&self.segment, keys.is_empty()) else {
            return Ok((keys.iter().map(|_| None).collect(), 0));
        };
        let bytes: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let (stored, read_bytes) = match self.ctx.vault().read_documents(segment, &bytes).await {
            Ok(found) => found,
            Err(error) => return Err(damage::noted(self.ctx.catalog(), error).await.into()),
        };
        let pending = self.pending(segment, keys).await?;
        let mut found = VecDeque::with_capacity(keys.len());
        for (key, stored) in keys.iter().zip(stored) {
            let was = pending.onto(key.as_bytes(), stored);
            found.push_back(was.map_err(|defect| contradicted(key, &defect.to_string()))?);
        }
        Ok((found, read_bytes + pending.read_bytes))
    }

    /// What the manifest keeps beside the segment of these documents.
    async fn pending(&self, segment: &SegmentEntry, keys: &[&SortKey]) -> Result<Pending, JobError> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return Ok(Pending::default());
        };
        let (from, to) = (first.as_bytes(), behind(last));
        if !self.beside.may_touch(self.id, from, Some(&to)) {
            return Ok(Pending::default());
        }
        match self.beside.pending(self.id, from, Some(&to), segment.as_of).await {
            Ok(pending) => Ok(pending),
            Err(error) => Err(damage::noted(self.ctx.catalog(), error).await),
        }
    }
}
