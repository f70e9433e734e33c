//! The oplog as a record: where to begin it, how to follow it, and how to tell that something is missing.
//!
//! Whoever keeps what [`Tail`] gives, and opens the next one after the last entry that is kept, has every operation of
//! the replica set from [`start`] on, each once: an entry is known by its time and its term, every tail begins at the
//! entry that it follows, and reads only what a majority of the members has and no election takes back. Where that
//! cannot be, it is an error of its own: [`crate::Error::RolledOver`], [`crate::Error::RolledBack`].

mod batch;
mod open;
mod position;
mod start;
mod tail;
mod window;

pub use batch::TailBatch;
pub use open::oldest_open_at;
pub use position::{Position, position_of};
pub use start::{Start, start};
pub use tail::Tail;
pub(crate) use window::ends;
pub use window::{OplogWindow, window, window_on};
