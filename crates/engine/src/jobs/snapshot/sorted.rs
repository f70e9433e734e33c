//! Reading a collection in the order of its `_id`, large ones in several ranges at once.
//!
//! Reader *i* starts at a split point, throws documents away until the first strong cut, and goes on past the next
//! split point until the first strong cut there. A strong cut is a property of one document, so neighbours agree on
//! it, nothing is lost or doubled, and the segments are those that one reader would have made.

use futures::{StreamExt, stream};
use history::{SortKey, cut::is_strong, key::push_document_key};
use mongo::{
    CollectionInfo,
    read::{self, DocumentId},
};
use tokio_util::task::AbortOnDropHandle;
use vault::{Order, SegmentEntry, SegmentList, SegmentPages};

use super::{collection::Reading, filler::Filler, source::ReadError};
use crate::{connect::to_model, lease::JobError};

/// Below this a collection is read in one range: the stretch that two neighbours both read is 64 MiB on average.
pub(super) const SPLIT_BYTES_MIN: u64 = 256 << 20;
/// Larger collections get more ranges, so that the list of one range's segments stays short.
const RANGE_BYTES: u64 = 2 << 30;
/// But no more than this.
const RANGES_MAX: usize = 64;

/// The keys of one range's segments may take so much memory: enough for a hundred thousand segments, unless `_id`s are
/// kilobytes long.
const KEY_BYTES_MAX: usize = 8 << 20;
/// Where the type of a document's first element stands.
const FIRST_TYPE_AT: usize = 4;
/// The type of `MaxKey`.
const MAX_KEY: u8 = 0x7F;

/// One reader's share.
#[derive(Debug, Clone)]
struct Range {
    /// Start at this `_id`; `None` at the first document.
    from: Option<DocumentId>,
    /// End at the first strong cut at or after this key; `None` at the last document.
    until: Option<SortKey>,
}

/// Reads the collection and lists its segments.
pub(super) async fn read_sorted(
    reading: &Reading,
    info: &CollectionInfo,
    size: u64,
    mut list: SegmentList,
) -> Result<SegmentPages, ReadError> {
    let ranges = ranges(reading, info, size).await?;
    let readers = ranges.into_iter().map(|range| {
        let (reading, info) = (reading.clone(), info.clone());
        async move {
            let reader =
                AbortOnDropHandle::new(tokio::spawn(async move { read_range(&reading, &info, range).await }));
            reader
                .await
                .unwrap_or_else(|e| Err(JobError::failed_by("a bug in Ebbtide stopped a reader", e).into()))
        }
    });
    let mut readers = stream::iter(readers).buffered(reading.ctx.services().settings.readers.max(1));
    let mut last_key: Option<Vec<u8>> = None;
    while let Some(entries) = readers.next().await {
        for entry in entries? {
            if last_key.as_ref().is_some_and(|last| *last >= entry.first_key) {
                return Err(ReadError::OutOfOrder);
            }
            last_key = Some(entry.last_key.clone());
            list.push(&entry).await.map_err(JobError::from)?;
        }
    }
    Ok(list.finish().await.map_err(JobError::from)?)
}

/// Where the readers start and end.
async fn ranges(reading: &Reading, info: &CollectionInfo, size: u64) -> Result<Vec<Range>, ReadError> {
    let readers = reading.ctx.services().settings.readers;
    if size < reading.split_bytes || readers < 2 {
        return Ok(vec![Range { from: None, until: None }]);
    }
    let wanted = usize::try_from(size / RANGE_BYTES).unwrap_or(usize::MAX).clamp(readers, RANGES_MAX);
    let mut connection = reading.ctx.or_stop(reading.source.connection()).await??;
    let points = reading.ctx.or_stop(read::split_points(&mut connection, info, wanted)).await??;
    reading.source.give_back(connection);
    // The server refuses `MaxKey` as a lower bound; the range before it goes to the end then.
    let points = points.into_iter().filter(|id| id.as_bytes().get(FIRST_TYPE_AT) != Some(&MAX_KEY));
    let keyed = |id: DocumentId| Ok((SortKey::of_document(id.as_bytes())?, id));
    let mut split: Vec<(SortKey, DocumentId)> = points.map(keyed).collect::<Result<_, ReadError>>()?;
    split.sort_by(|a, b| a.0.cmp(&b.0));
    split.dedup_by(|a, b| a.0 == b.0);
    let starts = std::iter::once(None).chain(split.iter().map(|(_, id)| Some(id.clone())));
    let ends = split.iter().map(|(key, _)| Some(key.clone())).chain(std::iter::once(None));
    Ok(starts.zip(ends).map(|(from, until)| Range { from, until }).collect())
}

async fn read_range(
    reading: &Reading,
    info: &CollectionInfo,
    range: Range,
) -> Result<Vec<SegmentEntry>, ReadError> {
    let ctx = &reading.ctx;
    let _reader = ctx.reader().await?;
    let source = &reading.source;
    let mut connection = ctx.or_stop(source.connection()).await??;
    let mut cursor =
        ctx.or_stop(read::sorted(&mut connection, info, source.at, range.from.as_ref())).await??;
    let mut filler = Filler::new(reading, Order::Sorted, to_model(source.at));
    let mut started = range.from.is_none();
    let mut key = vec![];
    let mut ended = false;
    while !ended {
        let Some(batch) = ctx.or_stop(cursor.next()).await?? else { break };
        for document in batch.documents() {
            key.clear();
            push_document_key(&mut key, document)?;
            let strong = || is_strong(&key, document.len());
            if range.until.as_ref().is_some_and(|until| key.as_slice() >= until.as_bytes()) && strong() {
                ended = true;
                break;
            }
            started = started || strong();
            if started {
                filler.offer(&key, document).await?;
            }
        }
        if filler.key_bytes() > KEY_BYTES_MAX {
            return Err(ReadError::LongKeys);
        }
        cursor.recycle(batch);
    }
    cursor.close().await?;
    source.give_back(connection);
    filler.finish().await
}
