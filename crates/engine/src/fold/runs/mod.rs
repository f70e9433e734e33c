//! Runs of deltas: changes that a snapshot keeps beside its segments instead of applying them.
//!
//! A change here and there would rewrite, and first read, every segment of a large collection. So a segment of which little
//! changes is listed as it is, with its time, and its changes go into a run ([`Keeping`]); one of which much changes is folded
//! and cut anew, as of the time of the snapshot. Which changes belong to a segment is told by times alone: those after
//! its own. So a segment that was folded needs no change of the runs that it has outlived.
//!
//! What that costs is bounded from both sides. A segment's changes hold at most a share of its bytes ([`SHARE`]), so whoever
//! reads a snapshot reads little more than its documents. And a run is written anew only together with changes of at least half
//! its size, or when most of it has been outlived, so a change is written a number of times that grows with the logarithm
//! of what there is, not with the number of snapshots; there are never more than [`RUNS_MAX`].

mod keep;
mod lookup;
mod read;

pub use keep::Kept;
pub(in crate::fold) use keep::{Keeping, Rest, changes_of, stored};
pub(crate) use lookup::{Beside, Pending, behind};
pub(in crate::fold) use read::StoredRun;

/// The changes beside a segment hold at most this part of its bytes.
pub(in crate::fold) const SHARE: u64 = 8;
/// No more runs than these; each takes some megabytes of memory while it is read.
const RUNS_MAX: usize = 6;

/// What becomes of changes that touch little of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sparse {
    /// They are applied: the segments are those of a fresh snapshot.
    Apply,
    /// They are kept beside it.
    Keep,
}
