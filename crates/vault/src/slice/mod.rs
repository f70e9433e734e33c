//! Slices: immutable runs of consecutive raw oplog entries of one replica set.
//!
//! A slice says which timeline it belongs to, which slice it follows and the entry after which it begins, so the slices of
//! a timeline are a chain of hashes: none can be left out, put elsewhere or exchanged without being told. Entries lie
//! in blocks of about 1 MiB, never cut, each hashed, compressed and sealed by itself. Block 0 is a header in JSON
//! that names them all; the slice's name is a keyed hash of that header, and so binds every byte.

mod build;
mod chain;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod header;
mod read;

use history::{Malformed, raw};

pub use build::{SealedSlice, SliceBuilder};
pub use chain::{BrokenLink, LinkFault};
pub use header::{SliceBlock, SliceHeader, SliceLink, SliceSource};
pub use read::Slice;

/// A builder has no room for an entry that would make the slice larger than this, unless it is the first one.
pub const SLICE_BYTES_TARGET: usize = 16 << 20;
/// No slice holds more bytes of entries than this: a single entry may be somewhat larger than the largest document.
pub const SLICE_BYTES_MAX: usize = 40 << 20;

/// The entries of a block, in order. Those of a block that [`Slice`] gave are whole.
pub fn entries(block: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    raw::documents(block)
}
