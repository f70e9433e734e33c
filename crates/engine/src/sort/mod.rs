//! External merge sort of documents by their sort key, in bounded memory.
//!
//! A collection whose `_id` order has nothing to do with its storage order is read in storage order and sorted
//! here, since reading it in `_id` order costs the source one random read per document. Sorted runs that do not
//! fit in memory go to spill files ([`crate::spill`]); a merge brings them together, in several passes when there
//! are too many to be open at once. A collection that is nearly stored in `_id` order needs no more than a
//! [`Window`].

mod merge;
mod run;
mod window;

pub use merge::Merge;
pub use run::{RunBuffer, Spill};
pub use window::Window;

pub use crate::spill::{Run as SpilledRun, SpillError};

/// Bytes of documents, keys and index that all run buffers of one sort hold together.
pub const SORT_BUFFER_BYTES: usize = 96 << 20;
/// Bytes of blocks that all open runs of one merge hold together.
pub const MERGE_BYTES: usize = 64 << 20;
