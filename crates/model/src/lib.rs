//! The nouns of the control plane and their transitions.
//!
//! Pure: no input or output, no async, no clock. Time and randomness come in as arguments, so every
//! rule here can be tested by calling it.

pub mod account;
pub mod chain;
pub mod collection;
pub mod collection_restore;
pub mod compliance;
pub mod continuous;
pub mod copy;
pub mod deployment;
pub mod export;
pub mod id;
pub mod job;
pub mod link;
pub mod network;
pub mod organization;
pub mod outage;
pub mod restore;
pub mod retention;
pub mod role;
pub mod schedule;
pub mod selection;
pub mod snapshot;
pub mod time;
pub mod timeline;

pub use collection::CollectionUuid;
pub use collection_restore::{CollectionRestore, IndexStrategy};
pub use continuous::{ContinuousBackup, RestoreWindowDays};
pub use deployment::{DeploymentKind, DeploymentName};
pub use id::Id;
pub use link::LinkTerms;
pub use retention::{Retention, RetentionUnit};
pub use selection::Selection;
pub use time::{ClusterTime, WallTime};
pub use timeline::OplogPosition;

/// A transition that the state machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{machine} in state {state} cannot take {event}")]
pub struct IllegalTransition {
    /// Which machine refused: `snapshot`, `restore job`, `job`.
    pub machine: &'static str,
    /// The state it is in.
    pub state: String,
    /// The event that was offered.
    pub event: String,
}
