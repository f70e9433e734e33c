//! What documents are and in which order they stand: the pure half of backup correctness.
//!
//! Raw bytes in, raw bytes out. Nothing here reads a clock, a file or a socket, and nothing decodes a
//! document only to encode it again.

pub mod content;
pub mod cut;
pub mod key;
mod number;
pub mod raw;

pub use content::ContentSum;
pub use cut::{Cut, Cutter};
pub use key::SortKey;

/// Bytes that are no BSON document, or one that cannot be a stored document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed BSON: {0}")]
pub struct Malformed(pub &'static str);
