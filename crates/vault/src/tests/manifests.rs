//! Manifests: written page by page, shared where nothing changed, read back the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::{TryStreamExt as _, future::BoxFuture};
use history::ContentSum;
use model::{ClusterTime, DeploymentKind, Id, WallTime};

use super::{Directory, memory};
use crate::{
    Announce, CollectionEntry, CollectionKind, CollectionMeta, Error, Location, Manifest, ManifestHeader,
    ManifestRef, ManifestWriter, MasterKey, NoAnnounce, ObjectKind, ObjectName, Order, Principals,
    SegmentEntry, Vault, faults::Faults,
};

pub(super) fn header(seconds: u32) -> ManifestHeader {
    ManifestHeader {
        snapshot_id: Id::from_parts(seconds, [1; 8]),
        project_id: Id::from_parts(2, [2; 8]),
        project_name: "p".to_owned(),
        deployment_id: Id::from_parts(3, [3; 8]),
        deployment_name: "d".to_owned(),
        deployment_kind: DeploymentKind::ReplicaSet,
        cluster_time: ClusterTime { seconds, increment: 1 },
        created_at: WallTime(i64::from(seconds) * 1000),
        mongod_version: "6.0.5".to_owned(),
        fcv: "6.0".to_owned(),
        replica_set_name: "rs0".to_owned(),
        description: Some("before the migration".to_owned()),
        expires_at: None,
        amid_restore: false,
        fold_rules: 2,
        snapshot_type: "onDemand".to_owned(),
        ebbtide_version: "0.1.0".to_owned(),
    }
}

fn segment(n: u64, as_of: ClusterTime) -> SegmentEntry {
    let hash = *blake3::hash(&n.to_le_bytes()).as_bytes();
    let content = ContentSum { documents: n, bytes: 100 * n, sum: [n, u64::MAX] };
    SegmentEntry {
        name: ObjectName::new(ObjectKind::Segment, hash),
        order: Order::Sorted,
        first_key: n.to_be_bytes().to_vec(),
        last_key: (n + 1).to_be_bytes().to_vec(),
        documents: n,
        bytes: 100 * n,
        content,
        as_of,
        stored_bytes: 50 * n,
    }
}

pub(super) fn collection(name: &str, as_of: ClusterTime) -> CollectionMeta {
    CollectionMeta {
        uuid: Some([7; 16]),
        db: "shop".to_owned(),
        name: name.to_owned(),
        kind: CollectionKind::Plain,
        order: Order::Sorted,
        options: b"\x05\0\0\0\0".to_vec(),
        id_index: Some(vec![5, 0, 0, 0, 0]),
        indexes: vec![vec![5, 0, 0, 0, 0], vec![]],
        as_of,
        read_through: None,
    }
}

/// Writes a manifest of one collection of these segments.
async fn write(vault: &Vault, seconds: u32, segments: impl Iterator<Item = u64>) -> ManifestRef {
    let header = header(seconds);
    let as_of = header.cluster_time;
    let mut writer = ManifestWriter::new(vault, header, Arc::new(NoAnnounce));
    writer.begin_collection(collection("orders", as_of)).unwrap();
    for n in segments {
        writer.push_segment(&segment(n, as_of)).await.unwrap();
    }
    writer.end_collection().await.unwrap();
    writer.finish(WallTime(5)).await.unwrap()
}

async fn read(vault: &Vault, name: &ObjectName) -> crate::Result<Vec<(CollectionEntry, Vec<SegmentEntry>)>> {
    let manifest = Manifest::open(vault, name).await?;
    let mut all = Vec::new();
    for collection in manifest.collections().try_collect::<Vec<_>>().await? {
        let segments = manifest.segments(&collection).try_collect().await?;
        all.push((collection, segments));
    }
    Ok(all)
}

