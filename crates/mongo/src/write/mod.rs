//! Writing a deployment exactly.
//!
//! Everything here is idempotent, so that a job that was killed anywhere is run again from its last checkpoint, and
//! nothing here retries: on any error the caller drops the collection under its staging name and loads it again.
//! What a server changes on the way in is known by name and undone: a top-level `Timestamp(0,0)` (see [`load`]), a TTL
//! index that would delete what was just restored (see [`ttl`]). Nothing is decoded and encoded again: options, index
//! specifications and documents go in as the bytes that once came out.

pub mod collections;
pub(crate) mod command;
pub mod documents;
pub mod indexes;
pub mod load;
mod pool;
pub(crate) mod raw;
pub mod staging;
pub mod system_js;
pub mod timeseries;
pub mod ttl;
pub mod verify;
pub mod views;

pub use indexes::{BuildOptions, BuildReport, CommitQuorum, KeyCounts};
pub use load::{Barrier, LoadOptions, LoadReport, Loader, Written};
pub use pool::ConnectionPool;
pub use ttl::{ParkedTtl, TtlPolicy};
