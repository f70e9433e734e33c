//! The record of operations that a fold consumes.

use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use history::ClusterTime;

use super::FoldFailure;
use crate::lease::JobError;

/// Raw entries of the oplog of one replica set, in its order, without a gap.
pub struct Record<'a> {
    /// Every entry after this time is in it. A fold needs the entries after the time of its base, and before that those
    /// of transactions that were open then.
    pub from: ClusterTime,
    /// Every entry up to this time is in it, and maybe later ones.
    pub to: ClusterTime,
    /// Blocks of whole entries, back to back.
    pub blocks: BoxStream<'a, Result<Bytes, JobError>>,
}

impl Record<'static> {
    /// Of entries in memory.
    pub fn of_entries(from: ClusterTime, to: ClusterTime, entries: Vec<Vec<u8>>) -> Self {
        let blocks = stream::iter(entries).map(|entry| Ok(Bytes::from(entry))).boxed();
        Self { from, to, blocks }
    }
}

impl Record<'_> {
    /// Whether a state at `at` can come of a base as of `base` with it, as far as its ends tell.
    pub(super) fn check(&self, base: ClusterTime, at: ClusterTime) -> Result<(), FoldFailure> {
        let &Self { from, to, .. } = self;
        // Where nothing is to be folded, nothing is needed.
        if base == at || (from <= base && base <= at && at <= to) {
            return Ok(());
        }
        Err(FoldFailure::OutOfRecord { from, to, base, at })
    }
}