#[tokio::test]
async fn a_manifest_reads_back_as_it_was_written() {
    let vault = memory().await;
    let own = header(10);
    let as_of = own.cluster_time;
    let earlier = ClusterTime { seconds: 9, increment: 4 };
    let mut writer = ManifestWriter::new(&vault, own.clone(), Arc::new(NoAnnounce));

    // Two lists grow at the same time; the collections come in the order in which they are handed over.
    let (mut orders, mut log) = (writer.segment_list(), writer.segment_list());
    let order_segments: Vec<_> = (0..3000).map(|n| segment(n, as_of)).collect();
    let log_segment =
        SegmentEntry { order: Order::Natural, first_key: vec![], last_key: vec![], ..segment(7, earlier) };
    for entry in &order_segments {
        orders.push(entry).await.unwrap();
    }
    log.push(&log_segment).await.unwrap();
    let log = log.finish().await.unwrap();
    let capped = CollectionMeta {
        kind: CollectionKind::Capped,
        order: Order::Natural,
        read_through: Some(as_of),
        ..collection("log", earlier)
    };
    let view = CollectionMeta {
        uuid: None,
        kind: CollectionKind::View,
        id_index: None,
        indexes: vec![],
        ..collection("v", as_of)
    };
    writer.push_collection(capped.clone(), log).await.unwrap();
    let orders = orders.finish().await.unwrap();
    writer.push_collection(collection("orders", as_of), orders).await.unwrap();
    writer.push_collection(view.clone(), Default::default()).await.unwrap();
    let principals =
        Principals { users: vec![b"root".to_vec(), b"app".to_vec()], roles: vec![b"r".to_vec()] };
    writer.set_principals(&principals).await.unwrap();
    let stored = writer.finish(WallTime(77)).await.unwrap();

    let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
    assert_eq!(manifest.header(), &own);
    assert_eq!((manifest.completed_at(), manifest.totals()), (WallTime(77), stored.totals));
    assert_eq!(manifest.principals().await.unwrap(), Some(principals));
    let all = read(&vault, &stored.name).await.unwrap();
    let metas: Vec<_> = all.iter().map(|(collection, _)| collection.meta.clone()).collect();
    assert_eq!(metas, [capped, collection("orders", as_of), view]);
    assert_eq!(all[0].1, [log_segment]);
    assert_eq!(all[1].1, order_segments);
    assert!(all[1].0.segment_pages.len() > 1);
    assert!(all[2].1.is_empty());
    let sum: u64 = order_segments.iter().map(|entry| entry.documents).sum();
    assert_eq!((all[1].0.documents, all[1].0.segments), (sum, 3000));
    assert_eq!(
        (stored.totals.collections, stored.totals.segments, stored.totals.documents),
        (3, 3001, sum + 7)
    );
}

#[tokio::test]
async fn what_did_not_change_is_the_same_page_in_the_next_snapshot() {
    let vault = memory().await;
    let names = async |stored: &ManifestRef| -> BTreeSet<ObjectName> {
        let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
        let names: Vec<_> = manifest.object_names().try_collect().await.unwrap();
        names.into_iter().filter(|name| name.kind == ObjectKind::Page).collect()
    };
    let first = write(&vault, 10, 0..20_000).await;
    let same = write(&vault, 20, 0..20_000).await;
    let changed = write(&vault, 30, (0..20_000).map(|n| if n == 10_000 { 99_999 } else { n })).await;
    let (first_pages, same_pages, changed_pages) =
        (names(&first).await, names(&same).await, names(&changed).await);
    assert!(first_pages.len() > 10);
    assert_eq!(first_pages, same_pages, "only the root is new");
    assert_ne!(first.name, same.name);
    // The page of the change, the page of collections, and a neighbour when the change moved a cut.
    assert!(changed_pages.difference(&first_pages).count() <= 3);
    let all = read(&vault, &same.name).await.unwrap();
    assert!(all[0].1.iter().all(|entry| entry.as_of.seconds == 20), "each snapshot has its own time");
    let all = read(&vault, &first.name).await.unwrap();
    assert!(all[0].1.iter().all(|entry| entry.as_of.seconds == 10));
}

#[tokio::test]
async fn every_object_is_among_the_names() {
    let vault = memory().await;
    let stored = write(&vault, 10, 0..2500).await;
    let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
    let names: BTreeSet<_> =
        manifest.object_names().try_collect::<Vec<_>>().await.unwrap().into_iter().collect();
    assert_eq!(names.iter().filter(|name| name.kind == ObjectKind::Segment).count(), 2500);
    let mut listed = BTreeSet::new();
    for kind in [ObjectKind::Page, ObjectKind::Manifest] {
        let objects: Vec<_> = vault.list(kind).try_collect().await.unwrap();
        listed.extend(objects.into_iter().map(|object| object.name));
    }
    assert!(listed.is_subset(&names));
    assert_eq!(listed.len() + 2500, names.len());
}

/// Notes what is announced, and that it was announced before it was there.
struct Watch {
    vault: Vault,
    names: Mutex<Vec<ObjectName>>,
    fail: bool,
}

impl Announce for Watch {
    fn announce(
        &self,
        name: ObjectName,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async move {
            if self.fail {
                return Err("the lease is lost".into());
            }
            assert!(!self.vault.contains(&name).await?, "{name} was there before it was announced");
            self.names.lock().unwrap().push(name);
            Ok(())
        })
    }
}

#[tokio::test]
async fn every_object_is_announced_before_it_is_stored() {
    let vault = memory().await;
    let watch = Arc::new(Watch { vault: vault.clone(), names: Mutex::default(), fail: false });
    let mut writer = ManifestWriter::new(&vault, header(10), watch.clone());
    writer.begin_collection(collection("orders", ClusterTime::default())).unwrap();
    for n in 0..2000 {
        writer.push_segment(&segment(n, ClusterTime::default())).await.unwrap();
    }
    writer.end_collection().await.unwrap();
    let stored = writer.finish(WallTime(1)).await.unwrap();
    let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
    let names: Vec<_> = manifest.object_names().try_collect().await.unwrap();
    let needed: BTreeSet<_> = names.into_iter().filter(|name| name.kind != ObjectKind::Segment).collect();
    let announced: BTreeSet<_> = watch.names.lock().unwrap().iter().copied().collect();
    assert_eq!(announced, needed);

    let deaf = Arc::new(Watch { vault: vault.clone(), names: Mutex::default(), fail: true });
    let writer = ManifestWriter::new(&vault, header(11), deaf);
    assert!(matches!(writer.finish(WallTime(1)).await, Err(Error::Announce(_))));
    assert_eq!(vault.list_manifests().try_collect::<Vec<_>>().await.unwrap().len(), 1);
}

