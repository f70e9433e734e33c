//! What a snapshot holds, by name, read out of its manifest: a read, and no job. Nothing is pinned, and nothing is kept.

use std::collections::BTreeSet;

use catalog::Snapshot;
use futures::TryStreamExt as _;
use vault::{CollectionKind, Manifest, ObjectName};

use crate::{Services, damage, lease::JobError};

/// Why a snapshot cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It has been deleted.
    #[error("the snapshot is gone")]
    Gone,
    /// What the vault has of it is damaged. The catalog was told.
    #[error("{0}")]
    Damaged(String),
    /// The vault or the catalog cannot be used.
    #[error(transparent)]
    Failed(#[from] JobError),
}

/// Looks into snapshots.
#[derive(Clone)]
pub struct Contents {
    services: Services,
}

impl Contents {
    /// Over these services.
    pub fn new(services: Services) -> Self {
        Self { services }
    }

    /// The databases of a snapshot, in the order of their names.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub async fn databases(&self, snapshot: &Snapshot) -> Result<Vec<String>, ContentsError> {
        let mut names = BTreeSet::new();
        self.each(snapshot, |db, _, _| {
            if !names.contains(db) {
                names.insert(db.to_owned());
            }
        })
        .await?;
        Ok(names.into_iter().collect())
    }

    /// What users know in one database of it, in the order of the names: collections, views, time series, stored functions.
    /// Nothing when the snapshot has no such database.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub async fn collections(
        &self,
        snapshot: &Snapshot,
        database: &str,
    ) -> Result<Option<Vec<String>>, ContentsError> {
        let mut names = None::<BTreeSet<String>>;
        self.each(snapshot, |db, name, kind| {
            if db == database {
                let names = names.get_or_insert_default();
                if is_known_to_users(kind) {
                    names.insert(name.to_owned());
                }
            }
        })
        .await?;
        Ok(names.map(|names| names.into_iter().collect()))
    }

    /// Shows everything that the manifest lists, page by page.
    async fn each(
        &self,
        snapshot: &Snapshot,
        mut show: impl FnMut(&str, &str, CollectionKind),
    ) -> Result<(), ContentsError> {
        let name = snapshot.manifest.as_deref().ok_or(ContentsError::Gone)?;
        let name: ObjectName = name.parse().map_err(|e| {
            JobError::failed_by(format!("the catalog names no manifest for {}", snapshot.id), e)
        })?;
        let read = async {
            let manifest = Manifest::open(&self.services.vault, &name).await?;
            let mut entries = manifest.collections();
            while let Some(entry) = entries.try_next().await? {
                show(&entry.meta.db, &entry.meta.name, entry.meta.kind);
            }
            Ok(())
        };
        match read.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.of_vault(snapshot, error).await?),
        }
    }

    /// What a read from the vault failed with. A snapshot that goes takes its objects along.
    async fn of_vault(&self, snapshot: &Snapshot, error: vault::Error) -> Result<ContentsError, JobError> {
        let is_damage = error.damaged_object().is_some();
        let now = self.services.catalog.snapshots().get(snapshot.id).await?;
        if now.is_none_or(|now| now.manifest.is_none()) {
            return Ok(ContentsError::Gone);
        }
        let error = damage::noted(&self.services.catalog, error).await;
        Ok(if is_damage { ContentsError::Damaged(error.full_text()) } else { error.into() })
    }
}

/// Whether it goes by a name that users gave it, and not by one under which a server keeps it.
const fn is_known_to_users(kind: CollectionKind) -> bool {
    match kind {
        CollectionKind::Plain
        | CollectionKind::Capped
        | CollectionKind::Clustered
        | CollectionKind::TimeSeriesView
        | CollectionKind::View
        | CollectionKind::SystemJs => true,
        CollectionKind::TimeSeriesBuckets | CollectionKind::SystemViews => false,
    }
}
