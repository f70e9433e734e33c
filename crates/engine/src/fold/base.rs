//! What a fold begins with: a manifest, as a state of definitions.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;
use history::{
    ClusterTime, CollectionId,
    catalog_state::{CatalogState, Collection, Index},
};
use vault::{CollectionEntry, CollectionKind, Manifest, Principals};

use super::{FoldFailure, of_model};
use crate::lease::JobContext;

/// Why a base cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Vault(vault::Error),
    /// It can be, and what it says cannot be.
    Content(FoldFailure),
}

impl From<vault::Error> for Unreadable {
    fn from(error: vault::Error) -> Self {
        Self::Vault(error)
    }
}

/// An open manifest and all that it says of collections, but for their segments.
pub(super) struct Base {
    pub(super) manifest: Manifest,
    pub(super) at: ClusterTime,
    /// Collections by their identity.
    pub(super) collections: BTreeMap<CollectionId, CollectionEntry>,
    /// Views and time series as users see them, which have none.
    pub(super) views: Vec<CollectionEntry>,
    pub(super) principals: Option<Principals>,
}

impl Base {
    /// Reads what a job begins with; the catalog is told of damage.
    pub(super) async fn read(ctx: &JobContext, manifest: &Manifest) -> Result<Self, FoldFailure> {
        match ctx.or_stop(Self::open(manifest)).await? {
            Ok(base) => Ok(base),
            Err(Unreadable::Vault(error)) => Err(FoldFailure::of_base(ctx, error).await),
            Err(Unreadable::Content(failure)) => Err(failure),
        }
    }

    /// Reads all that the manifest says of collections.
    pub(super) async fn open(manifest: &Manifest) -> Result<Self, Unreadable> {
        let mut base = Self {
            manifest: manifest.clone(),
            at: of_model(manifest.header().cluster_time),
            collections: BTreeMap::new(),
            views: Vec::new(),
            principals: manifest.principals().await?,
        };
        let mut entries = manifest.collections();
        while let Some(entry) = entries.try_next().await? {
            base.add(entry).map_err(Unreadable::Content)?;
        }
        Ok(base)
    }

    fn add(&mut self, entry: CollectionEntry) -> Result<(), FoldFailure> {
        match (entry.meta.kind, entry.meta.uuid) {
            (CollectionKind::View | CollectionKind::TimeSeriesView, _) => self.views.push(entry),
            (_, Some(uuid)) => {
                self.collections.insert(CollectionId(uuid), entry);
            }
            (_, None) => {
                let what = format!("{}.{} has no identity", entry.meta.db, entry.meta.name);
                return Err(FoldFailure::damaged(self.manifest.name(), what));
            }
        }
        Ok(())
    }

    /// The definitions.
    pub(super) fn catalog(&self) -> CatalogState {
        let mut catalog = CatalogState::new();
        for (&id, CollectionEntry { meta, .. }) in &self.collections {
            let built = |index: &Vec<u8>| Index { specification: index.clone(), building: None };
            catalog.insert(
                id,
                Collection {
                    namespace: format!("{}.{}", meta.db, meta.name),
                    options: meta.options.clone(),
                    id_index: meta.id_index.clone(),
                    indexes: meta.indexes.iter().map(built).collect(),
                    doubt: None,
                },
            );
        }
        catalog
    }

    /// Of which time its documents of a collection are.
    pub(super) fn documents_at(&self, id: CollectionId) -> Option<model::ClusterTime> {
        self.collections.get(&id).map(|entry| entry.meta.as_of)
    }

    /// Until when collections were read that were not read at one time.
    pub(super) fn read_through(&self) -> HashMap<CollectionId, ClusterTime> {
        let through = |entry: &CollectionEntry| Some(of_model(entry.meta.read_through?));
        self.collections.iter().filter_map(|(&id, entry)| Some((id, through(entry)?))).collect()
    }

    /// Collections whose documents are of a later time than everything else: capped ones.
    pub(super) fn later(&self) -> HashMap<CollectionId, ClusterTime> {
        let as_of = self.collections.iter().map(|(&id, entry)| (id, of_model(entry.meta.as_of)));
        as_of.filter(|(_, as_of)| *as_of != self.at).collect()
    }
}
