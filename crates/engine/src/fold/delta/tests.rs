#![allow(clippy::unwrap_used)]
use std::{collections::BTreeMap, convert::Infallible};

use bson::rawdoc;
use proptest::prelude::*;

use super::*;

fn id(byte: u8) -> CollectionId {
    CollectionId([byte; 16])
}

fn document(key: i32, value: i32) -> Vec<u8> {
    rawdoc! { "_id": key, "v": value }.into_bytes()
}

fn key(key: i32) -> SortKey {
    SortKey::of_document(&document(key, 0)).unwrap()
}

fn at(order: u64) -> Position {
    Position { time: ClusterTime { seconds: 1, increment: 1 }, order }
}

fn change(collection: u8, of: i32, order: u64, write: Write<'static>) -> Change<'static> {
    Change { collection: id(collection), key: key(of), position: at(order), write }
}

proptest! {
    #[test]
    fn changes_come_out_sorted_wherever_they_were_held(
        writes in proptest::collection::vec((0u8..3, 0i32..20, 0u8..3), 0..200),
        spill_every in 1usize..60,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = ChangeSorter::new(dir.path());
        let mut model: BTreeMap<(u8, i32), Option<Vec<u8>>> = BTreeMap::new();
        for (order, &(collection, of, what)) in (0u64..).zip(&writes) {
            let there = model.entry((collection, of)).or_default();
            let after = document(of, order as i32);
            let write = match (what, &there) {
                (0, Some(_)) => {
                    *there = None;
                    Write::Delete
                }
                (1, Some(_)) => {
                    *there = Some(after);
                    Write::Patch(rawdoc! { "u": { "v": order as i32 } }.into_bytes().into())
                }
                _ => {
                    *there = Some(after.clone());
                    Write::Insert(after.into())
                }
            };
            sorter.push(change(collection, of, order, write));
            if (order as usize + 1).is_multiple_of(spill_every) {
                sorter.spill().unwrap();
            }
        }
        let mut sorted = sorter.finish().unwrap();
        let mut found = BTreeMap::new();
        for collection in 0..3 {
            sorted.skip_to(id(collection)).unwrap();
            // The collection in the middle is there no more.
            while collection != 1 && sorted.key_in(id(collection)).is_some() {
                let Ok(Some((key, after))) = sorted.apply_next(None) else { panic!("a change is lost") };
                found.insert((collection, key), after);
            }
        }
        let kept = model.into_iter().filter(|((collection, _), _)| *collection != 1);
        let expected: BTreeMap<_, _> = kept.map(|((collection, of), after)| ((collection, key(of)), after)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn diffs_of_one_document_are_applied_before_they_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut sorter = ChangeSorter::new(dir.path());
    // More than may be held, so that they are applied more than once on the way.
    let text = "x".repeat(100_000);
    for order in 0..60 {
        let diff = rawdoc! { "u": { "v": order as i32, "text": text.as_str() } };
        sorter.push(change(1, 7, order, Write::Patch(diff.into_bytes().into())));
    }
    let mut sorted = sorter.finish().unwrap();
    let base = rawdoc! { "_id": 7, "v": -1, "text": "" }.into_bytes();
    let Ok(Some((_, Some(after)))) = sorted.apply_next(Some(&base)) else { panic!("no document") };
    assert!(after == rawdoc! { "_id": 7, "v": 59, "text": text }.into_bytes());
    assert!(sorted.key_in(id(1)).is_none());
}

#[test]
fn a_diff_without_its_document_is_a_defect() {
    let dir = tempfile::tempdir().unwrap();
    let mut sorter = ChangeSorter::new(dir.path());
    sorter.push(change(1, 7, 1, Write::Patch(rawdoc! { "u": { "v": 1 } }.into_bytes().into())));
    let applied = sorter.finish().unwrap().apply_next(None);
    assert!(matches!(applied, Err(ApplyError::Defect { .. })));
}

#[test]
fn many_runs_are_made_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut sorter = ChangeSorter::new(dir.path());
    // A run of a long record needs as much memory to be read as the record is long.
    for order in 0..12 {
        let long = rawdoc! { "_id": order as i32, "text": "y".repeat(8 << 20) };
        sorter.push(change(1, order as i32, order, Write::Insert(long.into_bytes().into())));
        sorter.spill().unwrap();
        assert!(sorter.runs() <= 9, "{} runs are open", sorter.runs());
    }
    let mut sorted = sorter.finish().unwrap();
    for order in 0..12 {
        let Ok(Some((found, Some(_)))) = sorted.apply_next(None) else { panic!("a change is lost") };
        assert_eq!(found, key(order));
    }
    assert!(sorted.key_in(id(1)).is_none());
}

/// An entry as servers write it, at a second of its own.
fn entry(seconds: u32, operation: bson::RawDocumentBuf) -> Vec<u8> {
    let ts = bson::Timestamp { time: seconds, increment: 1 };
    let mut entry = rawdoc! { "ts": ts, "t": 1_i64, "v": 2_i64 };
    for (name, value) in operation.iter().map(Result::unwrap) {
        entry.append(name, bson::RawBson::from(value));
    }
    entry.into_bytes()
}

/// One of every kind that is told from others ahead of the fold.
fn entry_of(kind: u8, seconds: u32) -> Vec<u8> {
    let ui = bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![kind % 3; 16] };
    let insert = |of: i32| rawdoc! { "op": "i", "ns": "a.b", "ui": ui.clone(), "o": { "_id": of, "v": seconds as i32 } };
    let link = |operation: bson::RawDocumentBuf, more: bson::RawDocumentBuf| {
        let mut linked = rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [operation] } };
        for (name, value) in more.iter().map(Result::unwrap) {
            linked.append(name, bson::RawBson::from(value));
        }
        linked
    };
    let none = rawdoc! { "ts": bson::Timestamp { time: 0, increment: 0 }, "t": -1_i64 };
    entry(
        seconds,
        match kind {
            0..=2 => insert(seconds as i32 % 50),
            3 => rawdoc! { "op": "d", "ns": "a.b", "ui": ui, "o": { "_id": 3 } },
            4 => rawdoc! { "op": "n", "ns": "", "o": { "msg": "nothing" } },
            5 => rawdoc! { "op": "c", "ns": "a.$cmd", "ui": ui, "o": { "drop": "b" } },
            // A user's command: two effects.
            6 => rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [insert(1), insert(2)] } },
            // A transaction: its operations are told when it is committed.
            7 => link(insert(5), rawdoc! { "lsid": { "id": 1 }, "txnNumber": 1_i64, "prevOpTime": none }),
            8 => rawdoc! { "op": "i", "ns": "config.system", "ui": ui, "o": { "_id": 1 } },
            _ => rawdoc! { "op": "?", "ns": "a.b", "ui": ui, "o": {} },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn two_hands_read_a_block_as_one_does(
        kinds in proptest::collection::vec(0u8..10, 200..700),
        after in 0u32..300,
        through in 300u32..700,
        broken in proptest::option::of(0usize..700),
        enough in 1usize..2_000,
    ) {
        let mut block = Vec::new();
        for (seconds, kind) in (1..).zip(&kinds) {
            let mut entry = entry_of(*kind, seconds);
            if broken == Some(seconds as usize) {
                // Its first field is of a type that there is not; what follows can be read.
                entry[4] = 0x66;
            }
            block.extend(entry);
        }
        let at = |seconds| ClusterTime { seconds, increment: 1 };
        let reader = Reader { after: at(after), through: at(through), wanted: &Wanted::All };
        let blocks = [Bytes::from(block.clone()), Bytes::from(block)];
        let told = |hands| {
            let (mut entries, mut effects) = (Vec::new(), Vec::new());
            reader
                .read(&blocks, hands, |part| {
                    let read = part.entries.into_iter();
                    entries.extend(read.map(|read| read.map(|read| (read.entry, read.effects))));
                    effects.extend(part.effects);
                    Ok::<_, Infallible>(entries.len() < enough)
                })
                .unwrap();
            (entries, effects)
        };
        let (one, two) = (told(Hands::One), told(Hands::Two));
        prop_assert!(one.0.len() >= enough.min(2 * kinds.len()));
        prop_assert_eq!(one, two);
    }
}
