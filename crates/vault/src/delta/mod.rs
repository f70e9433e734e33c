//! Deltas: immutable sorted runs of changes that are not applied yet.
//!
//! A snapshot whose documents changed here and there need not rewrite the segments that they are in: it lists these as they
//! were, and beside them, sorted by collection and key, what has changed since. Records are those of
//! [`history::change::push_record`], which are for this reason part of the format. They lie in blocks of about 1 MiB, never
//! cut, each hashed, compressed and sealed by itself. Block 0 is a header in JSON that names them all; the delta's name
//! is a keyed hash of that header, and so binds every byte.

mod build;
mod entry;
mod header;
mod read;

pub use build::{DeltaBuilder, SealedDelta};
pub(crate) use entry::DeltaLine;
pub use entry::{DeltaEntry, DeltaKey};
pub use header::DeltaBlock;
pub use read::Delta;

/// No delta holds more bytes of records than this: a single change may be somewhat larger than two of the largest documents.
pub const DELTA_BYTES_MAX: usize = 72 << 20;
