//! What is kept beside segments: whatever comes of it when it is applied is what a fresh snapshot of the same documents has,
//! round after round, and so is what single documents are looked up as.

use std::{collections::BTreeMap, sync::Arc};

use bson::{Binary, Timestamp, rawdoc, spec::BinarySubtype};
use futures::TryStreamExt as _;
use history::{ClusterTime, ContentSum, SortKey, raw};
use proptest::prelude::*;
use vault::{CollectionKind, Manifest, SegmentEntry};

use super::bench::{BASE_AT, Bench, ID, document, meta};
use crate::{
    fold::{
        Counters, Record, Sparse, Wish, fold_manifest,
        runs::{Beside, SHARE, behind},
    },
    jobs::restore::segments::{Segment, read as read_segments},
    progress,
    verify::verify,
};

/// Between two documents of a base there is room for so many others.
const STEP: i32 = 10;
const KEEP: Wish<'static> = Wish { sparse: Sparse::Keep, ..Wish::WHOLE };

/// What is done to a document, whose place is told in thousandths of all there are.
#[derive(Debug, Clone)]
enum Act {
    Patch(usize),
    PatchMany(usize, usize),
    Replace(usize, usize),
    Insert(usize, usize),
    Delete(usize),
    Anew(usize, usize),
    DeleteMany(usize, usize),
    /// So many documents from where a segment begins are deleted, and so many behind them replaced.
    Front(usize, usize, usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let place = 0usize..1000;
    let length = prop_oneof![4 => 10usize..5_000, 2 => 100_000usize..900_000];
    prop_oneof![
        6 => place.clone().prop_map(Act::Patch),
        2 => (place.clone(), 2usize..40).prop_map(|(at, count)| Act::PatchMany(at, count)),
        3 => (place.clone(), length.clone()).prop_map(|(at, length)| Act::Replace(at, length)),
        3 => (place.clone(), length.clone()).prop_map(|(at, length)| Act::Insert(at, length)),
        3 => place.clone().prop_map(Act::Delete),
        2 => (place.clone(), length.clone()).prop_map(|(at, length)| Act::Anew(at, length)),
        1 => (place.clone(), 10usize..200).prop_map(|(at, count)| Act::DeleteMany(at, count)),
        4 => (place, 0usize..4, 0usize..6, length).prop_map(|(at, gone, put, length)| Act::Front(at, gone, put, length)),
    ]
}

/// Documents, and the oplog of what was done to them.
struct Model {
    documents: BTreeMap<i32, Vec<u8>>,
    entries: Vec<Vec<u8>>,
    /// With which documents segments begin.
    fronts: Vec<i32>,
    seconds: u32,
    value: i32,
}

impl Model {
    fn new(documents: BTreeMap<i32, Vec<u8>>) -> Self {
        Self { documents, entries: vec![], fronts: vec![], seconds: BASE_AT.seconds + 1, value: 0 }
    }

    fn log(&mut self, kind: &str, object: bson::RawDocumentBuf, id: i32) {
        let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: ID.0.to_vec() };
        let increment = self.entries.len() as u32 + 1;
        let entry = rawdoc! {
            "ts": Timestamp { time: self.seconds, increment }, "t": 1_i64, "v": 2_i64,
            "op": kind, "ns": "app.c", "ui": uuid, "o": object, "o2": { "_id": id },
        };
        self.entries.push(entry.into_bytes());
    }

    fn put(&mut self, id: i32, length: usize) {
        self.value += 1;
        let new = document(id, self.value, length);
        let kind = if self.documents.insert(id, new.clone()).is_some() { "u" } else { "i" };
        self.log(kind, bson::RawDocumentBuf::from_bytes(new).unwrap(), id);
    }

    fn delete(&mut self, id: i32) {
        if self.documents.remove(&id).is_some() {
            self.log("d", rawdoc! { "_id": id }, id);
        }
    }

    fn patch(&mut self, id: i32) {
        self.value += 1;
        let value = self.value;
        let Some(there) = self.documents.get_mut(&id) else { return };
        // The value stands behind the length, the `_id` and the head of its own element.
        there[4 + 9 + 3..4 + 9 + 3 + 4].copy_from_slice(&value.to_le_bytes());
        self.log("u", rawdoc! { "$v": 2, "diff": { "u": { "v": value } } }, id);
    }