#[tokio::test]
async fn steps_out_of_turn_are_refused() {
    let vault = memory().await;
    let mut writer = ManifestWriter::new(&vault, header(1), Arc::new(NoAnnounce));
    let meta = collection("c", ClusterTime::default());
    assert!(writer.push_segment(&segment(1, ClusterTime::default())).await.is_err());
    assert!(writer.end_collection().await.is_err());
    writer.begin_collection(meta.clone()).unwrap();
    assert!(writer.begin_collection(meta).is_err());
    assert!(matches!(writer.finish(WallTime(1)).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_line_as_long_as_the_server_lets_it_be_is_kept() {
    let vault = memory().await;
    let as_of = ClusterTime { seconds: 10, increment: 1 };
    let mut writer = ManifestWriter::new(&vault, header(10), Arc::new(NoAnnounce));
    let pipeline = CollectionMeta { options: vec![0xA5; 15 << 20], ..collection("view", as_of) };
    writer.push_collection(pipeline.clone(), Default::default()).await.unwrap();
    let long =
        SegmentEntry { first_key: vec![1; 17 << 20], last_key: vec![2; 17 << 20], ..segment(1, as_of) };
    writer.begin_collection(collection("keys", as_of)).unwrap();
    writer.push_segment(&long).await.unwrap();
    writer.end_collection().await.unwrap();
    let stored = writer.finish(WallTime(1)).await.unwrap();
    let all = read(&vault, &stored.name).await.unwrap();
    assert_eq!(all[0].0.meta, pipeline);
    assert_eq!(all[1].1, [long]);
}

#[tokio::test]
async fn damage_to_a_manifest_names_the_object() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    let stored = write(vault, 10, 0..2500).await;
    let manifest = Manifest::open(vault, &stored.name).await.unwrap();
    let names: Vec<_> = manifest.object_names().try_collect().await.unwrap();
    let names: Vec<_> = names.into_iter().filter(|name| name.kind != ObjectKind::Segment).collect();
    for pair in names.windows(2) {
        let (path, other) = (directory.file(&pair[0].path()), directory.file(&pair[1].path()));
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 0x80;
        for bad in [flipped, good[..good.len() - 1].to_vec(), std::fs::read(other).unwrap()] {
            std::fs::write(&path, bad).unwrap();
            let error = read(vault, &stored.name).await.unwrap_err();
            assert!(matches!(&error, Error::Damaged { object, .. } if *object == pair[0]), "{error}");
        }
        std::fs::write(&path, good).unwrap();
    }
    read(vault, &stored.name).await.unwrap();
}

#[tokio::test]
async fn no_root_is_there_before_all_of_its_pages() {
    for fail in 1.. {
        let faults = Faults::new();
        let location = Location::memory().with_faults(faults.clone());
        let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
        faults.fail_put(fail);
        let mut writer = ManifestWriter::new(&vault, header(1), Arc::new(NoAnnounce));
        let written = async {
            writer.begin_collection(collection("c", ClusterTime::default()))?;
            for n in 0..3000 {
                writer.push_segment(&segment(n, ClusterTime::default())).await?;
            }
            writer.end_collection().await?;
            writer.finish(WallTime(1)).await
        };
        let written = written.await;
        let roots: Vec<_> = vault.list_manifests().try_collect().await.unwrap();
        assert_eq!(roots.len(), usize::from(written.is_ok()));
        if written.is_ok() {
            assert!(fail > 3, "three pages at least");
            return;
        }
    }
}

#[tokio::test]
async fn a_detached_manifest_is_read_like_any_other_and_is_nowhere_in_the_vault() {
    let vault = memory().await;
    let at = header(7).cluster_time;
    let mut writer = ManifestWriter::new(&vault, header(7), Arc::new(NoAnnounce));
    writer.begin_collection(collection("a", at)).unwrap();
    writer.push_segment(&segment(3, at)).await.unwrap();
    writer.end_collection().await.unwrap();
    let detached = writer.finish_detached(WallTime(9)).await.unwrap();
    let kept = serde_json::to_string(&detached).unwrap();
    let manifest = Manifest::attach(&vault, &serde_json::from_str(&kept).unwrap()).unwrap();
    assert_eq!(manifest.header(), &header(7));
    let collections: Vec<_> = manifest.collections().try_collect().await.unwrap();
    assert_eq!(collections.len(), 1);
    let segments: Vec<_> = manifest.segments(&collections[0]).try_collect().await.unwrap();
    assert_eq!(segments, [segment(3, at)]);
    assert!(vault.list_manifests().try_collect::<Vec<_>>().await.unwrap().is_empty());
    let other: Result<crate::DetachedManifest, _> = serde_json::from_str("\"{}\"");
    assert!(matches!(Manifest::attach(&vault, &other.unwrap()), Err(Error::Damaged { .. })));
}
