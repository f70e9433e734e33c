//! The golden snapshot that has deltas: segments of several times beside two runs of changes.
//!
//! `tests/golden_state.rs` tells what these changes make of the documents.

use std::sync::Arc;

use futures::TryStreamExt as _;
use history::{
    CollectionId, SortKey,
    change::{Change, Position, Write},
    raw::kind,
};
use model::{ClusterTime, Id, WallTime};

use super::{
    bson::{Value, array, binary, boolean, bson, decimal, double, inner, int, long, string},
    document,
    golden::{ALL, EMPTY, golden_vault_of, header, meta, orders, store},
    key,
};
use crate::{
    CollectionKind, CollectionMeta, Delta, DeltaBuilder, DeltaEntry, DeltaRun, Manifest, ManifestHeader,
    ManifestWriter, NoAnnounce, Order, SegmentEntry, Vault,
};

const ORDERS: u8 = 6;
const TREES: u8 = 0x20;
const KINDS: u8 = 0x30;
const CARTS: u8 = 0x40;
/// Of a collection that has no segment no change is needed.
const DRAFTS: u8 = 0x60;
/// A collection that was dropped: there are changes of it yet.
const DROPPED: u8 = 0x50;

/// `seconds` after the first snapshot.
fn after(seconds: u32) -> ClusterTime {
    ClusterTime { seconds: header().cluster_time.seconds + seconds, increment: 1 }
}

fn own_header() -> ManifestHeader {
    ManifestHeader {
        snapshot_id: Id::from_parts(0x6500_0005, [1; 8]),
        cluster_time: after(200),
        created_at: WallTime(1_700_000_201_000),
        description: None,
        snapshot_type: "scheduled".to_owned(),
        ..header()
    }
}

fn of(collection: u8, key: Vec<u8>, time: ClusterTime, write: Write<'static>) -> Change<'static> {
    let time = history::ClusterTime { seconds: time.seconds, increment: time.increment };
    let position = Position { time, order: u64::from(time.seconds - header().cluster_time.seconds) };
    Change { collection: CollectionId([collection; 16]), key: SortKey::from_bytes(key), position, write }
}

fn put(collection: u8, seconds: u32, document: Vec<u8>) -> Change<'static> {
    of(collection, key(&document), after(seconds), Write::Insert(document.into()))
}

fn replace(collection: u8, seconds: u32, document: Vec<u8>) -> Change<'static> {
    of(collection, key(&document), after(seconds), Write::Replace(document.into()))
}

fn patch(collection: u8, seconds: u32, id: &Value, diff: &[(&str, Value)]) -> Change<'static> {
    of(collection, key(&bson(&[("_id", id.clone())])), after(seconds), Write::Patch(bson(diff).into()))
}

fn delete(collection: u8, seconds: u32, id: &Value) -> Change<'static> {
    of(collection, key(&bson(&[("_id", id.clone())])), after(seconds), Write::Delete)
}

fn reapply(collection: u8, seconds: u32, id: &Value, diff: &[(&str, Value)]) -> Change<'static> {
    let new = bson(&[("_id", id.clone())]);
    of(collection, key(&new), after(seconds), Write::Reapply { new: new.into(), diff: bson(diff).into() })
}

fn set_text(text: &str) -> [(&'static str, Value); 1] {
    [("u", inner(&[("d", string(text))]))]
}

/// Of the second segment of `orders`, which is as of the end of the first run, so that nothing of this is to be done.
fn orders_after_the_first_run() -> Vec<Vec<u8>> {
    let mut documents = orders().split_off(1000);
    documents[1] = document(3003, "replaced");
    documents[2] = document(3006, "again");
    documents[4] = document(3012, "patched");
    documents[5] = document(3015, "patched at the end");
    documents.remove(3);
    documents
}

fn order_changes() -> Vec<Change<'static>> {
    let mut at_the_beginning = put(ORDERS, 0, document(-9, "as old as the segment"));
    at_the_beginning.position.time.increment = header().cluster_time.increment;
    vec![
        at_the_beginning,
        put(ORDERS, 5, document(-5, "in front of all")),
        replace(ORDERS, 10, document(3, "three")),
        patch(ORDERS, 20, &long(6), &set_text("six")),
        delete(ORDERS, 30, &long(9)),
        put(ORDERS, 40, document(2998, "between two segments")),
        replace(ORDERS, 50, document(3003, "replaced")),
        delete(ORDERS, 60, &long(3006)),
        put(ORDERS, 90, document(3006, "again")),
        delete(ORDERS, 70, &long(3009)),
        patch(ORDERS, 80, &long(3012), &set_text("patched")),
        patch(ORDERS, 100, &long(3015), &set_text("patched at the end")),
        // The second run.
        patch(ORDERS, 101, &long(6), &[("i", inner(&[("more", int(6))]))]),
        put(ORDERS, 110, document(9, "nine")),
        replace(ORDERS, 120, document(3000, "the first of its segment")),
        patch(ORDERS, 130, &long(3003), &[("d", inner(&[("d", boolean(false))]))]),
        put(ORDERS, 140, document(2999, "between two segments as well")),
        delete(ORDERS, 150, &long(4497)),
        put(ORDERS, 160, document(5000, "behind all")),
    ]
}