    fn from(&self, at: usize, count: usize) -> Vec<i32> {
        let skip = at * self.documents.len() / 1000;
        self.documents.keys().skip(skip).take(count).copied().collect()
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Patch(at) => self.from(at, 1).into_iter().for_each(|id| self.patch(id)),
            Act::PatchMany(at, count) => self.from(at, count).into_iter().for_each(|id| self.patch(id)),
            Act::Replace(at, length) => self.from(at, 1).into_iter().for_each(|id| self.put(id, length)),
            Act::Insert(at, length) => {
                let id = if at == 0 { -5 } else { self.from(at, 1).first().copied().unwrap_or(0) + 3 };
                self.put(id, length);
            }
            Act::Delete(at) => self.from(at, 1).into_iter().for_each(|id| self.delete(id)),
            Act::Anew(at, length) => self.from(at, 1).into_iter().for_each(|id| {
                self.delete(id);
                self.put(id, length);
            }),
            Act::DeleteMany(at, count) => {
                self.from(at, count).into_iter().for_each(|id| self.delete(id));
            }
            Act::Front(at, gone, put, length) => {
                let Some(&front) = self.fronts.get(at * self.fronts.len() / 1000) else { return };
                let ids: Vec<i32> =
                    self.documents.range(front..).map(|(&id, _)| id).take(gone + put).collect();
                ids.iter().take(gone).for_each(|&id| self.delete(id));
                ids.iter().skip(gone).for_each(|&id| self.put(id, length));
            }
        }
    }
}

async fn fold(
    bench: &Bench,
    base: &Manifest,
    entries: Vec<Vec<u8>>,
    at: model::ClusterTime,
    wish: Wish<'_>,
) -> (Manifest, Counters) {
    let (from, to) = (base.header().cluster_time.seconds, at.seconds);
    let time = |seconds| ClusterTime { seconds, increment: 0 };
    let record = Record::of_entries(time(from), time(to), entries);
    let folded = fold_manifest(&bench.store, base, record, at, Bench::header(at), wish).await;
    let folded = folded.unwrap_or_else(|failure| panic!("{failure}"));
    let counters = folded.counters;
    let written = folded.write(&bench.store).await.unwrap();
    (bench.opened(&written.name).await, counters)
}

async fn segments(manifest: &Manifest) -> Vec<SegmentEntry> {
    let entry = manifest.collections().try_next().await.unwrap().unwrap();
    manifest.segments(&entry).try_collect().await.unwrap()
}

fn key(id: i32) -> SortKey {
    SortKey::of_document(&document(id, 0, 0)).unwrap()
}

/// Every document that is there, and some that are not, looked up one by one.
async fn assert_found(bench: &Bench, manifest: &Manifest, documents: &BTreeMap<i32, Vec<u8>>, gone: &[i32]) {
    let beside = Beside::of(&bench.vault, manifest).await.unwrap();
    let segments = segments(manifest).await;
    let some = documents.keys().step_by(7).chain(gone);
    for &id in some {
        let key = key(id);
        let owner = segments.partition_point(|segment| segment.first_key.as_slice() <= key.as_bytes());
        let Some(segment) = segments.get(owner.saturating_sub(1)) else { continue };
        let stored = bench.vault.read_document(segment, key.as_bytes()).await.unwrap();
        let found = match beside.may_touch(ID, key.as_bytes(), Some(&behind(&key))) {
            true => {
                let pending =
                    beside.pending(ID, key.as_bytes(), Some(&behind(&key)), segment.as_of).await.unwrap();
                pending.onto(key.as_bytes(), stored).unwrap()
            }
            false => stored,
        };
        assert_eq!(found.as_ref(), documents.get(&id), "the document {id}");
    }
}

/// Every document that is there, read segment by segment, from the first on and from a later one.
async fn assert_read(bench: &Bench, manifest: &Manifest, documents: &BTreeMap<i32, Vec<u8>>) {
    let entry = manifest.collections().try_next().await.unwrap().unwrap();
    let beside = Arc::new(Beside::of(&bench.vault, manifest).await.unwrap());
    // Copied: no more segments than the budget has may be held.
    let read = async |done| -> Vec<(Vec<u8>, ContentSum)> {
        let segments = read_segments(bench.store.ctx(), manifest, &entry, Some(&beside), done);
        let copied = segments.map_ok(|Segment { documents, content, .. }| (documents.to_vec(), content));
        copied.try_collect().await.unwrap()
    };
    let all = read(0).await;
    let (mut found, mut content) = (Vec::new(), ContentSum::default());
    for (documents, of_segment) in &all {
        let here = raw::documents(documents).map(|document| document.unwrap().to_vec());
        let here: Vec<_> = here.collect();
        assert_eq!(here.len() as u64, of_segment.documents);
        found.extend(here);
        content.merge(of_segment);
    }
    assert_eq!(found, documents.values().cloned().collect::<Vec<_>>());
    let mut wanted = ContentSum::default();
    documents.values().for_each(|document| wanted.add(document));
    assert_eq!(content, wanted);
    let later = read(1).await;
    assert_eq!(later.len(), all.len().saturating_sub(1));
    assert!(later == all[all.len() - later.len()..]);
}

