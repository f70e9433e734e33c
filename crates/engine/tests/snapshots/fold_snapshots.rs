//! A snapshot folded with the oplog is the snapshot that the deployment itself gives at the later time.
#![allow(clippy::unwrap_used)]

use crate::{fold_support, support};

use bson::{Document, doc};
use fold_support::{assert_same, begin, define, fold, fold_as, oplog, store, try_fold, write};
use history::change::Reason;
use support::{
    Bench,
    engine::{
        fold::{FoldFailure, Obstacle, Record, Sparse, Wish, fold_manifest},
        pipeline::SegmentStore,
    },
};
use testbed::Options;

fn options(version: &str) -> Options {
    Options::version(version)
        // Small transactions become chains of entries.
        .set_parameter("maxNumberOfTransactionOperationsInSingleOplogEntry", "3")
        .set_parameter("minSnapshotHistoryWindowInSeconds", "3600")
        .set_parameter("ttlMonitorEnabled", "false")
}

async fn folds_are_snapshots(version: &str) {
    let bench = Bench::start(options(version)).await;
    begin(&bench, version).await;
    // Open when the base is taken, and committed after it.
    let mut open = bench.client.start_session().await.unwrap();
    open.start_transaction().await.unwrap();
    let docs = bench.client.database("app").collection::<Document>("docs");
    docs.insert_one(doc! { "_id": "open" }).session(&mut open).await.unwrap();
    let first = bench.snapshot().await;
    open.commit_transaction().await.unwrap();

    write(&bench, 0).await;
    let second = bench.snapshot().await;
    define(&bench, version).await;
    write(&bench, 1).await;
    let third = bench.snapshot().await;
    write(&bench, 2).await;
    let fourth = bench.snapshot().await;

    let store = store(&bench).await;
    let manifests = [
        bench.manifest(&first).await,
        bench.manifest(&second).await,
        bench.manifest(&third).await,
        bench.manifest(&fourth).await,
    ];
    let at = |n: usize| manifests[n].header().cluster_time;
    let added = store.added_bytes();
    // From one to the next is what the steps below do.
    for (from, to) in [(0, 2), (0, 3), (3, 3)] {
        let folded = fold(&bench, &store, &manifests[from], at(to)).await;
        assert_same(&bench, &folded, &manifests[to], &format!("{version}: {from} to {to}")).await;
    }
    // Of all segments there was not one that the snapshots had not stored, but for those of capped collections.
    assert!(store.added_bytes() - added < 1_000_000, "{} bytes were added", store.added_bytes() - added);
    // Step by step, each from the fold before.
    let mut folded = manifests[0].clone();
    for (to, manifest) in manifests.iter().enumerate().skip(1) {
        folded = fold(&bench, &store, &folded, at(to)).await;
        assert_same(&bench, &folded, manifest, &format!("{version}: step {to}")).await;
    }
    // The same, with little changes beside segments: whatever is made of it is a fresh snapshot again.
    let mut kept = manifests[0].clone();
    for (to, manifest) in manifests.iter().enumerate().skip(1) {
        kept = fold_as(&bench, &store, &kept, at(to), Wish { sparse: Sparse::Keep, ..Wish::WHOLE }).await;
        assert!(!kept.delta_runs().is_empty(), "{version}: step {to} keeps nothing");
        let whole = fold(&bench, &store, &kept, at(to)).await;
        assert_same(&bench, &whole, manifest, &format!("{version}: kept, step {to}")).await;
    }
    at_times_between(&bench, &manifests, &store).await;
    a_record_with_a_hole(&bench, &manifests[2], &store).await;
}

/// The states at times between snapshots, against what the server gives when it reads at that time.
async fn at_times_between(bench: &Bench, manifests: &[vault::Manifest], store: &SegmentStore) {
    let (entries, last) = oplog(&bench.client).await;
    let times: Vec<_> =
        entries.iter().map(|entry| history::entry::Entry::read(entry).unwrap().time).collect();
    let (from, to) = (manifests[2].header().cluster_time, manifests[3].header().cluster_time);
    let inside: Vec<_> = times
        .into_iter()
        .map(|time| model::ClusterTime { seconds: time.seconds, increment: time.increment })
        .filter(|time| *time > manifests[2].header().cluster_time && *time < to)
        .collect();
    assert!(inside.len() > 1000, "{} entries between {from} and {to}", inside.len());
    for n in 1..6 {
        let at = inside[inside.len() * n / 6];
        let record = Record::of_entries(history::ClusterTime::NONE, last, entries.clone());
        let folded =
            fold_manifest(store, &manifests[2], record, at, manifests[2].header().clone(), Wish::WHOLE).await;
        let folded = folded.unwrap_or_else(|failure| panic!("{failure}"));
        for name in ["docs", "large", "strict", "collated", "system.js", "system.buckets.weather"] {
            let found =
                folded.collections.iter().find(|c| c.meta.db == "app" && c.meta.name == name).unwrap();
            let truth = bench.source_at(&format!("app.{name}"), at).await;
            let mut sum = history::ContentSum::default();
            truth.iter().for_each(|document| sum.add(document));
            assert_eq!(found.pages.content, sum, "{name} at {at}");
        }
    }
}

/// A record that lacks an insert of a document that is updated later: the diff comes for nothing.
async fn a_record_with_a_hole(bench: &Bench, base: &vault::Manifest, store: &SegmentStore) {
    let docs = bench.client.database("app").collection::<Document>("docs");
    docs.insert_one(doc! { "_id": "lost" }).await.unwrap();
    docs.update_one(doc! { "_id": "lost" }, doc! { "$set": { "found": true } }).await.unwrap();
    let (entries, end) = oplog(&bench.client).await;
    let at = model::ClusterTime { seconds: end.seconds, increment: end.increment };
    assert!(try_fold(bench, store, base, at).await.is_ok(), "the whole record can be folded");

    let is_lost = |entry: &Vec<u8>| {
        let entry = Document::from_reader(entry.as_slice()).unwrap();
        let id = entry.get_document("o").unwrap().get_str("_id").ok();
        entry.get_str("op").unwrap() == "i" && id == Some("lost")
    };
    let (lost, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_lost);
    assert_eq!(lost.len(), 1);
    let record = Record::of_entries(history::ClusterTime::NONE, end, others);
    let Err(failure) = fold_manifest(store, base, record, at, base.header().clone(), Wish::WHOLE).await
    else {
        panic!("a lost insert was not noticed");
    };
    let FoldFailure::Unfoldable(found) = failure else { panic!("{failure}") };
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.namespace.as_deref(), Some("app.docs"));
    let Obstacle::Document { defect, .. } = &found.obstacle else { panic!("{found}") };
    assert_eq!(defect.reason, Reason::MissingDocument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_6_0_5() {
    folds_are_snapshots("6.0.5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_5_0_4() {
    folds_are_snapshots("5.0.4").await;
}