fn trees() -> Vec<Vec<u8>> {
    let list = array(&[int(1), inner(&[("y", int(1)), ("z", int(2))]), int(3)]);
    let of_one = inner(&[("x", list.clone()), ("k", string("v"))]);
    vec![
        bson(&[("_id", int(1)), ("a", of_one), ("gone", boolean(true)), ("", inner(&[("e", int(1))]))]),
        bson(&[("_id", int(2)), ("l", array(&[int(1)])), ("first", int(1)), ("last", int(2))]),
        bson(&[("_id", int(3)), ("l", list), ("n", int(0))]),
        bson(&[("_id", int(5)), ("twice", int(1)), ("twice", int(2)), ("n", int(0))]),
    ]
}

fn tree_changes() -> Vec<Change<'static>> {
    let in_list = [
        ("a", boolean(true)),
        ("l", int(2)),
        ("u0", string("new")),
        ("s1", inner(&[("d", inner(&[("y", boolean(false))]))])),
    ];
    let inside = [("i", inner(&[("n", int(1))])), ("sx", inner(&in_list))];
    let whole = [
        ("d", inner(&[("gone", boolean(false))])),
        ("i", inner(&[("new", array(&[]))])),
        ("s", inner(&[("u", inner(&[("e", int(2))]))])),
        ("sa", inner(&inside)),
    ];
    let deeper = [("u", inner(&[("b", int(1))])), ("sz", inner(&[("u", inner(&[("y", int(1))]))]))];
    vec![
        patch(TREES, 10, &int(1), &whole),
        patch(TREES, 20, &int(2), &[("sl", inner(&[("a", boolean(true)), ("u3", int(9))]))]),
        patch(
            TREES,
            110,
            &int(2),
            &[
                ("i", inner(&[("first", string("moved"))])),
                ("sl", inner(&[("a", boolean(true)), ("l", int(5))])),
            ],
        ),
        patch(TREES, 30, &int(3), &[("u", inner(&[("n", int(1)), ("appended", int(2))]))]),
        patch(TREES, 120, &int(3), &[("sl", inner(&[("a", boolean(true)), ("l", int(0))]))]),
        // What is not there, and what is of another type.
        reapply(TREES, 40, &int(4), &deeper),
        reapply(
            TREES,
            130,
            &int(4),
            &[("u", inner(&[("c", int(1))])), ("sb", inner(&[("u", inner(&[("y", int(1))]))]))],
        ),
        reapply(
            TREES,
            50,
            &int(5),
            &[("u", inner(&[("twice", int(3))])), ("sx", inner(&[("a", boolean(true)), ("u0", int(1))]))],
        ),
    ]
}

