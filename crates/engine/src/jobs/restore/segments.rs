//! The segments of a collection out of the vault, a few of them ahead, within the process's budget of memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use vault::{CollectionEntry, Manifest, SegmentEntry};

use crate::{
    damage,
    lease::{JobContext, JobError},
};

/// Segments that are fetched while one is worked on.
const SEGMENTS_AHEAD: usize = 2;

/// The segments in the collection's order, checked; each with its documents back to back.
///
/// Each holds a permit of the budget until the last of its bytes is let go, wherever slices of them went.
pub(crate) fn read<'a>(
    ctx: &'a JobContext,
    manifest: &Manifest,
    collection: &CollectionEntry,
) -> impl Stream<Item = Result<(SegmentEntry, Bytes), JobError>> + Send + 'a {
    read_after(ctx, manifest, collection, 0)
}

/// [`read`] without the first so many, which were read before.
pub(crate) fn read_after<'a>(
    ctx: &'a JobContext,
    manifest: &Manifest,
    collection: &CollectionEntry,
    done: usize,
) -> impl Stream<Item = Result<(SegmentEntry, Bytes), JobError>> + Send + 'a {
    let read = move |entry: Result<SegmentEntry, vault::Error>| async move {
        let catalog = ctx.catalog();
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Err(damage::noted(catalog, error).await),
        };
        let permit = Arc::clone(&ctx.services().budget.segments).acquire_owned().await;
        let permit = permit.map_err(|e| JobError::failed_by("the budget of segments is closed", e))?;
        let documents = match ctx.vault().read_segment(&entry).await {
            Ok(segment) => segment.into_bytes(),
            Err(error) => return Err(damage::noted(catalog, error).await),
        };
        Ok((entry, Bytes::from_owner(Held { documents, _permit: permit })))
    };
    manifest.segments(collection).skip(done).map(read).buffered(SEGMENTS_AHEAD)
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
