//! Runs of deltas in manifests: told apart from snapshots that are whole, in order, and complete.

use std::{collections::BTreeSet, sync::Arc};

use futures::TryStreamExt as _;
use history::CollectionId;
use model::{ClusterTime, WallTime};
use serde_json::Value;

use super::{
    manifests::{collection, header},
    memory,
};
use crate::{
    DeltaEntry, DeltaKey, DeltaRun, DetachedManifest, Error, Manifest, ManifestWriter, NoAnnounce,
    ObjectKind, ObjectName, Vault,
};

const fn at(seconds: u32) -> ClusterTime {
    ClusterTime { seconds, increment: 1 }
}

/// A delta of which nothing is stored, of the documents from `n` to `n + 1`.
fn entry(n: u64) -> DeltaEntry {
    let key = |n: u64| DeltaKey { collection: CollectionId([7; 16]), key: n.to_be_bytes().to_vec() };
    DeltaEntry {
        name: ObjectName::new(ObjectKind::Delta, *blake3::hash(&n.to_le_bytes()).as_bytes()),
        first: key(n),
        last: key(n + 1),
        changes: n + 1,
        bytes: 100 + n,
        stored_bytes: 50 + n,
    }
}

async fn run(writer: &ManifestWriter, through: ClusterTime, entries: &[DeltaEntry]) -> DeltaRun {
    let mut list = writer.delta_list();
    for entry in entries {
        list.push(entry).await.unwrap();
    }
    list.finish(through).await.unwrap().unwrap()
}

