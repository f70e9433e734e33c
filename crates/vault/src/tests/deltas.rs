//! Deltas: changes come back as they were, and whoever looks for those of some documents misses none.

use std::collections::BTreeSet;

use history::{
    ClusterTime, CollectionId, SortKey,
    change::{Change, Position, Write},
};
use proptest::prelude::*;

use super::{block_on, document, memory, noise};
use crate::{
    Delta, DeltaBuilder, DeltaEntry, DeltaKey, Error, SealedDelta, Vault, delta::DELTA_BYTES_MAX,
    segment::BLOCK_BYTES_TARGET,
};

/// A change of the document with this key in collection `collection`, `seconds` after the beginning.
pub(super) fn change(collection: u8, key: &[u8], seconds: u32, write: Write<'static>) -> Change<'static> {
    Change {
        collection: CollectionId([collection; 16]),
        key: SortKey::from_bytes(key.to_vec()),
        position: Position { time: ClusterTime { seconds, increment: 1 }, order: u64::from(seconds) },
        write,
    }
}

pub(super) fn sealed(vault: &Vault, block_bytes: usize, changes: &[Change<'_>]) -> SealedDelta {
    let mut builder = DeltaBuilder::new().with_blocks_of(block_bytes);
    changes.iter().for_each(|change| builder.push(change).unwrap());
    builder.seal(vault).unwrap()
}

async fn stored(vault: &Vault, block_bytes: usize, changes: &[Change<'_>]) -> (DeltaEntry, Delta) {
    let sealed = sealed(vault, block_bytes, changes);
    let stored_bytes = vault.put(&sealed.object).await.unwrap();
    assert_eq!(sealed.entry.stored_bytes, stored_bytes);
    let delta = Delta::open(vault, &sealed.entry.name).await.unwrap();
    (sealed.entry, delta)
}

fn key_of(change: &Change<'_>) -> DeltaKey {
    DeltaKey { collection: change.collection, key: change.key.as_bytes().to_vec() }
}

fn writes() -> impl Strategy<Value = Write<'static>> {
    let payload = prop_oneof![Just(0usize), 1usize..60, 1_000usize..9_000];
    (0u8..5, payload).prop_map(|(kind, length)| {
        let payload = noise(length as u64, length).into_bytes();
        match kind {
            0 => Write::Insert(payload.into()),
            1 => Write::Replace(payload.into()),
            2 => Write::Patch(payload.into()),
            3 => Write::Reapply { new: document(1, "new").into(), diff: payload.into() },
            _ => Write::Delete,
        }
    })
}

/// Keys that often begin alike, up to where headers cut them and beyond, and differ in little behind that.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let alike = prop_oneof![Just(0usize), 0usize..3, 509usize..515, Just(512usize), Just(1_500usize)];
    let behind = prop::collection::vec(prop_oneof![Just(0u8), Just(b'k'), Just(255u8), any::<u8>()], 0..4);
    (alike, behind).prop_map(|(alike, behind)| [vec![b'k'; alike], behind].concat())
}

/// Changes in their order, of one document mostly several.
fn changes() -> impl Strategy<Value = Vec<Change<'static>>> {
    let one = (0u8..4, keys(), prop::collection::vec(writes(), 1..4));
    prop::collection::vec(one, 1..40).prop_map(|documents| {
        let mut seconds = 0;
        let mut changes = Vec::new();
        for (collection, key, writes) in documents {
            for write in writes {
                seconds += 1;
                changes.push(change(collection, &key, seconds, write));
            }
        }
        changes.sort_unstable();
        changes
    })
}

fn block_sizes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), 1usize..3_000, Just(BLOCK_BYTES_TARGET)]
}