/// An `_id` of every type that can be one, and what else has a sort key inside of one; in their order.
fn ids() -> Vec<Value> {
    let pointer = [string("db.c").1, vec![7; 12]].concat();
    let scoped = [string("g()").1, bson(&[("s", int(1))])].concat();
    let scoped = [u32::try_from(scoped.len() + 4).unwrap().to_le_bytes().to_vec(), scoped].concat();
    let odd = [("u", (0x06, vec![])), ("r", (0x0B, b"^a\0i\0".to_vec())), ("p", (0x0C, pointer.clone()))];
    let mut ids = vec![
        (0xFF, vec![]),
        (kind::NULL, vec![]),
        double(f64::NAN),
        double(f64::NEG_INFINITY),
        decimal(true, 12, 6000),
        long(-9_007_199_254_740_993),
        double(-1.5),
        int(-1),
        decimal(true, 1, -1),
        double(-0.0),
        double(f64::from_bits(1)),
        double(0.1),
        decimal(false, 1, -1),
        int(7),
        int(10),
        decimal(false, 123, -1),
        long(i64::MAX),
        double(9.3e18),
        double(1e300),
        (0x13, (0x1Eu128 << 122).to_le_bytes().to_vec()),
        string(""),
        string("a\0b"),
        string("ab"),
        (0x0E, string("é").1),
        inner(&[]),
        inner(&[("a", int(1)), ("b", array(&[int(1), string("x"), array(&[])]))]),
        inner(&[("a", int(1)), ("b", array(&[int(1), string("xy")]))]),
        inner(&odd),
        binary(0, &[9]),
        binary(4, &[1; 16]),
        binary(2, &[1, 0, 0, 0, 5]),
        (0x07, vec![3; 12]),
        boolean(false),
        boolean(true),
        (kind::DATE, (-1i64).to_le_bytes().to_vec()),
        (kind::DATE, 1i64.to_le_bytes().to_vec()),
        (kind::TIMESTAMP, (5u64 << 32 | 1).to_le_bytes().to_vec()),
        (0x0C, pointer),
        (0x0D, string("f()").1),
        (0x0F, scoped),
        (0x7F, vec![]),
    ];
    ids.sort_by_key(|id| key(&bson(&[("_id", id.clone())])));
    ids
}

fn of_kind(id: &Value, n: i32) -> Vec<u8> {
    bson(&[("_id", id.clone()), ("n", int(n))])
}

fn kinds() -> Vec<Vec<u8>> {
    let ids = ids();
    ids.iter().enumerate().filter(|(at, _)| at % 5 != 4).map(|(_, id)| of_kind(id, 0)).collect()
}

/// By turns: deleted, patched, replaced, left alone, inserted.
fn kind_changes() -> Vec<Change<'static>> {
    let change = |(at, id): (i32, &Value)| match at % 5 {
        0 => Some(delete(KINDS, 150, id)),
        1 => Some(patch(KINDS, 50, id, &[("u", inner(&[("n", int(at))]))])),
        2 => Some(replace(KINDS, 50, of_kind(id, -at))),
        4 => Some(put(KINDS, 150, of_kind(id, at))),
        _ => None,
    };
    (0..).zip(&ids()).filter_map(change).collect()
}

fn cart_changes() -> Vec<Change<'static>> {
    vec![
        put(CARTS, 10, document(1, "one")),
        patch(CARTS, 130, &long(1), &set_text("one, patched")),
        put(CARTS, 20, document(2, "two")),
        delete(CARTS, 120, &long(2)),
        put(CARTS, 200, document(3, "at the time of the snapshot")),
        put(DROPPED, 70, document(1, "nobody's")),
        put(DRAFTS, 75, document(1, "gone")),
        patch(DRAFTS, 145, &long(1), &set_text("gone")),
    ]
}

/// The changes up to `through`, and those after it, in the order of deltas.
fn runs() -> [Vec<Change<'static>>; 2] {
    let mut changes = [order_changes(), tree_changes(), kind_changes(), cart_changes()].concat();
    changes.sort_unstable();
    let end = after(100);
    let (first, second) = changes.into_iter().partition(|change| {
        (change.position.time.seconds, change.position.time.increment) <= (end.seconds, end.increment)
    });
    [first, second]
}