async fn rounds(lengths: &[usize], rounds: &[Vec<Act>]) -> usize {
    let bench = Bench::start().await;
    let documents: Vec<Vec<u8>> =
        (0..).zip(lengths).map(|(n, &length)| document(n * STEP, 0, length)).collect();
    let mut manifest = bench.base(meta(CollectionKind::Plain), &documents).await;
    let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
    let (mut most, mut are_cuts_fresh) = (0, true);
    for acts in rounds {
        let before = model.documents.clone();
        // The cut before a document may go when the document does; what begins with it may have been cut anew by then.
        let first: Vec<_> = segments(&manifest).await.into_iter().map(|segment| segment.first_key).collect();
        let ids = (-5..=STEP * lengths.len() as i32).filter(|&id| first.contains(&key(id).into_bytes()));
        model.fronts = ids.collect();
        acts.iter().for_each(|act| model.act(act));
        let is_changed = |id: &i32| before.get(id) != model.documents.get(id);
        let mut changed = before.keys().chain(model.documents.keys()).filter(|id| is_changed(id));
        are_cuts_fresh &= !changed.any(|id| first.contains(&key(*id).into_bytes()));
        let at = model::ClusterTime { seconds: model.seconds + 1, increment: 0 };
        let entries = std::mem::take(&mut model.entries);
        model.seconds += 2;
        (manifest, _) = fold(&bench, &manifest, entries, at, KEEP).await;
        most = most.max(manifest.delta_runs().len());

        let report = verify(&bench.vault, &manifest.name(), &progress::Counters::default()).await.unwrap();
        assert!(report.is_good(), "{report:?}");
        assert_eq!(manifest.documents(), model.documents.len() as u64);
        let (whole, counters) = fold(&bench, &manifest, vec![], at, Wish::WHOLE).await;
        assert!(whole.delta_runs().is_empty());
        assert_read(&bench, &whole, &model.documents).await;
        let fresh = bench.named(model.documents.values());
        let bare = |entries: &[SegmentEntry]| -> Vec<_> {
            entries.iter().map(|entry| SegmentEntry { as_of: at, stored_bytes: 0, ..entry.clone() }).collect()
        };
        let listed = segments(&whole).await;
        if are_cuts_fresh {
            assert_eq!(bare(&listed), bare(&fresh), "{counters:?}");
        }
        assert!(listed.iter().all(|entry| entry.as_of == at));
        let gone: Vec<i32> =
            before.into_keys().filter(|id| !model.documents.contains_key(id)).take(20).collect();
        assert_found(&bench, &manifest, &model.documents, &gone).await;
        assert_read(&bench, &manifest, &model.documents).await;
    }
    most
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn what_is_kept_comes_to_what_a_fresh_snapshot_has(
        lengths in proptest::collection::vec(prop_oneof![10usize..2_000, 100_000usize..900_000], 0..100),
        acts in proptest::collection::vec(proptest::collection::vec(act(), 0..12), 1..7),
    ) {
        blocking(rounds(&lengths, &acts));
    }
}

/// Servers let an insert of a user's `applyOps` replace a document: whoever deletes it then has deleted one that was there before.
#[test]
fn what_a_user_inserts_may_have_been_there() {
    blocking(async {
        let bench = Bench::start().await;
        let documents: Vec<Vec<u8>> = (0..400).map(|n| document(n * STEP, 0, 100_000)).collect();
        let base = bench.base(meta(CollectionKind::Plain), &documents).await;
        let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
        let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: ID.0.to_vec() };
        for id in [10 * STEP, 11 * STEP] {
            let new = bson::RawDocumentBuf::from_bytes(document(id, 1, 10)).unwrap();
            let insert = rawdoc! { "op": "i", "ns": "app.c", "ui": uuid.clone(), "o": new };
            model.log("c", rawdoc! { "applyOps": [insert] }, id);
            model.documents.insert(id, document(id, 1, 10));
        }
        model.delete(10 * STEP);
        let at = model::ClusterTime { seconds: 300, increment: 0 };
        let (kept, counters) = fold(&bench, &base, std::mem::take(&mut model.entries), at, KEEP).await;
        assert_eq!((counters.segments_new, counters.documents_kept_beside), (0, 2));
        assert_eq!(kept.documents(), 399);
        assert_found(&bench, &kept, &model.documents, &[10 * STEP]).await;
        assert_read(&bench, &kept, &model.documents).await;
    });
}

