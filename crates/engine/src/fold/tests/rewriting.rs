//! The segments of a fold are those of a fresh snapshot of the same documents.

use std::collections::BTreeMap;

use bson::rawdoc;
use futures::{StreamExt as _, stream};
use history::{
    ClusterTime, SortKey,
    change::{Change, Position, Write},
};
use proptest::prelude::*;
use vault::SegmentEntry;

use super::bench::{AT, BASE_AT, Bench, ID, document};
use crate::fold::{
    Counters,
    delta::ChangeSorter,
    failure::Ended,
    rewrite::{Span, rewrite},
};

/// Between two documents of a base there is room for so many others.
const STEP: i32 = 10;

/// What is done to a base. Places are told in thousandths of the documents, or of the segments' boundaries.
#[derive(Debug, Clone)]
enum Act {
    /// Delete the document that begins a segment.
    DeleteFirst(usize),
    /// Give it another length.
    ResizeFirst(usize, usize),
    /// Insert a document right before it.
    InsertBefore(usize, usize),
    /// Delete the document before it.
    DeleteLast(usize),
    /// Delete all documents of a segment, and so many of the next one.
    DeleteSegment(usize, usize),
    /// Insert a document after any, or before all.
    Insert(usize, usize),
    /// Replace any document.
    Replace(usize, usize),
    /// Change a field of any document, several times.
    Patch(usize),
    /// Delete any document, and insert it again.
    Anew(usize, usize),
    /// Delete everything.
    DeleteAll,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 100usize..2_000, 8 => 100_000usize..900_000, 1 => 2_000_000usize..9_000_000]
}

fn act() -> impl Strategy<Value = Act> {
    let place = 0usize..1000;
    prop_oneof![
        3 => place.clone().prop_map(Act::DeleteFirst),
        2 => (place.clone(), length()).prop_map(|(at, length)| Act::ResizeFirst(at, length)),
        2 => (place.clone(), length()).prop_map(|(at, length)| Act::InsertBefore(at, length)),
        2 => place.clone().prop_map(Act::DeleteLast),
        2 => (place.clone(), 0usize..3).prop_map(|(at, more)| Act::DeleteSegment(at, more)),
        2 => (place.clone(), length()).prop_map(|(at, length)| Act::Insert(at, length)),
        2 => (place.clone(), length()).prop_map(|(at, length)| Act::Replace(at, length)),
        2 => place.clone().prop_map(Act::Patch),
        1 => (place, length()).prop_map(|(at, length)| Act::Anew(at, length)),
        1 => Just(Act::DeleteAll),
    ]
}

/// Documents, and the changes that made them what they are.
struct Model {
    documents: BTreeMap<i32, Vec<u8>>,
    changes: Vec<Change<'static>>,
}

impl Model {
    fn write(&mut self, id: i32, write: Write<'static>) {
        let key = SortKey::of_document(&document(id, 0, 0)).unwrap();
        let order = self.changes.len() as u64;
        let position = Position { time: ClusterTime { seconds: 150, increment: 1 }, order };
        self.changes.push(Change { collection: ID, key, position, write });
    }

    fn put(&mut self, id: i32, value: i32, length: usize) {
        let new = document(id, value, length);
        let write = match self.documents.insert(id, new.clone()) {
            Some(_) => Write::Replace(new.into()),
            None => Write::Insert(new.into()),
        };
        self.write(id, write);
    }

    fn delete(&mut self, id: i32) {
        if self.documents.remove(&id).is_some() {
            self.write(id, Write::Delete);
        }
    }

    fn patch(&mut self, id: i32, value: i32) {
        let Some(there) = self.documents.get_mut(&id) else { return };
        // The value stands behind the length, the `_id` and the head of its own element.
        there[4 + 9 + 3..4 + 9 + 3 + 4].copy_from_slice(&value.to_le_bytes());
        self.write(id, Write::Patch(rawdoc! { "u": { "v": value } }.into_bytes().into()));
    }

    fn act(&mut self, act: &Act, starts: &[i32]) {
        let ids: Vec<i32> = self.documents.keys().copied().collect();
        let pick = |list: &[i32], at: usize| list.get(at * list.len() / 1000).copied();
        match *act {
            Act::DeleteFirst(at) => pick(starts, at).into_iter().for_each(|id| self.delete(id)),
            Act::ResizeFirst(at, length) => {
                pick(starts, at).into_iter().for_each(|id| self.put(id, 1, length));
            }
            Act::InsertBefore(at, length) => {
                pick(starts, at).into_iter().for_each(|id| self.put(id - 1, 2, length));
            }
            Act::DeleteLast(at) => {
                let Some(start) = pick(starts, at) else { return };
                let last = self.documents.range(..start).next_back().map(|(&id, _)| id);
                last.into_iter().for_each(|id| self.delete(id));
            }
            Act::DeleteSegment(at, more) => {
                let Some(start) = pick(starts, at) else { return };
                let end = starts.iter().copied().find(|&next| next > start).unwrap_or(i32::MAX);
                let inside: Vec<_> = self.documents.range(start..end).map(|(&id, _)| id).collect();
                let after: Vec<_> = self.documents.range(end..).take(more).map(|(&id, _)| id).collect();
                inside.into_iter().chain(after).for_each(|id| self.delete(id));
            }
            Act::Insert(at, length) => {
                let id = if at == 0 { -5 } else { pick(&ids, at).unwrap_or(0) + 3 };
                self.put(id, 3, length);
            }
            Act::Replace(at, length) => pick(&ids, at).into_iter().for_each(|id| self.put(id, 4, length)),
            Act::Patch(at) => {
                pick(&ids, at).into_iter().for_each(|id| (5..8).for_each(|value| self.patch(id, value)));
            }
            Act::Anew(at, length) => pick(&ids, at).into_iter().for_each(|id| {
                self.delete(id);
                self.put(id, 8, length);
            }),
            Act::DeleteAll => ids.into_iter().for_each(|id| self.delete(id)),
        }
    }
}

