//! The ranges of keys in which a collection is compared: one for each segment of the newest snapshot.

use bytes::Bytes;
use futures::{TryStreamExt as _, stream::BoxStream};
use history::CollectionId;
use vault::SegmentEntry;

use crate::{
    damage,
    fold::runs::{Beside, Pending},
    lease::{JobContext, JobError},
};

/// A range of keys: from the first key of a segment up to that of the next one. The first range of a collection has no
/// lower end, the last one no upper end, and a collection without segments is one range.
pub(super) struct Range {
    pub(super) segment: Option<SegmentEntry>,
    /// None at the beginning of the collection.
    pub(super) from: Option<Vec<u8>>,
    /// The first key that is not in it; none at the end of the collection.
    pub(super) bound: Option<Vec<u8>>,
}

impl Range {
    /// What the snapshot keeps beside these documents.
    pub(super) async fn beside(
        &self,
        ctx: &JobContext,
        beside: &Beside,
        id: CollectionId,
    ) -> Result<Pending, JobError> {
        let Some(segment) = &self.segment else { return Ok(Pending::default()) };
        let (from, to) = (self.from.as_deref().unwrap_or_default(), self.bound.as_deref());
        if !beside.may_touch(id, from, to) {
            return Ok(Pending::default());
        }
        match ctx.or_stop(beside.pending(id, from, to, segment.as_of)).await? {
            Ok(pending) => Ok(pending),
            Err(error) => Err(damage::noted(ctx.catalog(), error).await),
        }
    }

    /// The documents in its segment.
    pub(super) async fn documents(&self, ctx: &JobContext) -> Result<Bytes, JobError> {
        let Some(segment) = &self.segment else { return Ok(Bytes::new()) };
        match ctx.or_stop(ctx.vault().read_segment(segment)).await? {
            Ok(read) => Ok(read.into_bytes()),
            Err(error) => Err(damage::noted(ctx.catalog(), error).await),
        }
    }
}

/// The ranges of one collection, in the order of their keys.
pub(super) struct Ranges {
    segments: BoxStream<'static, vault::Result<SegmentEntry>>,
    next: Option<SegmentEntry>,
    is_first: bool,
    ended: bool,
}

impl Ranges {
    pub(super) fn new(segments: BoxStream<'static, vault::Result<SegmentEntry>>) -> Self {
        Self { segments, next: None, is_first: true, ended: false }
    }

    /// The next range.
    pub(super) async fn next(&mut self, ctx: &JobContext) -> Result<Option<Range>, JobError> {
        if self.ended {
            return Ok(None);
        }
        if self.is_first {
            self.next = self.segment(ctx).await?;
        }
        let segment = self.next.take();
        if segment.is_some() {
            self.next = self.segment(ctx).await?;
        }
        let from = segment.as_ref().filter(|_| !self.is_first).map(|segment| segment.first_key.clone());
        let bound = self.next.as_ref().map(|next| next.first_key.clone());
        self.is_first = false;
        self.ended = bound.is_none();
        Ok(Some(Range { segment, from, bound }))
    }

    /// The first range that has keys from `key` on.
    pub(super) async fn from(
        &mut self,
        ctx: &JobContext,
        key: Option<&[u8]>,
    ) -> Result<Option<Range>, JobError> {
        loop {
            let Some(range) = self.next(ctx).await? else { return Ok(None) };
            let is_before = key.is_some_and(|key| range.bound.as_deref().is_some_and(|bound| bound <= key));
            if !is_before {
                return Ok(Some(range));
            }
        }
    }

    async fn segment(&mut self, ctx: &JobContext) -> Result<Option<SegmentEntry>, JobError> {
        match ctx.or_stop(self.segments.try_next()).await? {
            Ok(next) => Ok(next),
            Err(error) => Err(damage::noted(ctx.catalog(), error).await),
        }
    }
}
