//! The deltas of a manifest, in runs.
//!
//! A run has the changes of a stretch of time, sorted by collection and key, no two of its deltas overlapping. A change is in the
//! run whose time is the first that is not before it.

use model::ClusterTime;

use super::page::{PageRef, PageWriter, draw};
use crate::{DeltaEntry, Result, delta::DeltaLine};

/// A run of deltas as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaRun {
    /// Its changes took effect at this time at the latest, and after that of the run before it.
    pub through: ClusterTime,
    /// How many deltas.
    pub deltas: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// About how many of these the snapshot needs: others are in newer segments, or overwritten by newer runs.
    pub live_bytes: u64,
    /// What deltas and pages take in the store, those shared with other snapshots included.
    pub stored_bytes: u64,
    /// The pages that list the deltas.
    pub pages: Vec<PageRef>,
}

/// Lists the deltas of a run, in their order.
pub struct DeltaList {
    pages: PageWriter,
    deltas: u64,
    bytes: u64,
    stored_bytes: u64,
}

impl DeltaList {
    pub(super) const fn new(pages: PageWriter) -> Self {
        Self { pages, deltas: 0, bytes: 0, stored_bytes: 0 }
    }

    /// Adds a delta.
    ///
    /// # Errors
    /// [`Error::Announce`](crate::Error::Announce) and whatever the store says.
    pub async fn push(&mut self, entry: &DeltaEntry) -> Result<()> {
        self.pages.push(&DeltaLine::from(entry), draw(entry.name.as_bytes())).await?;
        self.deltas += 1;
        self.bytes += entry.bytes;
        self.stored_bytes += entry.stored_bytes;
        Ok(())
    }

    /// Writes what is left. None when there are no deltas. All changes are needed.
    ///
    /// # Errors
    /// As [`DeltaList::push`].
    pub async fn finish(self, through: ClusterTime) -> Result<Option<DeltaRun>> {
        let Self { pages, deltas, bytes, stored_bytes } = self;
        let (pages, page_bytes) = pages.finish().await?;
        let run = DeltaRun {
            through,
            deltas,
            bytes,
            live_bytes: bytes,
            stored_bytes: stored_bytes + page_bytes,
            pages,
        };
        Ok((deltas > 0).then_some(run))
    }
}
