//! Restore jobs as the API knows them: how the data is delivered, and where the job stands.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// How the restored data reaches the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryType {
    /// Loaded into a registered deployment.
    Automated,
    /// Offered as an archive at a URL.
    Download,
    /// Loaded into a registered deployment as of a cluster time.
    PointInTime,
}

impl DeliveryType {
    /// The word on the wire and in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automated => "automated",
            Self::Download => "download",
            Self::PointInTime => "pointInTime",
        }
    }
}

impl FromStr for DeliveryType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Automated, Self::Download, Self::PointInTime]
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| format!("unknown delivery type {text:?}"))
    }
}

/// As which resource of the API a restore was asked for. Each is listed with its own kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreResource {
    /// A restore job.
    RestoreJob,
    /// A collection restore job.
    CollectionRestoreJob,
}

impl RestoreResource {
    /// The word in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RestoreJob => "restoreJob",
            Self::CollectionRestoreJob => "collectionRestoreJob",
        }
    }
}

impl FromStr for RestoreResource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RestoreJob, Self::CollectionRestoreJob]
            .into_iter()
            .find(|resource| resource.as_str() == text)
            .ok_or_else(|| format!("unknown resource {text:?}"))
    }
}

/// Where a restore job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreState {
    /// Asked for; no worker has it. Leaves by `Claimed`, `Cancelled` (acknowledged at once: nobody writes), `Failed`.
    Queued,
    /// A worker stages the data (or builds the archive); the target is as it was.
    /// Leaves by `CutOver`, `Ready`, `Planned`, `CancelRequested`, `Failed`.
    Running,
    /// Cancel was asked for in time; a worker may still be cleaning up. Leaves by `Cancelled`.
    Cancelling,
    /// The target is being switched; finished by this or the next attempt, never undone.
    /// Leaves by `Finished`, `Failed`.
    CutOver,
    /// The archive waits at its URL. Leaves by `Expired`, `Cancelled`.
    Ready,
    /// The target was proved equal. No exit.
    Finished,
    /// It could not be done; the reason is recorded. No exit.
    Failed,
    /// Cancelled, or asked for its plan alone, and no worker can write to the target any more. No exit.
    Cancelled,
    /// The archive was fetched as often as it may be, or its time has passed. No exit.
    Expired,
}

/// What can happen to a restore job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreEvent {
    /// A worker took it up (or took it over).
    Claimed,
    /// The user asked to cancel.
    CancelRequested,
    /// The worker has cleaned up after a cancel.
    Cancelled,
    /// The worker begins to switch the target.
    CutOver,
    /// The archive is complete.
    Ready,
    /// The plan that was asked for is made; nothing was restored, so nobody may see the job as finished.
    Planned,
    /// The target was proved equal.
    Finished,
    /// It cannot be done.
    Failed,
    /// The archive was fetched or its time is over.
    Expired,
}

/// The answer to a cancel request that cannot be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRefusal {
    /// The cut-over has begun, or the job has finished or failed.
    TooLate,
    /// The archive has expired already.
    Expired,
}

impl RestoreState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::CutOver,
        Self::Ready,
        Self::Finished,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word in the catalog and under `/api/ebbtide/v1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::CutOver => "cutOver",
            Self::Ready => "ready",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing happens any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Whether a worker owns or will own the job.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Cancelling | Self::CutOver)
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when this state has no such exit.
    pub fn next(self, event: RestoreEvent) -> Result<Self, IllegalTransition> {
        use RestoreEvent as E;
        let next = match (self, event) {
            (Self::Queued | Self::Running, E::Claimed) => Some(Self::Running),
            (Self::Cancelling, E::Claimed | E::CancelRequested) => Some(Self::Cancelling),
            (Self::CutOver, E::Claimed | E::CutOver) => Some(Self::CutOver),
            (Self::Queued, E::CancelRequested) | (Self::Ready, E::CancelRequested) => Some(Self::Cancelled),
            (Self::Running, E::CancelRequested) => Some(Self::Cancelling),
            (Self::Cancelled, E::CancelRequested) => Some(Self::Cancelled),
            (Self::Cancelling, E::Cancelled) => Some(Self::Cancelled),
            (Self::Running, E::CutOver) => Some(Self::CutOver),
            (Self::Running, E::Ready) => Some(Self::Ready),
            (Self::Running, E::Planned) => Some(Self::Cancelled),
            (Self::CutOver, E::Finished) => Some(Self::Finished),
            (Self::Queued | Self::Running | Self::CutOver | Self::Cancelling, E::Failed) => {
                Some(Self::Failed)
            }
            (Self::Ready, E::Expired) => Some(Self::Expired),
            (
                Self::Queued
                | Self::Running
                | Self::Cancelling
                | Self::CutOver
                | Self::Ready
                | Self::Finished
                | Self::Failed
                | Self::Cancelled
                | Self::Expired,
                _,
            ) => None,
        };
        next.ok_or_else(|| IllegalTransition {
            machine: "restore job",
            state: self.as_str().to_owned(),
            event: format!("{event:?}"),
        })
    }

    /// What a cancel request makes of this state: the next state, or why not.
    ///
    /// # Errors
    /// [`CancelRefusal`] when it is too late.
    pub fn cancel(self) -> Result<Self, CancelRefusal> {
        self.next(RestoreEvent::CancelRequested).map_err(|_| match self {
            Self::Expired => CancelRefusal::Expired,
            _ => CancelRefusal::TooLate,
        })
    }
}

impl FromStr for RestoreState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown restore state {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [RestoreEvent; 9] = [
        RestoreEvent::Claimed,
        RestoreEvent::CancelRequested,
        RestoreEvent::Cancelled,
        RestoreEvent::CutOver,
        RestoreEvent::Ready,
        RestoreEvent::Planned,
        RestoreEvent::Finished,
        RestoreEvent::Failed,
        RestoreEvent::Expired,
    ];

    #[test]
    fn final_states_stay() {
        for state in RestoreState::ALL.into_iter().filter(|s| s.is_final()) {
            for event in EVENTS {
                assert!(state.next(event).map_or(true, |next| next == state), "{state:?} left by {event:?}");
            }
        }
    }

    #[test]
    fn a_cut_over_cannot_be_cancelled_and_a_cancel_cannot_cut_over() {
        assert_eq!(RestoreState::CutOver.cancel(), Err(CancelRefusal::TooLate));
        assert!(RestoreState::Cancelling.next(RestoreEvent::CutOver).is_err());
        assert!(RestoreState::Cancelled.next(RestoreEvent::CutOver).is_err());
    }

    #[test]
    fn cancelled_is_shown_only_once_nobody_writes() {
        assert_eq!(RestoreState::Running.cancel(), Ok(RestoreState::Cancelling));
        assert_eq!(RestoreState::Queued.cancel(), Ok(RestoreState::Cancelled));
        assert_eq!(RestoreState::Expired.cancel(), Err(CancelRefusal::Expired));
    }
}