/// What a segment is, wherever and whenever it was stored.
fn shown(entries: &[SegmentEntry]) -> Vec<SegmentEntry> {
    let bare = |entry: &SegmentEntry| SegmentEntry { as_of: AT, stored_bytes: 0, ..entry.clone() };
    entries.iter().map(bare).collect()
}

async fn folded(
    bench: &Bench,
    base: &[SegmentEntry],
    changes: Vec<Change<'static>>,
    spill_every: usize,
) -> (Vec<SegmentEntry>, Counters) {
    let mut sorter = ChangeSorter::new(&bench.dir.path().join("spill"));
    for (count, change) in (1..).zip(changes) {
        sorter.push(change);
        if count % spill_every == 0 {
            sorter.spill().unwrap();
        }
    }
    let mut changes = Some(sorter.finish().unwrap());
    let writer = bench.writer(AT);
    let segments = stream::iter(base.to_vec()).map(Ok).boxed();
    let span = Span { base_at: BASE_AT, at: AT };
    let ended = rewrite(&bench.store, ID, segments, &mut changes, writer.segment_list(), span, None).await;
    let listing = match ended {
        Ok(ended) => ended,
        Err(Ended::Obstacle(obstacle)) => panic!("{obstacle}"),
        Err(Ended::Failure(failure)) => panic!("{failure}"),
    };
    let (pages, counters) = listing.pages().await.unwrap();
    assert!(changes.unwrap().key_in(ID).is_none(), "changes are left");
    (bench.listed(writer, pages).await, counters)
}

/// The `_id`s of the documents that begin segments.
fn starts(documents: &BTreeMap<i32, Vec<u8>>, entries: &[SegmentEntry]) -> Vec<i32> {
    let key = |document: &Vec<u8>| SortKey::of_document(document).unwrap();
    let first: Vec<_> = entries.iter().map(|entry| &entry.first_key).collect();
    let begins = documents.iter().filter(|(_, document)| first.contains(&&key(document).into_bytes()));
    begins.map(|(&id, _)| id).collect()
}

async fn compare(lengths: &[usize], acts: &[Act], spill_every: usize) {
    let bench = Bench::start().await;
    let documents: BTreeMap<i32, Vec<u8>> =
        (0..).map(|n| n * STEP).zip(lengths).map(|(id, &length)| (id, document(id, 0, length))).collect();
    let base = bench.stored(documents.values()).await;
    let starts = starts(&documents, &base);
    assert_eq!(starts.len(), base.len());
    let mut model = Model { documents, changes: vec![] };
    acts.iter().for_each(|act| model.act(act, &starts));
    let (listed, counters) = folded(&bench, &base, model.changes, spill_every).await;
    let fresh = bench.named(model.documents.values());
    assert_eq!(shown(&listed), shown(&fresh), "of {} segments", base.len());
    assert!(listed.iter().all(|entry| entry.as_of == AT && entry.stored_bytes > 0));
    assert_eq!(counters.segments_kept + counters.segments_new, listed.len() as u64);
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn a_fold_lists_what_a_fresh_snapshot_lists(
        lengths in proptest::collection::vec(length(), 0..160),
        acts in proptest::collection::vec(act(), 0..6),
        spill_every in 1usize..50,
    ) {
        blocking(compare(&lengths, &acts, spill_every));
    }
}

/// A collection of segments that are ended by their size alone, whose ends move when one document goes.
#[test]
fn ends_by_size_move_until_a_cut_is_one_of_the_base_again() {
    for gone in [0, 1, 499] {
        // No document of these is drawn to begin a segment, or hardly any.
        let lengths = vec![1_000_000; 100];
        blocking(compare(&lengths, &[Act::DeleteFirst(gone)], 100));
        blocking(compare(&lengths, &[Act::InsertBefore(gone, 5_000_000)], 100));
    }
}

/// What lies far from a change is neither read nor written.
#[test]
fn one_change_costs_one_segment() {
    blocking(async {
        let bench = Bench::start().await;
        let documents: BTreeMap<i32, Vec<u8>> =
            (0..400).map(|n| (n * STEP, document(n * STEP, 0, 300_000))).collect();
        let base = bench.stored(documents.values()).await;
        assert!(base.len() >= 6, "{} segments prove nothing", base.len());
        let starts = starts(&documents, &base);
        let mut model = Model { documents, changes: vec![] };
        model.patch(starts[2] + STEP, 1);
        let (listed, counters) = folded(&bench, &base, model.changes, 100).await;
        assert_eq!(shown(&listed), shown(&bench.named(model.documents.values())));
        assert_eq!((counters.segments_new, counters.segments_kept), (1, base.len() as u64 - 1));
        assert_eq!(counters.bytes_read, base[2].stored_bytes);
    });
}
