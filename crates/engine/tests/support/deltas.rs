//! What a snapshot is with the changes that it keeps beside its segments, change by change and document by document.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use history::{
    ClusterTime, CollectionId, SortKey,
    change::{Change, Coalesced, Outcome},
};
use vault::{Delta, Manifest, Order, SegmentEntry, Vault};

/// All changes of one collection, from the oldest run to the newest.
async fn changes(vault: &Vault, manifest: &Manifest, id: CollectionId) -> Vec<Change<'static>> {
    let mut changes = vec![];
    for run in manifest.delta_runs() {
        for entry in manifest.deltas(run).try_collect::<Vec<_>>().await.unwrap() {
            let delta = Delta::open(vault, &entry.name).await.unwrap();
            for at in 0..delta.blocks().len() {
                let block = delta.read_block(at).await.unwrap();
                let of_block = Delta::changes(&block).filter(|change| change.collection == id);
                changes.extend(of_block.map(|change| Change { write: change.write.into_owned(), ..change }));
            }
        }
    }
    changes
}

/// The documents of a collection with these segments.
pub async fn documents(
    vault: &Vault,
    manifest: &Manifest,
    id: Option<[u8; 16]>,
    segments: Vec<SegmentEntry>,
) -> Vec<Vec<u8>> {
    let changes = match id {
        Some(id) => changes(vault, manifest, CollectionId(id)).await,
        None => vec![],
    };
    let mut documents = vec![];
    for (n, entry) in segments.iter().enumerate() {
        let segment = vault.read_segment(entry).await.unwrap();
        if entry.order == Order::Natural {
            documents.extend(segment.documents().map(<[u8]>::to_vec));
            continue;
        }
        let key = |document: &[u8]| SortKey::of_document(document).unwrap().into_bytes();
        let mut by_key: BTreeMap<Vec<u8>, Vec<u8>> =
            segment.documents().map(|document| (key(document), document.to_vec())).collect();
        let as_of = ClusterTime { seconds: entry.as_of.seconds, increment: entry.as_of.increment };
        let from = if n == 0 { &[][..] } else { &entry.first_key };
        let to = segments.get(n + 1).map(|next| &next.first_key[..]);
        for change in &changes {
            let key = change.key.as_bytes();
            if key < from || to.is_some_and(|to| key >= to) || change.position.time <= as_of {
                continue;
            }
            let mut after = vec![];
            let before = by_key.get(key).map(Vec::as_slice);
            match Coalesced::new(change.write.clone(), change.position).onto(before, &mut after).unwrap() {
                Outcome::Document => by_key.insert(key.to_vec(), after),
                Outcome::Absent => by_key.remove(key),
            };
        }
        documents.extend(by_key.into_values());
    }
    documents
}
