//! Segments: immutable runs of raw documents of one collection.
//!
//! A segment is cut into blocks of about 1 MiB, never inside a document. Each block is hashed, compressed and
//! sealed by itself; an index at the front tells where each one lies and which key it begins with, so one document
//! costs two small reads. The name is a keyed hash over the hashes of the plain blocks: it is known before
//! anything is compressed, so a segment that is already there costs neither compression nor encryption.

mod build;
mod entry;
mod index;
mod read;

pub use build::{Draft, SegmentBuilder};
pub(crate) use entry::SegmentLine;
pub use entry::{Order, SegmentEntry};
pub use read::Segment;
pub(crate) use read::check_sealed;

/// A block is closed when it holds this much. One document may make it larger.
///
/// Measured on mixed documents: at 512 KiB the same effort of zstd stores 1 % more, which is the difference between
/// more and less than what gzip stores.
pub const BLOCK_BYTES_TARGET: usize = 1 << 20;
/// No segment holds more plain bytes than this: the cutter ends them at 20 MiB, or after one document.
pub const SEGMENT_BYTES_MAX: usize = 40 << 20;

/// The number of a block of documents: the index is block 0.
fn block_number(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
}
