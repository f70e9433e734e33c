//! Questions about the past: documents as they were, their versions, what differs between two times.
//!
//! The answers come out of the vault, where this crate cannot look. So the binary implements [`Past`], as it does the
//! reading of archives: a read, and no job.

use catalog::{Snapshot, Timeline};
use futures::future::BoxFuture;
use model::{ClusterTime, WallTime, id::DeploymentId, timeline::RestorableRange};

/// Looks into what was recorded.
pub trait Past: Send + Sync {
    /// One document at a time.
    fn document(&self, asked: DocumentAt) -> BoxFuture<'static, Result<PastDocument, PastError>>;

    /// The versions of one document, newest first.
    fn versions(&self, asked: VersionsOf) -> BoxFuture<'static, Result<PastVersions, PastError>>;

    /// What differs in a collection between two times.
    fn difference(&self, asked: DifferenceOf) -> BoxFuture<'static, Result<PastDifference, PastError>>;
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The id cannot be read, and why.
    #[error("{0}")]
    Id(String),
    /// The namespace cannot be read, and why.
    #[error("{0}")]
    Namespace(String),
    /// There was no collection of that name.
    #[error("there was no such collection")]
    NoCollection,
    /// There was no document of that id.
    #[error("there was no such document")]
    NoDocument,
    /// Documents of that collection cannot be looked up, and why.
    #[error("{0}")]
    NotSearchable(String),
    /// The state cannot be computed, and why.
    #[error("{0}")]
    Unknown(String),
    /// Too many other questions are being answered.
    #[error("too many questions are being answered")]
    Busy,
    /// The vault or the catalog cannot be used.
    #[error("the vault cannot be used")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One document at a time.
#[derive(Debug, Clone)]
pub struct DocumentAt {
    /// The timeline that has the time.
    pub timeline: Timeline,
    /// The snapshot from which on it is folded.
    pub snapshot: Snapshot,
    /// `db.collection`
    pub namespace: String,
    /// The id as it was typed.
    pub id: String,
    /// When.
    pub at: ClusterTime,
    /// Whether numbers and dates are written as people do.
    pub relaxed: bool,
}

/// A document as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastDocument {
    /// The id as it was read: extended JSON.
    pub id: String,
    /// The document: extended JSON.
    pub document: String,
    /// Its very bytes.
    pub bson: Vec<u8>,
}

/// The versions of one document.
#[derive(Debug, Clone)]
pub struct VersionsOf {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The times that are looked at, each on the timeline that has them, oldest first.
    pub ranges: Vec<(Timeline, RestorableRange)>,
    /// `db.collection`
    pub namespace: String,
    /// The id as it was typed.
    pub id: String,
    /// At most so many.
    pub limit: usize,
    /// Whether the documents are wanted, and not only what happened to them.
    pub documents: bool,
    /// Whether numbers and dates are written as people do.
    pub relaxed: bool,
}

/// Versions of a document, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersions {
    /// The id as it was read: extended JSON.
    pub id: String,
    /// The versions.
    pub versions: Vec<PastVersion>,
    /// There are earlier ones, up to this time.
    pub more_until: Option<ClusterTime>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersion {
    /// From when on.
    pub at: ClusterTime,
    /// What o'clock it was at the primary.
    pub wall: Option<WallTime>,
    /// The word for what made it.
    pub operation: &'static str,
    /// Whether there is a document from then on.
    pub exists: bool,
    /// Top-level fields that differ from the version before.
    pub changed_fields: Vec<String>,
    /// The document: extended JSON, where it was asked for.
    pub document: Option<String>,
}

/// What differs in a collection.
#[derive(Debug, Clone)]
pub struct DifferenceOf {
    /// The timeline that has both times.
    pub timeline: Timeline,
    /// The snapshot from which on the earlier one is folded.
    pub snapshot: Snapshot,
    /// `db.collection`
    pub namespace: String,
    /// The earlier time.
    pub from: ClusterTime,
    /// The later one.
    pub to: ClusterTime,
    /// So many documents are shown at most; all are counted.
    pub limit: usize,
    /// Whether numbers and dates are written as people do.
    pub relaxed: bool,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastDifference {
    /// In the definition of the collection.
    pub definition: Vec<DefinitionChange>,
    /// In its documents; none where the collection is not the same one at both times.
    pub documents: Option<DocumentChanges>,
}

/// One change of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionChange {
    /// The word for it.
    pub change: &'static str,
    /// The name that the collection has now, where that is what changed.
    pub renamed_to: Option<String>,
    /// What there was: extended JSON.
    pub before: Option<String>,
    /// What there is: extended JSON.
    pub after: Option<String>,
}

/// Changes of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChanges {
    /// How many are new.
    pub added: u64,
    /// How many are gone.
    pub removed: u64,
    /// How many are others than they were.
    pub changed: u64,
    /// The first of them.
    pub shown: Vec<DocumentChange>,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChange {
    /// Its id: extended JSON.
    pub id: String,
    /// As it was: extended JSON.
    pub before: Option<String>,
    /// As it is: extended JSON.
    pub after: Option<String>,
}