/// Many rounds of little: there are runs of several sizes, never too many.
#[test]
fn runs_are_merged_with_their_like() {
    let lengths = vec![100_000; 300];
    let acts: Vec<Vec<Act>> =
        (0..24).map(|n| vec![Act::Patch(n * 37 % 1000), Act::Patch(n * 91 % 1000)]).collect();
    let most = blocking(rounds(&lengths, &acts));
    assert!((2..=6).contains(&most), "{most} runs");
}

/// A run that has how a document came is not let go as long as another has how it went: else one would be missing that never was.
#[test]
fn what_came_and_went_is_counted() {
    let lengths = [800_000, 800_000];
    let first = || vec![Act::Insert(0, 60_000)];
    let patch = || vec![Act::Patch(999)];
    blocking(rounds(&lengths, &[first(), vec![Act::Delete(0)], patch(), patch()]));
    let gone = vec![Act::Delete(0), Act::Insert(999, 50_000)];
    blocking(rounds(&lengths, &[first(), gone, vec![Act::Insert(0, 10)], patch(), patch()]));
}

/// A change here and there costs nothing but itself: no segment is read, none is written.
#[test]
fn sparse_changes_leave_all_segments_alone() {
    blocking(async {
        let bench = Bench::start().await;
        let documents: Vec<Vec<u8>> = (0..400).map(|n| document(n * STEP, 0, 100_000)).collect();
        let base = bench.base(meta(CollectionKind::Plain), &documents).await;
        let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
        (0..40).for_each(|n| model.act(&Act::Patch(n * 25)));
        let at = model::ClusterTime { seconds: 300, increment: 0 };
        let before = bench.store.added_bytes();
        let (kept, counters) = fold(&bench, &base, std::mem::take(&mut model.entries), at, KEEP).await;
        assert_eq!((counters.segments_new, counters.bytes_read, counters.documents_kept_beside), (0, 0, 40));
        let names =
            |entries: Vec<SegmentEntry>| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!(names(segments(&kept).await), names(segments(&base).await));
        let added = bench.store.added_bytes() - before;
        assert!(added < 10_000, "{added} bytes were added");
    });
}

/// Where more than a share of a segment changes, it is cut anew, and the others are not.
#[test]
fn what_changes_much_is_cut_anew() {
    blocking(async {
        let bench = Bench::start().await;
        let documents: Vec<Vec<u8>> = (0..400).map(|n| document(n * STEP, 0, 100_000)).collect();
        let base = bench.base(meta(CollectionKind::Plain), &documents).await;
        let old = segments(&base).await;
        assert!(old.len() > 2);
        let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
        let many = (old[0].documents / SHARE + 2) as usize;
        for id in model.from(0, many) {
            model.put(id, 100_000);
        }
        model.act(&Act::Patch(999));
        let at = model::ClusterTime { seconds: 300, increment: 0 };
        let (kept, counters) = fold(&bench, &base, std::mem::take(&mut model.entries), at, KEEP).await;
        let new = segments(&kept).await;
        assert_eq!(new[0].as_of, at, "{counters:?}");
        assert_ne!(new[0].name, old[0].name);
        assert_eq!(
            (new.last().unwrap().as_of, new.last().unwrap().name),
            (BASE_AT, old.last().unwrap().name)
        );
        assert_eq!(counters.documents_kept_beside, 1);
    });
}

