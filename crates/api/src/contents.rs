//! What a snapshot holds, by name.
//!
//! A snapshot's names are in its manifest, and manifests are in the vault, where this crate cannot look. So the binary
//! implements [`Contents`], as it does [`Past`](crate::Past): a read, and no job.

use catalog::Snapshot;
use futures::future::BoxFuture;

/// Looks into snapshots.
pub trait Contents: Send + Sync {
    /// The databases of a completed snapshot, in the order of their names.
    fn databases(&self, snapshot: Snapshot) -> BoxFuture<'static, Result<Vec<String>, ContentsError>>;

    /// What its users know in one database of it, in the order of the names: collections, views, time series. Nothing when
    /// the snapshot has no such database.
    fn collections(
        &self,
        snapshot: Snapshot,
        database: String,
    ) -> BoxFuture<'static, Result<Option<Vec<String>>, ContentsError>>;
}

/// Why a snapshot cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The snapshot has been deleted in the meantime.
    #[error("the snapshot is gone")]
    Gone,
    /// What the vault has of it is damaged, and what to do.
    #[error("{0}")]
    Damaged(String),
    /// The vault or the catalog cannot be used.
    #[error("the vault cannot be used")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
