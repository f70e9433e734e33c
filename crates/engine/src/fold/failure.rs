//! Why a fold ended without a manifest.

use std::fmt;

use history::{
    ClusterTime, SortKey,
    change::{Defect, Reason},
};
use vault::ObjectName;

use crate::{damage, lease::JobContext, lease::JobError};

/// So many collections are named in the text of a failure.
const NAMED_MAX: usize = 20;

/// What stands in the way of the fold of one collection. Never a guess: what is named here has to be read from the
/// deployment again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An operation that cannot be folded.
    #[error(transparent)]
    Operation(#[from] Reason),
    /// A change contradicts the document in the base.
    #[error("the document with the key {key:?}: {defect}")]
    Document {
        /// The document.
        key: SortKey,
        /// The contradiction.
        defect: Defect,
    },
    /// It is not known what the definition is, in words.
    #[error("its definition is not known: {0}")]
    Definition(String),
    /// It came from a collection that the base does not have.
    #[error("it came from {0}, which the base does not have")]
    NotInBase(String),
    /// It is capped and was written to where the oplog does not tell what leaves it.
    #[error(
        "it is capped, and below the feature compatibility version 5.0 the oplog does not tell which documents such a collection \
         loses; setFeatureCompatibilityVersion ends that"
    )]
    UnloggedEvictions,
    /// A capped collection, or one that is always held in memory, changed by more than may be held.
    #[error("it changed by more than {0} bytes, and no more of it is held in memory")]
    TooMuch(usize),
}

/// One collection that cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfoldable {
    /// Its name at the time asked for; none when it cannot be told which collections are meant.
    pub namespace: Option<String>,
    /// From when on, where that is known.
    pub since: Option<ClusterTime>,
    /// Why.
    pub obstacle: Obstacle,
}

impl fmt::Display for Unfoldable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.namespace.as_deref().unwrap_or("all collections"))?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        write!(f, ": {}", self.obstacle)
    }
}

/// Why a fold ended without a manifest.
#[derive(Debug, thiserror::Error)]
pub enum FoldFailure {
    /// These collections have to be read from the deployment; all others could be folded, as far as the fold went.
    #[error("cannot be folded: {}", listed(.0))]
    Unfoldable(Vec<Unfoldable>),
    /// A transaction that was prepared before the time asked for may still take effect before it.
    #[error(
        "the state at {at} is not decided yet: a transaction prepared at {prepared} is open where the record of \
         operations ends, at {record_ends}; try again when it has ended"
    )]
    Undecided {
        /// The time asked for.
        at: ClusterTime,
        /// The transaction.
        prepared: ClusterTime,
        /// Where the record ends.
        record_ends: ClusterTime,
    },
    /// The record does not reach from the base to the time asked for.
    #[error(
        "the record of operations reaches from {from} to {to}, and from {base} to {at} is needed; choose another time or \
         another snapshot"
    )]
    OutOfRecord {
        /// Where the record begins.
        from: ClusterTime,
        /// Where it ends.
        to: ClusterTime,
        /// The time of the base.
        base: ClusterTime,
        /// The time asked for.
        at: ClusterTime,
    },
    /// The record contradicts itself.
    #[error("the record of operations is broken at {at}: {what}")]
    BrokenRecord {
        /// Where.
        at: ClusterTime,
        /// What is wrong, in words.
        what: String,
    },
    /// An object of the base is missing or damaged.
    #[error("{object} of the snapshot that is the base cannot be used")]
    DamagedBase {
        /// The object.
        object: ObjectName,
        /// What is wrong with it.
        #[source]
        source: JobError,
    },
    /// Open transactions are larger than what may be held in memory.
    #[error(
        "transactions that are open at {at} hold {bytes} bytes, and no more than {bytes_max} are held in memory"
    )]
    LargeTransactions {
        /// The entry.
        at: ClusterTime,
        /// What they hold.
        bytes: usize,
        /// What may be held.
        bytes_max: usize,
    },
    /// Anything else that ends a job.
    #[error(transparent)]
    Job(#[from] JobError),
}

fn listed(unfoldable: &[Unfoldable]) -> String {
    let mut text: Vec<_> = unfoldable.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if let Some(more) = unfoldable.len().checked_sub(NAMED_MAX).filter(|&more| more > 0) {
        text.push(format!("and {more} more"));
    }
    text.join("; ")
}

impl From<FoldFailure> for JobError {
    fn from(failure: FoldFailure) -> Self {
        match failure {
            FoldFailure::Job(error) => error,
            FoldFailure::DamagedBase { source, .. } => source,
            undecided @ FoldFailure::Undecided { .. } => {
                Self::retry_by("the state cannot be folded yet", undecided)
            }
            other => Self::failed_by("the state cannot be folded", other),
        }
    }
}

impl FoldFailure {
    /// What a read of the base failed with. The catalog is told of the object when one is damaged.
    pub(super) async fn of_base(ctx: &JobContext, error: vault::Error) -> Self {
        let object = error.damaged_object().copied();
        let source = damage::noted(ctx.catalog(), error).await;
        match object {
            Some(object) => Self::DamagedBase { object, source },
            None => Self::Job(source),
        }
    }

    /// An object of the base is not what it should be, as its content shows.
    pub(super) fn damaged(object: ObjectName, what: impl Into<String>) -> Self {
        let source = JobError::failed(format!("{object} is damaged: {}", what.into()));
        Self::DamagedBase { object, source }
    }
}

/// Why the fold of one collection ended.
pub(super) enum Ended {
    /// It cannot be folded; others can.
    Obstacle(Obstacle),
    /// Nothing can be folded.
    Failure(FoldFailure),
}

impl<E: Into<FoldFailure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}
