//! The deltas of a manifest, in runs.
//!
//! A run has the changes of a stretch of time, sorted by collection and key, no two of its deltas overlapping. A change is in the
//! run whose time is the first that is not before it.

use model::ClusterTime;

use super::page::{PageRef, PageWriter, draw};
use crate::{DeltaEntry, DeltaKey, Error, Result, delta::DeltaLine};

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

/// Whether a snapshot of this time can have these runs, from the oldest to the newest.
pub(super) fn are_in_order(runs: &[DeltaRun], cluster_time: ClusterTime) -> bool {
    runs.is_sorted_by(|run, next| run.through < next.through)
        && runs.last().is_none_or(|run| run.through <= cluster_time)
}

/// Lists the deltas of a run, in their order.
pub struct DeltaList {
    pages: PageWriter,
    last: Option<DeltaKey>,
    deltas: u64,
    bytes: u64,
    stored_bytes: u64,
}

impl DeltaList {
    pub(super) const fn new(pages: PageWriter) -> Self {
        Self { pages, last: None, deltas: 0, bytes: 0, stored_bytes: 0 }
    }

    /// Adds a delta.
    ///
    /// # Errors
    /// [`Error::Refused`] when it begins before the end of the delta before it, [`Error::Announce`], and whatever the store says.
    pub async fn push(&mut self, entry: &DeltaEntry) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| *last > entry.first) || entry.first > entry.last {
            let why = "its deltas are not in the order of their changes".to_owned();
            return Err(Error::Refused { what: "a run of deltas", why });
        }
        self.pages.push(&DeltaLine::from(entry), draw(entry.name.as_bytes())).await?;
        self.last = Some(entry.last.clone());
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
        let Self { pages, deltas, bytes, stored_bytes, .. } = self;
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
