//! From a deployment to the vault: readers, a segmenter each, a stage that hashes, compresses and seals, and puts.
//!
//! # Memory
//!
//! Everything between a socket and the store is held by somebody who holds a permit, so the bytes are a product of
//! constants, whatever the size of the deployment and however many jobs run:
//!
//! | what | how many | each, at most | MiB |
//! |---|---|---|---|
//! | a reader: one reply of the server, and the segment being filled | [`READERS`] | [`REPLY_BYTES_MAX`] + [`SEGMENT_BYTES_MAX`] | 2 × (16 + 20) |
//! | or a fold, in a reader's place: a segment of the base, sealed and plain, and the one being filled | [`READERS`] | 3 × [`SEGMENT_BYTES_MAX`] | 2 × 60 |
//! | the full one of either, while it waits for room | [`READERS`] | [`SEGMENT_BYTES_MAX`] | 2 × 20 |
//! | a full segment until it is sealed: plain and sealed | [`SEGMENTS_IN_FLIGHT`] | 2 × [`SEGMENT_BYTES_MAX`] | 3 × 40 |
//! | what the second of two threads that seal one segment has done | 1 | half of [`SEGMENT_BYTES_MAX`] | 10 |
//! | a sealed segment until it is durable | [`PUTS_IN_FLIGHT`] | [`SEGMENT_BYTES_MAX`] | 3 × 20 |
//! | one sort, or windows: run buffers, or the open runs of a merge | 1 | [`SORT_BUFFER_BYTES`] | 96 |
//!
//! That is 398 MiB when everything is at its worst at once, with documents that no zstd makes smaller, and 446 MiB when it is two folds.
//! In the usual case a reply is 1 MB, a segment compresses to a half, and one job works at a time. What makes segments on a thread of its
//! own waits for room before it hands one over ([`handover`]): one that lay in a channel, and one that waited behind it, would be two more.
//!
//! [`READERS`]: crate::engine::READERS
//! [`SEGMENT_BYTES_MAX`]: history::cut::SEGMENT_BYTES_MAX
//! [`SORT_BUFFER_BYTES`]: crate::sort::SORT_BUFFER_BYTES

mod announce;
mod handover;
mod segmenter;
mod store;

pub use announce::Pinner;
pub(crate) use handover::{FullSegment, Giver, handover};
pub(crate) use segmenter::OWN_MAPPING_BYTES;
pub use segmenter::{Buffers, OutOfOrder, Segmenter};
pub use store::{Pending, SegmentStore, on_processor, on_processors};

/// Segments between full and sealed, all jobs together.
pub const SEGMENTS_IN_FLIGHT: usize = 3;
/// Sealed segments on their way to the store, all jobs together: a disk that makes them durable late must not keep the
/// processors waiting.
pub const PUTS_IN_FLIGHT: usize = 3;
/// The longest reply of a server: one batch.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
