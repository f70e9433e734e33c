//! Questions about the past, answered from the vault: a document at a cluster time, its versions, what changed in a
//! collection between two times. All of them are folds of what is asked for and of nothing else: one document of the base,
//! and the entries of the record that are about it.
//!
//! They are reads and no jobs. Nothing is written to the vault, nothing is pinned, and no deployment is asked.

mod base;
mod compare;
mod id;
mod page;
mod place;
mod show;
mod sift;
mod versions;

use std::{sync::Arc, time::Duration};

use catalog::{Snapshot, Timeline};
use model::ClusterTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vault::{Manifest, ObjectName};

use super::{
    FoldFailure, Unfoldable,
    base::{Base, Unreadable},
};
use crate::{Services, damage, lease::JobError};
pub use compare::{Definition, Difference, DocumentChange, Documents};
pub use id::DocumentId;
pub use show::Shown;
pub use versions::{Asked, Operation, Version, Versions};

/// So many questions are answered at a time, each in the memory that a fold of changes has.
const QUESTIONS_AT_A_TIME: usize = 2;
/// How long a question waits for others to be answered.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The id cannot be read.
    #[error("{0}")]
    Id(String),
    /// The text is no namespace.
    #[error("{0:?} is no namespace; one is DATABASE.COLLECTION")]
    Namespace(String),
    /// There was no collection of that name.
    #[error("there was no such collection")]
    NoCollection,
    /// The collection was there, and the document was not.
    #[error("there was no such document")]
    NoDocument,
    /// Documents of that collection cannot be looked up.
    #[error("{0}")]
    NotSearchable(String),
    /// The state cannot be computed, and why.
    #[error("{0}")]
    Unknown(String),
    /// Too many other questions are being answered.
    #[error("other questions are being answered; try again in a moment")]
    Busy,
    /// The vault or the catalog cannot be used.
    #[error(transparent)]
    Failed(#[from] JobError),
}

impl From<catalog::Error> for PastError {
    fn from(error: catalog::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<FoldFailure> for PastError {
    fn from(failure: FoldFailure) -> Self {
        match failure {
            FoldFailure::Job(error) => Self::Failed(error),
            FoldFailure::DamagedBase { source, .. } => Self::Unknown(source.full_text()),
            other => Self::Unknown(other.to_string()),
        }
    }
}

impl From<Unfoldable> for PastError {
    fn from(unfoldable: Unfoldable) -> Self {
        Self::Unknown(format!("{unfoldable}; choose a time before that, or one after the next snapshot"))
    }
}

/// How documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Json {
    /// Extended JSON that tells every type.
    #[default]
    Canonical,
    /// Extended JSON with numbers and dates as people write them.
    Relaxed,
}

impl Json {
    /// A document as text, in the order of its fields.
    ///
    /// # Errors
    /// When the bytes are no document.
    pub fn document(self, document: &[u8]) -> Result<String, PastError> {
        let mode = match self {
            Self::Canonical => crate::extjson::Mode::Canonical,
            Self::Relaxed => crate::extjson::Mode::Relaxed,
        };
        crate::extjson::document(document, mode)
            .map_err(|error| JobError::failed_by("a document of the vault cannot be read", error).into())
    }
}

/// Answers questions about the past. Clones share what bounds their memory.
#[derive(Clone)]
pub struct Past {
    services: Services,
    permits: Arc<Semaphore>,
}

impl Past {
    /// Over these services.
    pub fn new(services: Services) -> Self {
        Self { services, permits: Arc::new(Semaphore::new(QUESTIONS_AT_A_TIME)) }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, PastError> {
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.permits).acquire_owned()).await;
        permit.map_err(|_| PastError::Busy)?.map_err(|_| PastError::Busy)
    }

    /// What a fold begins with.
    async fn open(&self, snapshot: &Snapshot) -> Result<Base, PastError> {
        let name = snapshot.manifest.as_deref();
        let name = name.ok_or_else(|| PastError::Unknown(format!("the snapshot {} is gone", snapshot.id)))?;
        let name: ObjectName = name.parse().map_err(|e| {
            JobError::failed_by(format!("the catalog names no manifest for {}", snapshot.id), e)
        })?;
        let manifest = match Manifest::open(&self.services.vault, &name).await {
            Ok(manifest) => manifest,
            Err(error) => return Err(self.of_vault(error).await),
        };
        match Base::open(&manifest).await {
            Ok(base) => Ok(base),
            Err(Unreadable::Vault(error)) => Err(self.of_vault(error).await),
            Err(Unreadable::Content(failure)) => Err(failure.into()),
        }
    }

    /// What a read from the vault failed with. The catalog is told of damage.
    async fn of_vault(&self, error: vault::Error) -> PastError {
        let is_damage = error.damaged_object().is_some();
        let error = damage::noted(&self.services.catalog, error).await;
        if is_damage { PastError::Unknown(error.full_text()) } else { PastError::Failed(error) }
    }
}

/// From which snapshot on a timeline a question is answered.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The timeline.
    pub timeline: Timeline,
    /// The snapshot.
    pub snapshot: Snapshot,
}

impl Origin {
    /// From when on the states of all collections can be folded.
    fn complete_at(&self) -> ClusterTime {
        self.snapshot.last_as_of.or(self.snapshot.cluster_time).unwrap_or_default()
    }
}

/// The time as the fold knows it.
const fn of_model(time: ClusterTime) -> history::ClusterTime {
    history::ClusterTime { seconds: time.seconds, increment: time.increment }
}

/// And back.
const fn to_model(time: history::ClusterTime) -> ClusterTime {
    ClusterTime { seconds: time.seconds, increment: time.increment }
}