/// Of all segments a little is beside them, in a run. Then one of them is cut anew, which has outlived what the run has of it: the
/// run stays, others need it. `gone` are the documents of the segment that are deleted then.
async fn cut_anew(segment: usize, gone: impl Fn(&[i32]) -> Vec<i32>) {
    const LENGTH: usize = 100_000;
    let bench = Bench::start().await;
    let documents: Vec<Vec<u8>> = (0..800).map(|n| document(n * STEP, 0, LENGTH)).collect();
    let base = bench.base(meta(CollectionKind::Plain), &documents).await;
    let old = segments(&base).await;
    assert!(old.len() >= 4, "{} segments", old.len());
    // About so many documents are six tenths of what may lie beside a segment.
    let few = |segment: &SegmentEntry| (segment.bytes / SHARE * 6 / 10) as usize / LENGTH;
    let ids_of = |n: usize| -> Vec<i32> {
        let key_of = |id: i32| key(id).into_bytes();
        let end = old.get(n + 1).map(|next| next.first_key.clone());
        let inside = (0..800).map(|n| n * STEP).filter(|&id| key_of(id) >= old[n].first_key);
        inside.filter(|&id| end.as_ref().is_none_or(|end| key_of(id) < *end)).collect()
    };
    let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
    for (n, segment) in old.iter().enumerate() {
        ids_of(n).into_iter().take(few(segment)).for_each(|id| model.put(id, LENGTH));
    }
    let (first, second) = (300, 400);
    let at = |seconds| model::ClusterTime { seconds, increment: 0 };
    let (kept, _) = fold(&bench, &base, std::mem::take(&mut model.entries), at(first), KEEP).await;
    let names = |entries: &[SegmentEntry]| entries.iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names(&segments(&kept).await), names(&old), "all of it is beside");

    // One document again, and others that make too much of it.
    model.seconds = first + 1;
    let inside = ids_of(segment);
    let gone = gone(&inside);
    gone.iter().for_each(|&id| model.delete(id));
    model.patch(inside[2]);
    let others = inside.iter().skip(few(&old[segment])).take(few(&old[segment]) + 3);
    others.filter(|id| !gone.contains(id)).for_each(|&id| model.put(id, LENGTH));
    let (kept, _) = fold(&bench, &kept, std::mem::take(&mut model.entries), at(second), KEEP).await;
    assert!(!names(&segments(&kept).await).contains(&old[segment].name), "it was not cut anew");
    let through: Vec<_> = kept.delta_runs().iter().map(|run| run.through).collect();
    assert_eq!(through, [at(first)], "the run does not stay as it is");
    assert!(kept.delta_runs()[0].live_bytes < kept.delta_runs()[0].bytes);

    let report = verify(&bench.vault, &kept.name(), &progress::Counters::default()).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_found(&bench, &kept, &model.documents, &gone).await;
    assert_read(&bench, &kept, &model.documents).await;
    let (whole, _) = fold(&bench, &kept, vec![], at(second), Wish::WHOLE).await;
    assert_read(&bench, &whole, &model.documents).await;
}

/// Where all before a segment is gone it comes to be the first, to which everything before it belongs.
#[test]
fn what_is_gone_with_all_before_a_segment_does_not_come_back_in_it() {
    const LENGTH: usize = 100_000;
    blocking(async {
        let bench = Bench::start().await;
        let documents: Vec<Vec<u8>> = (0..800).map(|n| document(n * STEP, 0, LENGTH)).collect();
        let base = bench.base(meta(CollectionKind::Plain), &documents).await;
        let third = segments(&base).await[2].clone();
        let mut model = Model::new((0..).map(|n| n * STEP).zip(documents).collect());
        let before: Vec<i32> =
            model.documents.keys().copied().filter(|&id| key(id).into_bytes() < third.first_key).collect();
        let inside = before.len() as i32 * STEP;
        // A run has a document of the first segment, and enough of later ones to stay.
        let changed: Vec<i32> = [before[1]].into_iter().chain((1..5).map(|n| inside + n * STEP)).collect();
        changed.iter().for_each(|&id| model.put(id, 1_000));
        let at = |seconds| model::ClusterTime { seconds, increment: 0 };
        let (kept, _) = fold(&bench, &base, std::mem::take(&mut model.entries), at(300), KEEP).await;
        model.seconds = 301;
        before.iter().for_each(|&id| model.delete(id));
        model.patch(inside + STEP);
        let (kept, _) = fold(&bench, &kept, std::mem::take(&mut model.entries), at(400), KEEP).await;
        assert_eq!(kept.documents(), model.documents.len() as u64);
        assert_found(&bench, &kept, &model.documents, &before[..5]).await;
        assert_read(&bench, &kept, &model.documents).await;
        let through: Vec<_> = kept.delta_runs().iter().map(|run| run.through).collect();
        let first = segments(&kept).await.remove(0);
        assert_eq!((first.as_of, first.first_key), (at(400), third.first_key), "runs through {through:?}");
    });
}

/// A segment that was cut anew has outlived what a run, which others still need, has of its documents.
#[test]
fn what_a_segment_has_outlived_is_not_applied_to_it() {
    blocking(cut_anew(0, |inside| vec![inside[1]]));
}

/// Where a segment that is cut anew begins later than before, or is gone, the stretch before it is another one's: what a run has of
/// its documents must not come back there.
#[test]
fn what_a_segment_has_outlived_is_not_applied_to_its_neighbour() {
    blocking(async {
        cut_anew(1, |inside| inside[..2].to_vec()).await;
        cut_anew(0, |inside| inside[..2].to_vec()).await;
    });
}
