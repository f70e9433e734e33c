//! What documents are, in which order they stand, and what the oplog makes of them: the pure half of backup
//! correctness.
//!
//! Raw bytes in, raw bytes out. Nothing here reads a clock, a file or a socket, and nothing decodes a
//! document only to encode it again.

mod bytes_serde;
pub mod capped;
pub mod catalog_state;
pub mod change;
mod collection_id;
pub mod content;
pub mod cut;
pub mod diff;
pub mod entry;
pub mod fold;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod key;
mod number;
pub mod raw;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod skim;
mod time;
pub mod transaction;

pub use collection_id::CollectionId;
pub use content::ContentSum;
pub use cut::{Cut, Cutter};
pub use key::SortKey;
pub use time::ClusterTime;

/// Bytes that are no BSON document, or one that cannot be a stored document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed BSON: {0}")]
pub struct Malformed(pub &'static str);
