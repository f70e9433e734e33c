//! The life of a snapshot.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Where a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SnapshotState {
    /// Asked for; no worker has it yet. Leaves by `Claimed` or `Failed`.
    Queued,
    /// A worker reads the deployment. Leaves by `Completed` or `Failed`.
    InProgress,
    /// Its manifest and everything that it names are durable in the vault. Leaves by `Deleted`.
    Completed,
    /// It could not be taken; the reason is recorded. Leaves by `Deleted`.
    Failed,
    /// Deleted on request or at its expiry; kept as a tombstone. No exit.
    Deleted,
}

/// What can happen to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotEvent {
    /// A worker took it up (or took it over).
    Claimed,
    /// The manifest is durable.
    Completed,
    /// It cannot be taken.
    Failed,
    /// Somebody, or its expiry, deleted it.
    Deleted,
}

impl SnapshotState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::InProgress, Self::Completed, Self::Failed, Self::Deleted];

    /// The word in the catalog and, for all but `deleted`, in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "inProgress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when this state has no such exit.
    pub fn next(self, event: SnapshotEvent) -> Result<Self, IllegalTransition> {
        use SnapshotEvent as E;
        match (self, event) {
            (Self::Queued | Self::InProgress, E::Claimed) => Ok(Self::InProgress),
            (Self::InProgress, E::Completed) => Ok(Self::Completed),
            (Self::Queued | Self::InProgress, E::Failed) => Ok(Self::Failed),
            (Self::Completed | Self::Failed, E::Deleted) => Ok(Self::Deleted),
            (Self::Queued, E::Completed | E::Deleted)
            | (Self::InProgress, E::Deleted)
            | (Self::Completed | Self::Failed, E::Claimed | E::Completed | E::Failed)
            | (Self::Deleted, E::Claimed | E::Completed | E::Failed | E::Deleted) => Err(IllegalTransition {
                machine: "snapshot",
                state: self.as_str().to_owned(),
                event: format!("{event:?}"),
            }),
        }
    }
}

impl FromStr for SnapshotState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown snapshot state {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_snapshot_never_comes_back() {
        for event in
            [SnapshotEvent::Claimed, SnapshotEvent::Completed, SnapshotEvent::Failed, SnapshotEvent::Deleted]
        {
            assert!(SnapshotState::Deleted.next(event).is_err());
        }
    }

    #[test]
    fn completed_is_reached_only_from_in_progress() {
        for state in SnapshotState::ALL {
            let reached = state.next(SnapshotEvent::Completed).is_ok();
            assert_eq!(reached, state == SnapshotState::InProgress);
        }
    }
}