fn writer(vault: &Vault, seconds: u32) -> ManifestWriter {
    ManifestWriter::new(vault, header(seconds), Arc::new(NoAnnounce))
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<DeltaEntry> {
    numbers.map(entry).collect()
}

/// A root as JSON.
fn root_of(detached: &DetachedManifest) -> Value {
    serde_json::from_str(serde_json::to_value(detached).unwrap().as_str().unwrap()).unwrap()
}

fn attach(vault: &Vault, root: &Value) -> Result<Manifest, Error> {
    let detached = serde_json::from_value(Value::String(root.to_string())).unwrap();
    Manifest::attach(vault, &detached)
}

#[tokio::test]
async fn runs_read_back_as_they_were_written() {
    let vault = memory().await;
    let mut manifest = writer(&vault, 30);
    manifest.begin_collection(collection("orders", at(30))).unwrap();
    manifest.end_collection().await.unwrap();
    let (old, new) = (entries(0..9_000), entries(2..3));
    // Two lists grow at the same time.
    let mut list = manifest.delta_list();
    list.push(&old[0]).await.unwrap();
    let second = run(&manifest, at(30), &new).await;
    for entry in &old[1..] {
        list.push(entry).await.unwrap();
    }
    let first = list.finish(at(10)).await.unwrap().unwrap();
    let first = DeltaRun { live_bytes: 7, ..first };
    assert!(first.pages.len() > 2, "{:?}", first.pages);
    let sum = |of: fn(&DeltaEntry) -> u64| old.iter().map(of).sum::<u64>();
    assert_eq!((first.deltas, first.bytes), (9_000, sum(|entry| entry.bytes)));
    assert!(first.stored_bytes > sum(|entry| entry.stored_bytes), "pages count too");
    assert_eq!(second.live_bytes, second.bytes);
    manifest.push_delta_run(first.clone()).unwrap();
    manifest.push_delta_run(second.clone()).unwrap();
    let stored = manifest.finish(WallTime(5)).await.unwrap();
    assert!(stored.totals.stored_bytes > first.stored_bytes + second.stored_bytes);

    let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
    assert_eq!(manifest.delta_runs(), [first.clone(), second.clone()]);
    assert_eq!(manifest.deltas(&first).try_collect::<Vec<_>>().await.unwrap(), old);
    assert_eq!(manifest.deltas(&second).try_collect::<Vec<_>>().await.unwrap(), new);

    let names: Vec<_> = manifest.object_names().try_collect().await.unwrap();
    assert_eq!(names.iter().filter(|name| name.kind == ObjectKind::Delta).count(), 9_001);
    let mut stored: BTreeSet<_> = names.into_iter().filter(|name| name.kind != ObjectKind::Delta).collect();
    for kind in [ObjectKind::Page, ObjectKind::Manifest] {
        let listed: Vec<_> = vault.list(kind).try_collect().await.unwrap();
        assert!(!listed.is_empty() && listed.iter().all(|listed| stored.remove(&listed.name)));
    }
    assert!(stored.is_empty(), "{stored:?} are told and not there");
}

#[tokio::test]
async fn a_run_of_one_snapshot_is_the_same_pages_in_the_next() {
    let vault = memory().await;
    let mut first = writer(&vault, 20);
    let old = run(&first, at(10), &entries(0..2_000)).await;
    first.push_delta_run(old.clone()).unwrap();
    let first = first.finish(WallTime(5)).await.unwrap();
    let kept = Manifest::open(&vault, &first.name).await.unwrap().delta_runs()[0].clone();
    let mut next = writer(&vault, 30);
    next.push_delta_run(kept).unwrap();
    let new = run(&next, at(30), &entries(5..6)).await;
    next.push_delta_run(new.clone()).unwrap();
    let next = next.finish(WallTime(6)).await.unwrap();
    let next = Manifest::open(&vault, &next.name).await.unwrap();
    assert_eq!(next.delta_runs(), [old.clone(), new]);
    assert_eq!(next.deltas(&old).try_collect::<Vec<_>>().await.unwrap(), entries(0..2_000));
}

#[tokio::test]
async fn only_a_root_with_runs_is_closed_to_older_versions() {
    let vault = memory().await;
    let whole = root_of(&writer(&vault, 20).finish_detached(WallTime(5)).await.unwrap());
    assert_eq!(whole["version"], 1);
    assert!(whole.get("deltaRuns").is_none());
    assert!(attach(&vault, &whole).unwrap().delta_runs().is_empty());
    // No deltas are no run.
    assert_eq!(writer(&vault, 20).delta_list().finish(at(10)).await.unwrap(), None);

    let mut with = writer(&vault, 20);
    with.push_delta_run(run(&with, at(20), &entries(0..1)).await).unwrap();
    let mut with = root_of(&with.finish_detached(WallTime(5)).await.unwrap());
    assert_eq!(with["version"], 2);
    let told = &with["deltaRuns"][0];
    assert_eq!(
        (&told["through"]["seconds"], &told["deltas"], &told["liveBytes"]),
        (&20.into(), &1.into(), &100.into())
    );
    assert!(told["pages"][0].get("asOf").is_none(), "it is that of the root");
    attach(&vault, &with).unwrap();
    with["version"] = 3.into();
    assert!(matches!(attach(&vault, &with), Err(Error::NewerFormat { version: 3, known: 2, .. })));
}

#[tokio::test]
async fn runs_and_deltas_out_of_order_are_refused() {
    let vault = memory().await;
    let mut manifest = writer(&vault, 20);
    let mut made = Vec::new();
    for through in [10, 9, 20, 21] {
        made.push(run(&manifest, at(through), &entries(0..1)).await);
    }
    let [first, earlier, last, later] = made.try_into().unwrap();
    manifest.push_delta_run(first.clone()).unwrap();
    for run in [first, earlier, later] {
        assert!(matches!(manifest.push_delta_run(run), Err(Error::Refused { .. })));
    }
    manifest.push_delta_run(last).unwrap();

    let mut list = manifest.delta_list();
    list.push(&entry(5)).await.unwrap();
    for wrong in [entry(4), entry(5), DeltaEntry { last: entry(6).first, ..entry(7) }] {
        assert!(matches!(list.push(&wrong).await, Err(Error::Refused { .. })));
    }
    // One document's changes may be in two of them.
    list.push(&entry(6)).await.unwrap();
    list.push(&entry(9)).await.unwrap();
    assert_eq!(list.finish(at(20)).await.unwrap().unwrap().deltas, 3);

    let root = root_of(&manifest.finish_detached(WallTime(5)).await.unwrap());
    assert_eq!(attach(&vault, &root).unwrap().delta_runs().len(), 2);
    for (run, seconds) in [(0, 20), (0, 25), (1, 9), (1, 21)] {
        let mut wrong = root.clone();
        wrong["deltaRuns"][run]["through"]["seconds"] = seconds.into();
        assert!(attach(&vault, &wrong).unwrap_err().is_damage(), "{run} {seconds}");
    }
    let mut wrong = root.clone();
    wrong["deltaRuns"][0]["pages"][0]["page"] = "ab".into();
    assert!(attach(&vault, &wrong).unwrap_err().is_damage());
}
