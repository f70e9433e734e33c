//! How far a collection restore is: what its worker tells of each collection, and what that makes to be shown.
//!
//! A worker tells what it does ([`CollectionStep`]); what that amounts to depends on what became of the job, and is worked
//! out when somebody asks. So a job that ends in whatever way leaves nothing behind that says it is still going on.

use std::str::FromStr;

use super::IndexStrategy;
use crate::restore::RestoreState;

/// Words of an enumeration, in the catalog and on the wire.
macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident = $word:literal),*) => {
        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|state| state.as_str() == text);
                found.ok_or_else(|| format!(concat!("unknown ", $what, " {:?}"), text))
            }
        }
    };
}

/// What the worker did last for a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CollectionStep {
    /// Nothing yet.
    Waiting,
    /// Its documents are being loaded beside what is there.
    Loading,
    /// All documents are loaded, its indexes are being built.
    Indexing,
    /// It lies ready beside what is there.
    Staged,
    /// It has its name.
    InPlace,
    /// The state has nothing of that name.
    NotFound,
    /// It is something that is not restored by itself: a view, a time series, stored functions.
    Unsupported,
    /// It could not be loaded.
    Failed,
    /// Its indexes could not be built.
    IndexesFailed,
}

words!(
    CollectionStep,
    "step of a collection",
    Waiting = "waiting",
    Loading = "loading",
    Indexing = "indexing",
    Staged = "staged",
    InPlace = "inPlace",
    NotFound = "notFound",
    Unsupported = "unsupported",
    Failed = "failed",
    IndexesFailed = "indexesFailed"
);

/// What is shown of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CollectionState {
    /// Nothing was done yet.
    NotStarted,
    /// It is loaded or indexed, or waits for the others.
    InProgress,
    /// It is put in its place, or is there and not yet proved.
    Finalizing,
    /// The state has nothing of that name.
    NotFound,
    /// It cannot be restored by itself.
    Unsupported,
    /// It is in its place, and proved equal.
    Successful,
    /// What was loaded of it is being removed.
    Rollback,
    /// It was not restored, because the job ended before.
    NotRestored,
    /// It could not be restored.
    Failed,
    /// Its indexes could not be built.
    IndexBuildFailed,
}

words!(
    CollectionState,
    "state of a collection",
    NotStarted = "NOT_STARTED",
    InProgress = "IN_PROGRESS",
    Finalizing = "FINALIZING",
    NotFound = "NOT_FOUND",
    Unsupported = "UNSUPPORTED",
    Successful = "SUCCESSFUL",
    Rollback = "ROLLBACK",
    NotRestored = "NOT_RESTORED",
    Failed = "FAILED",
    IndexBuildFailed = "INDEX_BUILD_FAILED"
);

/// What is shown of indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexState {
    /// None was begun.
    NotStarted,
    /// They are being built.
    InProgress,
    /// All that were wanted are there.
    Successful,
    /// They could not be built.
    Failed,
    /// There are none, because none were wanted or nothing was restored.
    NotRestored,
}

words!(
    IndexState,
    "state of indexes",
    NotStarted = "NOT_STARTED",
    InProgress = "IN_PROGRESS",
    Successful = "SUCCESSFUL",
    Failed = "FAILED",
    NotRestored = "NOT_RESTORED"
);

/// What is shown of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CollectionRestoreState {
    /// Nobody has found out yet what is restored.
    Initializing,
    /// Collections are loaded beside what is there.
    InProgress,
    /// They are put in their places and proved.
    Finalizing,
    /// All were restored.
    Successful,
    /// It was cancelled; the target is as it was.
    Canceled,
    /// It failed, and says why.
    Failed,
}

words!(
    CollectionRestoreState,
    "state of a collection restore",
    Initializing = "INITIALIZING",
    InProgress = "IN_PROGRESS",
    Finalizing = "FINALIZING",
    Successful = "SUCCESSFUL",
    Canceled = "CANCELED",
    Failed = "FAILED"
);

impl CollectionRestoreState {
    /// Of a job in that state, whose worker has or has not told yet what is restored.
    pub const fn of(job: RestoreState, is_told: bool) -> Self {
        match job {
            RestoreState::Queued => Self::Initializing,
            RestoreState::Running | RestoreState::Cancelling if !is_told => Self::Initializing,
            RestoreState::Running | RestoreState::Cancelling => Self::InProgress,
            RestoreState::CutOver => Self::Finalizing,
            RestoreState::Finished => Self::Successful,
            RestoreState::Cancelled => Self::Canceled,
            // The last two are of archives, and no such job makes one.
            RestoreState::Failed | RestoreState::Ready | RestoreState::Expired => Self::Failed,
        }
    }
}

impl CollectionStep {
    /// Whether it is among what the job restores.
    pub const fn is_restored(self) -> bool {
        !matches!(self, Self::NotFound | Self::Unsupported)
    }

    /// What is shown of a collection, of a job in that state.
    pub const fn shown(self, job: RestoreState) -> CollectionState {
        use CollectionState as Shown;
        use RestoreState as Job;
        match (self, job) {
            (Self::NotFound, _) => Shown::NotFound,
            (Self::Unsupported, _) => Shown::Unsupported,
            (Self::Failed, Job::Queued | Job::Running | Job::Cancelling | Job::Failed) => Shown::Failed,
            (Self::IndexesFailed, Job::Queued | Job::Running | Job::Cancelling | Job::Failed) => {
                Shown::IndexBuildFailed
            }
            (_, Job::Queued) => Shown::NotStarted,
            (Self::Waiting, Job::Running) => Shown::NotStarted,
            (_, Job::Running) => Shown::InProgress,
            (Self::Waiting, Job::Cancelling) => Shown::NotRestored,
            (_, Job::Cancelling) => Shown::Rollback,
            (_, Job::CutOver) => Shown::Finalizing,
            (_, Job::Finished) => Shown::Successful,
            // It has its name and was not proved.
            (Self::InPlace, Job::Failed) => Shown::Failed,
            (_, Job::Failed | Job::Cancelled | Job::Ready | Job::Expired) => Shown::NotRestored,
        }
    }

    /// What is shown of the indexes of a collection, of a job in that state.
    pub const fn indexes(self, job: RestoreState, wanted: IndexStrategy) -> IndexState {
        if matches!(wanted, IndexStrategy::None) {
            return IndexState::NotRestored;
        }
        match self.shown(job) {
            CollectionState::NotFound
            | CollectionState::Unsupported
            | CollectionState::Rollback
            | CollectionState::NotRestored
            | CollectionState::Failed => IndexState::NotRestored,
            CollectionState::IndexBuildFailed => IndexState::Failed,
            CollectionState::Successful | CollectionState::Finalizing => IndexState::Successful,
            CollectionState::NotStarted => IndexState::NotStarted,
            CollectionState::InProgress => match self {
                Self::Indexing => IndexState::InProgress,
                Self::Staged | Self::InPlace => IndexState::Successful,
                _ => IndexState::NotStarted,
            },
        }
    }

    /// The steps that are shown as `state`, of a job in that state.
    pub fn shown_as(state: CollectionState, job: RestoreState) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |step| step.shown(job) == state)
    }
}