async fn blocks(delta: &Delta) -> Vec<Vec<Change<'static>>> {
    let mut blocks = Vec::new();
    for at in 0..delta.blocks().len() {
        let block = delta.read_block(at).await.unwrap();
        let owned = |change: Change<'_>| Change { write: change.write.into_owned(), ..change };
        blocks.push(Delta::changes(&block).map(owned).collect());
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn changes_come_back_as_they_were(changes in changes(), block_bytes in block_sizes()) {
        block_on(async {
            let vault = memory().await;
            let (entry, delta) = stored(&vault, block_bytes, &changes).await;
            delta.verify(&entry).await.unwrap();
            let read = blocks(&delta).await;
            assert_eq!(read.concat(), changes);
            let (first, last) = (changes.first().unwrap(), changes.last().unwrap());
            assert_eq!((&entry.first, &entry.last), (&key_of(first), &key_of(last)));
            assert_eq!(entry.changes, changes.len() as u64);
            assert_eq!(entry.bytes, delta.blocks().iter().map(|block| block.bytes).sum::<u64>());
            for (block, changes) in delta.blocks().iter().zip(&read) {
                let DeltaKey { collection, mut key } = key_of(&changes[0]);
                key.truncate(512);
                assert_eq!(block.first, DeltaKey { collection, key });
                assert_eq!(block.changes, changes.len() as u64);
            }
            let behind = delta.read_block(delta.blocks().len()).await;
            assert!(matches!(behind, Err(Error::Refused { .. })));
        });
    }

    #[test]
    fn no_change_that_is_looked_for_is_missed(
        changes in changes(),
        block_bytes in block_sizes(),
        others in prop::collection::vec(keys(), 2..12),
    ) {
        block_on(async {
            let vault = memory().await;
            let (entry, delta) = stored(&vault, block_bytes, &changes).await;
            let blocks = blocks(&delta).await;
            // Bounds that are keys, that are cut as headers cut them, that lie just behind keys, and any.
            let mut bounds: BTreeSet<Vec<u8>> = others.into_iter().collect();
            for change in changes.iter().step_by(changes.len().div_ceil(12)) {
                let key = change.key.as_bytes();
                bounds.extend([key.to_vec(), key[..key.len().min(512)].to_vec(), [key, &[0]].concat()]);
            }
            for (collection, from) in (0..5).flat_map(|of| bounds.iter().map(move |from| (of, from))) {
                let collection = CollectionId([collection; 16]);
                let tos = bounds.range(from.clone()..).map(Some).chain([None]);
                for to in tos.map(|to| to.map(Vec::as_slice)) {
                    let is_wanted = |change: &Change<'_>| {
                        let key = change.key.as_bytes();
                        change.collection == collection && key >= from.as_slice() && to.is_none_or(|to| key < to)
                    };
                    let found = delta.blocks_of(collection, from, to);
                    assert!(found.end <= blocks.len());
                    for (at, block) in blocks.iter().enumerate() {
                        let wanted = block.iter().any(is_wanted);
                        assert!(!wanted || found.contains(&at), "block {at} of {collection} is not in {found:?}");
                        assert!(!wanted || entry.overlaps(collection, from, to));
                    }
                }
            }
        });
    }
}

#[tokio::test]
async fn little_more_is_read_than_what_is_looked_for() {
    let vault = memory().await;
    // A block for every change: 10 documents in each of the collections 1 and 3.
    let changes: Vec<_> = [1, 3]
        .into_iter()
        .flat_map(|of| (0..10).map(move |n| change(of, &[2 * n], 1, Write::Delete)))
        .collect();
    let (entry, delta) = stored(&vault, 1, &changes).await;
    let found = |collection: u8, from: &[u8], to: Option<&[u8]>| {
        let collection = CollectionId([collection; 16]);
        (delta.blocks_of(collection, from, to), entry.overlaps(collection, from, to))
    };
    // A block may end with the document that the next one begins with, so there is one more in front.
    assert_eq!(found(1, &[], None), (0..10, true));
    assert_eq!(found(1, &[4], Some(&[8])), (1..4, true));
    assert_eq!(found(1, &[5], Some(&[6])), (2..3, true));
    assert_eq!(found(3, &[], Some(&[2])), (9..11, true));
    assert_eq!(found(3, &[18], None), (18..20, true));
    assert_eq!(found(2, &[], None), (9..10, true));
    assert_eq!(found(0, &[], None), (0..0, false));
    assert_eq!(found(4, &[], None), (19..20, false));
    assert!(!found(1, &[], Some(&[])).1);
    assert!(!found(1, &[], Some(&[0])).1);
    assert!(!found(3, &[19], None).1);
    // Bounds that no key can lie between.
    assert!(found(1, &[8], Some(&[4])).0.is_empty());
}

#[tokio::test]
async fn documents_that_begin_alike_beyond_what_a_header_tells_are_found() {
    let vault = memory().await;
    let key = |n: u8| [vec![b'k'; 600], vec![n]].concat();
    let changes: Vec<_> = (0..9).map(|n| change(1, &key(n), 1, Write::Delete)).collect();
    let (entry, delta) = stored(&vault, 1, &changes).await;
    delta.verify(&entry).await.unwrap();
    for n in 0..9 {
        let found = delta.blocks_of(CollectionId([1; 16]), &key(n), Some(&key(n + 1)));
        assert!(found.contains(&usize::from(n)), "{n}: {found:?}");
    }
    // By what is told no block can be left out.
    assert_eq!(delta.blocks_of(CollectionId([1; 16]), &key(4), None), 0..9);
    assert!(delta.blocks_of(CollectionId([1; 16]), b"a", Some(&[b'k'; 512])).is_empty());
}

