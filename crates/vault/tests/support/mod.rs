//! What a snapshot of the golden vault holds, by way of what every user of the vault can call.

use std::{collections::BTreeMap, path::Path};

use ebbtide_vault::{
    CollectionEntry, CollectionKind, Delta, Location, Manifest, MasterKey, Order, S3Options, Vault,
};
use futures::TryStreamExt as _;
use history::{
    CollectionId, SortKey,
    change::{Change, Coalesced, Outcome},
    raw,
};

/// The snapshot that is all segments.
pub(crate) const WHOLE: &str = "650000000101010101010101";
/// The snapshot that has deltas.
pub(crate) const WITH_DELTAS: &str = "650000050101010101010101";

pub(crate) async fn golden_vault() -> Vault {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    // Not by the file: git keeps no permissions, and key files that others can read are refused.
    let key = golden.join("master.key").to_str().unwrap().to_owned();
    let master = MasterKey::from_command(&["cat".to_owned(), key]).unwrap();
    let location = Location::parse(golden.join("vault").to_str().unwrap(), S3Options::default()).unwrap();
    Vault::open(&location, &master).await.unwrap()
}

pub(crate) async fn snapshot(vault: &Vault, id: &str) -> Manifest {
    for listed in vault.list_manifests().try_collect::<Vec<_>>().await.unwrap() {
        let manifest = Manifest::open(vault, &listed.name).await.unwrap();
        if manifest.header().snapshot_id.to_string() == id {
            return manifest;
        }
    }
    panic!("there is no snapshot {id}")
}

/// Per collection its documents at the time of the snapshot, in its order.
pub(crate) async fn state(vault: &Vault, manifest: &Manifest) -> Vec<(String, Vec<Vec<u8>>)> {
    let changes = changes(vault, manifest).await;
    let mut state = Vec::new();
    for collection in manifest.collections().try_collect::<Vec<_>>().await.unwrap() {
        let documents = documents(vault, manifest, &collection, &changes).await;
        state.push((collection.meta.name, documents));
    }
    state
}

/// All changes, by place and time.
async fn changes(vault: &Vault, manifest: &Manifest) -> Vec<Change<'static>> {
    let mut changes = Vec::new();
    for run in manifest.delta_runs() {
        for entry in manifest.deltas(run).try_collect::<Vec<_>>().await.unwrap() {
            let delta = Delta::open(vault, &entry.name).await.unwrap();
            for at in 0..delta.blocks().len() {
                let block = delta.read_block(at).await.unwrap();
                let owned = |change: Change<'_>| Change { write: change.write.into_owned(), ..change };
                changes.extend(Delta::changes(&block).map(owned));
            }
        }
    }
    changes.sort_unstable();
    changes
}

async fn documents(
    vault: &Vault,
    manifest: &Manifest,
    collection: &CollectionEntry,
    changes: &[Change<'_>],
) -> Vec<Vec<u8>> {
    let segments: Vec<_> = manifest.segments(collection).try_collect().await.unwrap();
    let mut whole = Vec::new();
    let mut by_key = BTreeMap::new();
    for entry in &segments {
        let bytes = vault.read_segment(entry).await.unwrap().into_bytes();
        for document in raw::documents(&bytes) {
            let document = document.unwrap();
            by_key.insert(SortKey::of_document(document).unwrap(), document.to_vec());
            whole.push(document.to_vec());
        }
    }
    if collection.meta.order == Order::Natural || collection.meta.kind == CollectionKind::View {
        return whole;
    }
    let is_pending = |change: &&Change<'_>| {
        // The segment whose stretch of keys this is: the last that does not begin behind it, or else the first.
        let key = change.key.as_bytes();
        let at = segments.partition_point(|entry| entry.first_key.as_slice() <= key).saturating_sub(1);
        let time = (change.position.time.seconds, change.position.time.increment);
        change.collection == CollectionId(collection.meta.uuid.unwrap())
            && segments.get(at).is_some_and(|entry| time > (entry.as_of.seconds, entry.as_of.increment))
    };
    let pending: Vec<_> = changes.iter().filter(is_pending).collect();
    for of_one in pending.chunk_by(|change, next| change.key == next.key) {
        let mut coalesced = Coalesced::new(of_one[0].write.clone(), of_one[0].position);
        of_one[1..].iter().for_each(|change| coalesced.then(change.write.clone(), change.position));
        let mut after = Vec::new();
        let before = by_key.get(&of_one[0].key).map(Vec::as_slice);
        match coalesced.onto(before, &mut after).unwrap() {
            Outcome::Document => by_key.insert(of_one[0].key.clone(), after),
            Outcome::Absent => by_key.remove(&of_one[0].key),
        };
    }
    by_key.into_values().collect()
}
