//! What has changed beside a segment, for whoever looks for single documents.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use history::{
    ClusterTime, CollectionId, ContentSum, SortKey,
    change::{Coalesced, Defect, Outcome},
    fold::{Documents, FoldError, fold},
    raw,
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
    /// Whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What the changes make of all documents of a segment, back to back, and the sum of that.
    ///
    /// # Errors
    /// [`FoldError`]: why they do not fit.
    pub(crate) fn onto_all(
        self,
        documents: &[u8],
    ) -> Result<(Vec<u8>, ContentSum), FoldError<history::Malformed>> {
        let changes = self.changes.into_iter().map(|(key, change)| Ok((SortKey::from_bytes(key), change)));
        let (mut out, mut content) = (Vec::with_capacity(documents.len()), ContentSum::default());
        fold(&mut InSegment(raw::documents(documents)), &mut { changes }, |_, folded| {
            if let Some(after) = folded.after() {
                out.extend_from_slice(after);
                content.add(after);
            }
            Ok(())
        })?;
        Ok((out, content))
    }

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

/// The documents of a segment.
struct InSegment<'a>(raw::Documents<'a>);

impl Documents for InSegment<'_> {
    type Error = history::Malformed;

    fn next(&mut self) -> Result<Option<&[u8]>, history::Malformed> {
        self.0.next().transpose()
    }
}

/// The key behind this one: the exclusive end of a range that ends with it.
pub(crate) fn behind(key: &SortKey) -> Vec<u8> {
    let mut behind = key.as_bytes().to_vec();
    behind.push(0);
    behind
}