async fn write_run(
    vault: &Vault,
    writer: &ManifestWriter,
    through: ClusterTime,
    deltas: &[&[Change<'_>]],
) -> DeltaRun {
    let mut list = writer.delta_list();
    for changes in deltas {
        let mut builder = DeltaBuilder::new().with_blocks_of(400);
        changes.iter().for_each(|change| builder.push(change).unwrap());
        let sealed = builder.seal(vault).unwrap();
        vault.put(&sealed.object).await.unwrap();
        list.push(&sealed.entry).await.unwrap();
    }
    list.finish(through).await.unwrap().unwrap()
}

fn own_meta(name: &str, uuid: u8) -> CollectionMeta {
    CollectionMeta { uuid: Some([uuid; 16]), ..meta(name, CollectionKind::Plain, Order::Sorted, after(200)) }
}

/// Writes the snapshot into the golden vault.
pub(super) async fn write(vault: &Vault) {
    let mut writer = ManifestWriter::new(vault, own_header(), Arc::new(NoAnnounce));
    let begin = header().cluster_time;
    let segments: [(&str, u8, Vec<SegmentEntry>); 5] = [
        (
            "orders",
            ORDERS,
            vec![
                store(vault, Order::Sorted, &orders()[..1000], begin).await,
                store(vault, Order::Sorted, &orders_after_the_first_run(), after(100)).await,
            ],
        ),
        ("trees", TREES, vec![store(vault, Order::Sorted, &trees(), begin).await]),
        ("kinds", KINDS, vec![store(vault, Order::Sorted, &kinds(), begin).await]),
        ("carts", CARTS, vec![store(vault, Order::Sorted, &[document(0, "zero")], begin).await]),
        ("drafts", DRAFTS, vec![]),
    ];
    for (name, uuid, segments) in segments {
        writer.begin_collection(own_meta(name, uuid)).unwrap();
        for entry in &segments {
            writer.push_segment(entry).await.unwrap();
        }
        writer.end_collection().await.unwrap();
    }
    let [first, second] = runs();
    // The changes of one document are in two deltas.
    let cut = first.iter().position(|change| matches!(&change.write, Write::Insert(document) if **document == *super::document(3006, "again"))).unwrap();
    let (one, two) = first.split_at(cut);
    let run = write_run(vault, &writer, after(100), &[one, two]).await;
    writer.push_delta_run(DeltaRun { live_bytes: run.bytes - 300, ..run }).unwrap();
    writer.push_delta_run(write_run(vault, &writer, after(200), &[&second]).await).unwrap();
    writer.finish(WallTime(1_700_000_205_000)).await.unwrap();
}

#[tokio::test]
async fn the_deltas_of_version_1_are_read() {
    for name in ALL {
        are_read(&golden_vault_of(name).await).await;
    }
}

async fn are_read(vault: &Vault) {
    let mut found = None;
    for listed in vault.list_manifests().try_collect::<Vec<_>>().await.unwrap() {
        let manifest = Manifest::open(vault, &listed.name).await.unwrap();
        if *manifest.header() == own_header() {
            found = Some(manifest);
        }
    }
    let manifest = found.unwrap();
    let times: Vec<_> = manifest.delta_runs().iter().map(|run| (run.through, run.deltas)).collect();
    assert_eq!(times, [(after(100), 2), (after(200), 1)]);
    for (run, expected) in manifest.delta_runs().iter().zip(runs()) {
        let entries: Vec<DeltaEntry> = manifest.deltas(run).try_collect().await.unwrap();
        let mut at = 0;
        for entry in &entries {
            let delta = Delta::open(vault, &entry.name).await.unwrap();
            delta.verify(entry).await.unwrap();
            assert!(delta.blocks().len() > 1);
            for block in 0..delta.blocks().len() {
                for change in Delta::changes(&delta.read_block(block).await.unwrap()) {
                    assert_eq!(change, expected[at]);
                    at += 1;
                }
            }
        }
        assert_eq!(at, expected.len());
    }
    let mut read = Vec::new();
    for collection in manifest.collections().try_collect::<Vec<_>>().await.unwrap() {
        let segments: Vec<_> = manifest.segments(&collection).try_collect().await.unwrap();
        for entry in &segments {
            vault.verify_segment(entry).await.unwrap();
        }
        assert_eq!(collection.meta.options, EMPTY);
        read.push((collection.meta.name, segments.iter().map(|entry| entry.as_of).collect::<Vec<_>>()));
    }
    let begin = header().cluster_time;
    let expected = [
        ("orders", vec![begin, after(100)]),
        ("trees", vec![begin]),
        ("kinds", vec![begin]),
        ("carts", vec![begin]),
        ("drafts", vec![]),
    ];
    assert_eq!(read, expected.map(|(name, times)| (name.to_owned(), times)));
}
