//! The record, sifted: blocks are read and skimmed several at a time, and what is left is folded in its order.

use std::num::NonZeroUsize;

use bytes::Bytes;
use catalog::{Slice as SliceRow, SliceState};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use history::{raw, skim::Wanted};
use model::ClusterTime;
use vault::{Hands, ObjectName, Slice};

use super::{Origin, Past, PastError, of_model};
use crate::{
    fold::{
        FoldFailure,
        base::Base,
        delta::{Delta, Gathering},
    },
    lease::JobError,
};

/// Slices that are opened ahead of their turn: a header each.
const SLICES_AHEAD: usize = 4;
/// Blocks that are read, unsealed and skimmed at a time, at most: about 1 MiB each, and the largest entry at worst.
const BLOCKS_MAX: usize = 8;

/// What is left of a block.
struct Sifted {
    kept: Bytes,
    /// The time of its last entry.
    last: history::ClusterTime,
}

impl Past {
    /// What the record makes of the base up to each of these times, of what is wanted.
    pub(super) async fn gather<const N: usize>(
        &self,
        origin: &Origin,
        base: &Base,
        wanted: &Wanted,
        namespace: &str,
        until: [ClusterTime; N],
    ) -> Result<[Delta; N], PastError> {
        let spill_dir = &self.services.settings.spill_dir;
        let mut gatherings =
            until.map(|at| Gathering::of(base, of_model(at), spill_dir, wanted.clone(), namespace));
        let timelines = self.services.catalog.timelines();
        let from = timelines.needed_from(&origin.timeline, &origin.snapshot).await?;
        let from = from.ok_or_else(|| {
            PastError::Unknown(format!(
                "the timeline {} no longer has the operations that follow the snapshot {}; choose a later time",
                origin.timeline.id, origin.snapshot.id
            ))
        })?;
        let durable = origin.timeline.durable.time;
        let slices = timelines.slices(origin.timeline.id, from, durable).await?;
        let begins = slices.first().map_or(durable, |first| first.span.after.time);
        if until.iter().any(|&at| at > durable) || of_model(begins) > base.at {
            let at = until.iter().max().copied().unwrap_or_default();
            let [from, to, at] = [begins, durable, at].map(of_model);
            return Err(FoldFailure::OutOfRecord { from, to, base: base.at, at }.into());
        }
        let blocks_at_a_time =
            (2 * std::thread::available_parallelism().map_or(1, NonZeroUsize::get)).min(BLOCKS_MAX);
        let stored = slices.into_iter().take_while(|row| row.state == SliceState::Stored);
        let blocks = stream::iter(stored)
            .map(|row| self.clone().slice(row))
            .buffered(SLICES_AHEAD)
            .map_ok(|slice| {
                let first = slice.block_from(from).unwrap_or(slice.blocks().len());
                let numbers = first..slice.blocks().len();
                stream::iter(numbers.map(move |number| Ok::<_, PastError>((slice.clone(), number))))
            })
            .try_flatten()
            // What cannot be opened is told in its turn: everything before it may be all that is needed.
            .map(|next| {
                let (sifter, wanted) = (self.clone(), wanted.clone());
                async move {
                    let (slice, number) = next?;
                    sifter.sift(slice, number, wanted).await
                }
            })
            .buffered(blocks_at_a_time);
        let mut blocks = std::pin::pin!(blocks);
        while !gatherings.iter().all(Gathering::is_done) {
            let Some(Sifted { kept, last }) = blocks.try_next().await? else { break };
            gatherings = off_the_runtime(move || {
                for gathering in gatherings.iter_mut().filter(|gathering| !gathering.is_done()) {
                    gathering.blocks(std::slice::from_ref(&kept), Hands::One)?;
                    gathering.passed(last);
                }
                Ok(gatherings)
            })
            .await?;
        }
        off_the_runtime(move || {
            let mut deltas = Vec::with_capacity(N);
            for gathering in gatherings {
                deltas.push(gathering.finish(of_model(durable))?);
            }
            let deltas = <[Delta; N]>::try_from(deltas);
            deltas.map_err(|_| JobError::failed("a bug in Ebbtide lost what was folded").into())
        })
        .await
    }

    async fn slice(self, row: SliceRow) -> Result<Slice, PastError> {
        let name: ObjectName =
            row.name.parse().map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))?;
        let slice = match Slice::open(&self.services.vault, &name).await {
            Ok(slice) => slice,
            Err(error) => return Err(self.of_vault(error).await),
        };
        if slice.header().after != row.span.after || slice.header().last != row.span.last {
            let what = format!("the slice {name} does not hold what the catalog says; run rebuild-catalog");
            return Err(PastError::Unknown(what));
        }
        Ok(slice)
    }

    async fn sift(self, slice: Slice, number: usize, wanted: Wanted) -> Result<Sifted, PastError> {
        let block = match slice.read_block(number).await {
            Ok(block) => block,
            Err(error) => return Err(self.of_vault(error).await),
        };
        off_the_runtime(move || {
            let malformed = |error| JobError::failed_by("an entry of the record cannot be read", error);
            let (mut kept, mut last) = (Vec::new(), None);
            for entry in raw::documents(&block) {
                let entry = entry.map_err(malformed)?;
                if wanted.keeps(entry) {
                    kept.extend_from_slice(entry);
                }
                last = Some(entry);
            }
            let time = last.map(|entry| raw::field(entry, "ts")).transpose().map_err(malformed)?;
            let time = time.flatten().and_then(|time| time.timestamp()).unwrap_or(history::ClusterTime::NONE);
            Ok(Sifted { kept: kept.into(), last: time })
        })
        .await
    }
}

/// Parsing, sorting and spilling would hold up other tasks.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PastError> + Send + 'static,
) -> Result<T, PastError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the reading of entries", e))?
}
