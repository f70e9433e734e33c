//! What operations do: writes of documents by collection and key, changes of definitions, and what cannot be folded.
//!
//! Everything is keyed by the collection's UUID. Operations without an effect of their own on data are passed over:
//! notes, retry images, index builds that begin.

mod coalesce;
mod interpret;
mod record;
mod runs;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

pub use coalesce::{Coalesced, Outcome, Patch, Pending};
pub use interpret::{Effect, interpret};
pub use record::{push_record, record_bytes, split_record};
pub use runs::{CoalescedRuns, MergedRuns, coalesce, merge};

use crate::{ClusterTime, CollectionId, SortKey, diff::DiffError, diff::Mismatch};

/// Where a change stands among all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// When it takes effect.
    pub time: ClusterTime,
    /// Counts changes in the order in which the record gives them; tells those of one time apart.
    pub order: u64,
}

/// What is done to one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<'a> {
    /// It comes into being; this is the whole of it.
    Insert(Cow<'a, [u8]>),
    /// It becomes this, whole.
    Replace(Cow<'a, [u8]>),
    /// It becomes what this diff makes of it.
    Patch(Cow<'a, [u8]>),
    /// It becomes what this diff makes of it, fitting or not, or of a new document if it is not there. So the server
    /// applies what users give to `applyOps` (mongorestore replays an oplog with it).
    Reapply {
        /// The new document: only `_id`.
        new: Cow<'a, [u8]>,
        /// The diff.
        diff: Cow<'a, [u8]>,
    },
    /// It goes away.
    Delete,
}

impl Write<'_> {
    /// Bytes of documents and diffs.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Insert(bytes) | Self::Replace(bytes) | Self::Patch(bytes) => bytes.len(),
            Self::Reapply { new, diff } => new.len() + diff.len(),
            Self::Delete => 0,
        }
    }

    /// The same for a document that may be there or not: an insert replaces it.
    pub fn whatever_was(self) -> Self {
        match self {
            Self::Insert(document) => Self::Replace(document),
            other => other,
        }
    }

    /// The same with bytes of its own.
    pub fn into_owned(self) -> Write<'static> {
        match self {
            Self::Insert(document) => Write::Insert(document.into_owned().into()),
            Self::Replace(document) => Write::Replace(document.into_owned().into()),
            Self::Patch(diff) => Write::Patch(diff.into_owned().into()),
            Self::Reapply { new, diff } => {
                Write::Reapply { new: new.into_owned().into(), diff: diff.into_owned().into() }
            }
            Self::Delete => Write::Delete,
        }
    }
}

/// One write in its place. Sorts by collection, then key, then position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// The collection.
    pub collection: CollectionId,
    /// The document.
    pub key: SortKey,
    /// When.
    pub position: Position,
    /// What.
    pub write: Write<'a>,
}

impl Change<'_> {
    fn rank(&self) -> (CollectionId, &SortKey, Position) {
        (self.collection, &self.key, self.position)
    }
}

impl PartialOrd for Change<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Change<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// What an operation that cannot be folded makes unknown, from its time on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// One collection.
    Collection(CollectionId),
    /// Whatever has this namespace then.
    Namespace(String),
    /// All collections: it cannot be told which.
    Everything,
}

/// Why something cannot be folded. A fact that is recorded and shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A kind of operation, a field or a form that this version does not know.
    #[error("{0} is not known")]
    Unknown(String),
    /// A command that this version does not know.
    #[error("the command {0} is not known")]
    UnknownCommand(String),
    /// `$set` and `$unset` of a feature compatibility version of 4.4, or of a user's own `applyOps`.
    #[error("updates with $set in the oplog are not folded (is the feature compatibility version 4.4?)")]
    Modifiers,
    /// An operation on a document that does not say of which collection.
    #[error("an operation does not name its collection")]
    NoCollection,
    /// A document that has no `_id`, or one that cannot be.
    #[error("a document has no _id: {0}")]
    NoId(&'static str),
    /// A replacement whose `_id` is not that of the document.
    #[error("a replacement has another _id than the document")]
    OtherId,
    /// A `Timestamp(0,0)` in a document of a user's `applyOps`: the server stored a time of its own instead, and did not
    /// log it.
    #[error(
        "an applyOps of a user wrote a Timestamp(0,0), for which the server stored a time that it did not log"
    )]
    UnloggedTime,
    /// A write of a user's `applyOps` in a collection with a collation, in which the server looked for the document: the `_id` that
    /// was logged need not be the one that it has.
    #[error(
        "an applyOps of a user wrote to a collection with a collation, in which other documents may have been found"
    )]
    FoundInCollation,
    /// Operations nested deeper than servers do.
    #[error("operations are nested too deep")]
    Nested,
    /// A collection got a recorded name while its writes had not been recorded.
    #[error("the collection came from a namespace that is not recorded")]
    FromElsewhere,
    /// An update of a document that is not there.
    #[error("an update of a document that is not there")]
    MissingDocument,
    /// A document was inserted that is there.
    #[error("an insert of a document that is there")]
    AlreadyThere,
    /// A diff that was not made from the document.
    #[error("a diff does not fit the document: {}", .0.describe())]
    Misfit(Mismatch),
    /// A diff that cannot be applied.
    #[error(transparent)]
    Diff(#[from] DiffError),
}

/// What cannot be folded, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfoldable {
    /// What.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Unfoldable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Collection(id) => write!(f, "collection {id}: {}", self.reason),
            Scope::Namespace(namespace) => write!(f, "{namespace}: {}", self.reason),
            Scope::Everything => write!(f, "all collections: {}", self.reason),
        }
    }
}

/// A change that contradicts what is known of the document: the base or the record is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {}: {reason}", .at.time)]
pub struct Defect {
    /// The change.
    pub at: Position,
    /// What is wrong.
    pub reason: Reason,
}
