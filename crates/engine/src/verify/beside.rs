//! What a snapshot keeps beside its segments: that it is there, whole and in order, and that it fits the documents it is for.

use futures::TryStreamExt as _;
use history::CollectionId;
use vault::{CollectionEntry, Delta, DeltaKey, Manifest, Order, SegmentEntry, Vault};

use super::{Report, note};
use crate::fold::runs::Beside;

/// Reads every delta and checks it.
pub(super) async fn verify_runs(
    vault: &Vault,
    manifest: &Manifest,
    report: &mut Report,
) -> vault::Result<()> {
    for run in manifest.delta_runs() {
        let mut last: Option<DeltaKey> = None;
        let mut deltas = manifest.deltas(run);
        loop {
            let entry = match deltas.try_next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    note(report, None, error)?;
                    break;
                }
            };
            let checked = async { Delta::open(vault, &entry.name).await?.verify(&entry).await };
            if let Err(error) = checked.await {
                note(report, None, error)?;
            }
            if last.is_some_and(|last| last > entry.first) {
                report.fault(None, Some(&entry.name), "it overlaps the delta before it");
            }
            report.changes += entry.changes;
            last = Some(entry.last);
        }
    }
    Ok(())
}

/// Looks whether changes fit the documents of one collection.
pub(super) struct Fitting<'a> {
    vault: &'a Vault,
    /// None where there is nothing to look at.
    beside: Option<(Beside, CollectionId)>,
    /// The segment at hand, and whether it is the first one.
    current: Option<(SegmentEntry, bool)>,
}

impl<'a> Fitting<'a> {
    pub(super) async fn of(
        vault: &'a Vault,
        manifest: &Manifest,
        collection: &CollectionEntry,
    ) -> vault::Result<Self> {
        let id = collection.meta.uuid.filter(|_| collection.meta.order == Order::Sorted).map(CollectionId);
        let beside = match id {
            Some(id) if !manifest.delta_runs().is_empty() => Some((Beside::of(vault, manifest).await?, id)),
            _ => None,
        };
        Ok(Self { vault, beside, current: None })
    }

    /// Goes on to the next segment, or to the end: what belongs to the one before is known then.
    pub(super) async fn next(
        &mut self,
        next: Option<&SegmentEntry>,
        namespace: &str,
        report: &mut Report,
    ) -> vault::Result<()> {
        let is_first = self.current.is_none();
        let before = std::mem::replace(&mut self.current, next.map(|next| (next.clone(), is_first)));
        let (Some((beside, id)), Some((segment, is_first))) = (&self.beside, before) else { return Ok(()) };
        let from = if is_first { &[] } else { segment.first_key.as_slice() };
        let to = next.map(|next| next.first_key.as_slice());
        if !beside.may_touch(*id, from, to) {
            return Ok(());
        }
        let changes = beside.pending(*id, from, to, segment.as_of).await?.into_changes();
        let keys: Vec<_> = changes.keys().cloned().collect();
        let (stored, _) = self.vault.read_documents(&segment, &keys).await?;
        let mut out = Vec::new();
        for ((key, change), stored) in changes.iter().zip(stored) {
            out.clear();
            if let Err(defect) = change.onto(stored.as_deref(), &mut out) {
                let key = history::SortKey::from_bytes(key.clone());
                let what =
                    format!("what is kept of the document with the key {key:?} does not fit it: {defect}");
                report.fault(Some(namespace), Some(&segment.name), what);
            }
        }
        Ok(())
    }
}