#[tokio::test]
async fn what_cannot_follow_is_refused_and_changes_nothing() {
    let vault = memory().await;
    let delete = |collection, key: &[u8], seconds| change(collection, key, seconds, Write::Delete);
    let mut builder = DeltaBuilder::new();
    assert!(builder.is_empty());
    assert!(matches!(builder.seal(&vault), Err(Error::Refused { .. })), "nothing in it");
    builder.push(&delete(2, b"key", 5)).unwrap();
    let bytes = builder.bytes();
    let mut same_time = delete(2, b"key", 5);
    same_time.position.order -= 1;
    for early in [
        delete(1, b"z", 6),
        delete(2, b"kex", 6),
        delete(2, b"ke", 6),
        delete(2, b"", 6),
        delete(2, b"key", 4),
        delete(2, b"key", 5),
        same_time,
    ] {
        assert!(matches!(builder.push(&early), Err(Error::Refused { .. })), "{early:?}");
        assert_eq!(builder.bytes(), bytes);
    }
    // What is earlier may follow when it is of another document.
    for late in [delete(2, b"key", 6), delete(2, b"key\0", 1), delete(3, b"", 1)] {
        builder.push(&late).unwrap();
    }
    let sealed = builder.seal(&vault).unwrap();
    assert_eq!((sealed.entry.changes, &sealed.entry.last), (4, &key_of(&delete(3, b"", 1))));
}

#[tokio::test]
async fn the_largest_changes_are_kept_and_no_delta_is_larger_than_it_may_be() {
    let vault = memory().await;
    let large = |id: i64| document(id, &noise(1, 16 << 20));
    // A text of zeros takes two bytes each in a key.
    let key = |n: u8| [vec![0xA5; 32 << 20], vec![n]].concat();
    let mut changes = vec![change(1, &key(1), 1, Write::Insert(large(1).into()))];
    let reapplied = Write::Reapply { new: large(2).into(), diff: large(3).into() };
    for (n, write) in [(2, Write::Replace(large(4).into())), (3, reapplied)] {
        let next = change(1, &key(n), 1, write);
        let mut builder = DeltaBuilder::new();
        changes.iter().for_each(|change| builder.push(change).unwrap());
        let bytes = builder.bytes();
        assert!(bytes <= DELTA_BYTES_MAX);
        assert!(matches!(builder.push(&next), Err(Error::Refused { .. })), "there is no room");
        assert_eq!(builder.bytes(), bytes);
        let sealed = builder.seal(&vault).unwrap();
        vault.put(&sealed.object).await.unwrap();
        let delta = Delta::open(&vault, &sealed.entry.name).await.unwrap();
        delta.verify(&sealed.entry).await.unwrap();
        assert!(blocks(&delta).await.concat() == changes);
        changes = vec![next];
    }
    // Blocks are closed at a mebibyte, and no change is cut.
    let small = |n: u8, bytes: usize| change(1, &[n], 1, Write::Insert(noise(1, bytes).into_bytes().into()));
    let half = BLOCK_BYTES_TARGET / 2;
    let changes = [small(1, half), small(2, half), small(3, 4 * half), small(4, 1)];
    let (_, delta) = stored(&vault, BLOCK_BYTES_TARGET, &changes).await;
    assert_eq!(delta.blocks().iter().map(|block| block.changes).collect::<Vec<_>>(), [2, 1, 1]);
}

#[tokio::test]
async fn equal_changes_have_one_name_and_never_the_same_bytes() {
    let (vault, other) = (memory().await, memory().await);
    let changes = |seconds| [change(1, b"a", seconds, Write::Delete), change(1, b"b", 9, Write::Delete)];
    let (one, again) = (sealed(&vault, 1, &changes(1)), sealed(&vault, 1, &changes(1)));
    assert_eq!(one.entry, again.entry);
    assert_ne!(one.object.bytes, again.object.bytes);
    assert_ne!(sealed(&vault, 1, &changes(2)).entry.name, one.entry.name);
    assert_ne!(sealed(&other, 1, &changes(1)).entry.name, one.entry.name);
}
