#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

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
