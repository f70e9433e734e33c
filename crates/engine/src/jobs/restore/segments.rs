//! The documents of a collection out of the vault, segment by segment, a few of them ahead, within the process's budget of
//! memory. What the manifest keeps beside a segment is applied.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream, Peekable},
};
use history::{CollectionId, ContentSum};
use tokio::sync::OwnedSemaphorePermit;
use vault::{CollectionEntry, Manifest, SegmentEntry};

use crate::{
    damage,
    fold::runs::{Beside, Pending},
    lease::{JobContext, JobError},
    pipeline::on_processor,
};

/// Segments that are fetched while one is worked on.
const SEGMENTS_AHEAD: usize = 2;

/// The documents between the first key of a segment and that of the next one.
pub(crate) struct Segment {
    /// The segment that they come from; without what is beside it.
    pub(crate) entry: SegmentEntry,
    /// The documents, back to back. They hold a permit of the budget until the last of their bytes is let go, wherever
    /// slices of them went.
    pub(crate) documents: Bytes,
    /// Their sum.
    pub(crate) content: ContentSum,
}

/// The documents of a collection in its order, checked, but for those of the first `done` segments; with what is kept `beside`
/// its segments.
pub(crate) fn read<'a>(
    ctx: &'a JobContext,
    manifest: &Manifest,
    collection: &CollectionEntry,
    beside: Option<&Arc<Beside>>,
    done: usize,
) -> impl Stream<Item = Result<Segment, JobError>> + Send + 'a {
    let beside = beside.cloned().zip(collection.meta.uuid);
    let read = move |stretch: vault::Result<Stretch>| {
        let beside = beside.clone();
        async move {
            let stretch = match stretch {
                Ok(stretch) => stretch,
                Err(error) => return Err(damage::noted(ctx.catalog(), error).await),
            };
            let permit = Arc::clone(&ctx.services().budget.segments).acquire_owned().await;
            let permit = permit.map_err(|e| JobError::failed_by("the budget of segments is closed", e))?;
            // What is kept beside a segment is memory of the same budget.
            let pending = match &beside {
                Some((beside, id)) => stretch.pending(ctx, beside, CollectionId(*id)).await?,
                None => Pending::default(),
            };
            let documents = match ctx.vault().read_segment(&stretch.entry).await {
                Ok(segment) => segment.into_bytes(),
                Err(error) => return Err(damage::noted(ctx.catalog(), error).await),
            };
            let entry = stretch.entry;
            let (documents, content) = applied(ctx, &entry, documents, pending).await?;
            let documents = Bytes::from_owner(Held { documents, _permit: permit });
            Ok(Segment { entry, documents, content })
        }
    };
    stretches(manifest.segments(collection)).skip(done).map(read).buffered(SEGMENTS_AHEAD)
}

/// The documents of a segment with what is kept beside it, and their sum.
async fn applied(
    ctx: &JobContext,
    entry: &SegmentEntry,
    documents: Bytes,
    pending: Pending,
) -> Result<(Bytes, ContentSum), JobError> {
    if pending.is_empty() {
        return Ok((documents, entry.content));
    }
    let processors = &ctx.services().budget.processors;
    let applied = on_processor(processors, move || pending.onto_all(&documents)).await?;
    let (documents, content) = applied.map_err(|e| {
        let name = entry.name;
        JobError::failed_by(
            format!("what the snapshot keeps beside {name} does not fit it; restore another one"),
            e,
        )
    })?;
    Ok((Bytes::from(documents), content))
}

/// A segment, and the keys that it stands for: all up to the first one of the next segment, and in front of the first one.
struct Stretch {
    entry: SegmentEntry,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Stretch {
    /// What is kept beside the segment.
    async fn pending(
        &self,
        ctx: &JobContext,
        beside: &Beside,
        id: CollectionId,
    ) -> Result<Pending, JobError> {
        let (from, to) = (self.from.as_slice(), self.to.as_deref());
        if !beside.may_touch(id, from, to) {
            return Ok(Pending::default());
        }
        match ctx.or_stop(beside.pending(id, from, to, self.entry.as_of)).await? {
            Ok(pending) => Ok(pending),
            Err(error) => Err(damage::noted(ctx.catalog(), error).await),
        }
    }
}

type Segments = Pin<Box<Peekable<BoxStream<'static, vault::Result<SegmentEntry>>>>>;

fn stretches(
    segments: impl Stream<Item = vault::Result<SegmentEntry>> + Send + 'static,
) -> impl Stream<Item = vault::Result<Stretch>> + Send {
    let segments: Segments = Box::pin(segments.boxed().peekable());
    stream::unfold((segments, true), |(mut segments, is_first)| async move {
        let entry = match segments.next().await? {
            Ok(entry) => entry,
            Err(error) => return Some((Err(error), (segments, false))),
        };
        let to = match segments.as_mut().peek().await {
            Some(Ok(following)) => Some(following.first_key.clone()),
            None => None,
            // Where the segment ends is not known then.
            Some(Err(_)) => return Some((Err(segments.next().await?.err()?), (segments, false))),
        };
        let from = if is_first { Vec::new() } else { entry.first_key.clone() };
        Some((Ok(Stretch { entry, from, to }), (segments, false)))
    })
}

/// Bytes of a segment with the permit for them.
struct Held {
    documents: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.documents
    }
}
