//! What has changed beside a segment, for whoever looks for single documents.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use history::{
    ClusterTime, CollectionId, SortKey,
    change::{Coalesced, Defect, Outcome},
};
use vault::{Delta, DeltaEntry, Manifest, Vault};

/// The changes that a manifest keeps beside its segments.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    vault: Vault,
    /// The deltas of each run, from the oldest run to the newest.
    runs: Vec<Vec<DeltaEntry>>,
}

/// Changes of documents of a segment that are not applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    changes: BTreeMap<Vec<u8>, Coalesced>,
    /// What was read from the store.
    pub(crate) read_bytes: u64,
}

impl Beside {
    /// Those of a manifest.
    ///
    /// # Errors
    /// What the vault says.
    pub(crate) async fn of(vault: &Vault, manifest: &Manifest) -> vault::Result<Self> {
        let mut runs = Vec::new();
        for run in manifest.delta_runs() {
            runs.push(manifest.deltas(run).try_collect().await?);
        }
        Ok(Self { vault: vault.clone(), runs })
    }

    /// Whether there may be changes of documents of a collection, from `from` on and below `to`.
    pub(crate) fn may_touch(&self, collection: CollectionId, from: &[u8], to: Option<&[u8]>) -> bool {
        self.runs.iter().flatten().any(|entry| entry.overlaps(collection, from, to))
    }

    /// The changes after `as_of` of documents of a collection, from `from` on and below `to`.
    ///
    /// # Errors
    /// What the vault says.
    pub(crate) async fn pending(
        &self,
        collection: CollectionId,
        from: &[u8],
        to: Option<&[u8]>,
        as_of: model::ClusterTime,
    ) -> vault::Result<Pending> {
        let as_of = ClusterTime { seconds: as_of.seconds, increment: as_of.increment };
        let mut pending = Pending::default();
        for entry in self.runs.iter().flatten().filter(|entry| entry.overlaps(collection, from, to)) {
            let delta = Delta::open(&self.vault, &entry.name).await?;
            for at in delta.blocks_of(collection, from, to) {
                pending.read_bytes += delta.blocks()[at].stored_bytes;
                let block = delta.read_block(at).await?;
                for change in Delta::changes(&block) {
                    let key = change.key.as_bytes();
                    if change.collection != collection
                        || key < from
                        || to.is_some_and(|to| key >= to)
                        || change.position.time <= as_of
                    {
                        continue;
                    }
                    // Runs come in the order of their times, and so do the changes of a document in a run.
                    match pending.changes.get_mut(key) {
                        Some(coalesced) => coalesced.then(change.write, change.position),
                        None => {
                            let key = change.key.as_bytes().to_vec();
                            pending.changes.insert(key, Coalesced::new(change.write, change.position));
                        }
                    }
                }
            }
        }
        Ok(pending)
    }
}

impl Pending {
    /// The changes, by key.
    pub(crate) fn into_changes(self) -> BTreeMap<Vec<u8>, Coalesced> {
        self.changes
    }

    /// What the changes make of the document with this key, as the segment has it.
    ///
    /// # Errors
    /// Why they do not fit it.
    pub(crate) fn onto(&self, key: &[u8], stored: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Defect> {
        let Some(coalesced) = self.changes.get(key) else { return Ok(stored) };
        let mut out = Vec::new();
        match coalesced.onto(stored.as_deref(), &mut out)? {
            Outcome::Document => Ok(Some(out)),
            Outcome::Absent => Ok(None),
        }
    }
}

/// The key behind this one: the exclusive end of a range that ends with it.
pub(crate) fn behind(key: &SortKey) -> Vec<u8> {
    let mut behind = key.as_bytes().to_vec();
    behind.push(0);
    behind
}
