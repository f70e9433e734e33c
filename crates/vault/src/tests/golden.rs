//! The format does not change by accident: what older versions wrote is read for ever, and today's version, given
//! the same randomness, writes the same bytes.
//!
//! `tests/golden/v1` is a vault as version 1 of the format has it, `v1-window-18` one of the same format whose blocks are compressed as
//! they are since. When blocks come to be compressed differently, by a new version of zstd or by choice, only `written_again_…` fails:
//! keep the old directories for `…_is_read`, and write a new one beside them.
//! `EBBTIDE_WRITE_GOLDEN=1 cargo test -p ebbtide-vault golden` writes the directory.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::TryStreamExt as _;
use model::{ClusterTime, DeploymentKind, Id, OplogPosition, WallTime};
use zeroize::Zeroizing;

use super::{document, entry, golden_deltas, key, position, slice_source};
use crate::{
    ArchiveInfo, ArchiveReader, ArchiveWriter, CollectionKind, CollectionMeta, Location, Manifest,
    ManifestHeader, ManifestWriter, MasterKey, NoAnnounce, Order, Principals, S3Options, SegmentBuilder,
    SegmentEntry, Slice, SliceBuilder, SliceLink, Vault, VaultId,
    crypt::{Keys, Salts},
};

const WRITE: &str = "EBBTIDE_WRITE_GOLDEN";

/// All golden vaults, the oldest first.
pub(super) const ALL: [&str; 2] = ["v1", "v1-window-18"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn location(path: &Path) -> Location {
    Location::parse(path.to_str().unwrap(), S3Options::default()).unwrap()
}

/// They have one key.
fn master() -> MasterKey {
    MasterKey::from_text(&fs::read_to_string(golden(ALL[0]).join("master.key")).unwrap()).unwrap()
}

/// `{}`: what stands in specifications is of no concern here, they are kept as bytes.
pub(super) const EMPTY: &[u8] = b"\x05\0\0\0\0";

pub(super) fn orders() -> Vec<Vec<u8>> {
    (0..1500).map(|n| document(n * 3, &format!("order {n} ").repeat(40))).collect()
}

fn log() -> Vec<Vec<u8>> {
    [5, 1, 3].into_iter().map(|n| document(n, "logged")).collect()
}

fn principals() -> Principals {
    Principals { users: vec![document(1, "user")], roles: vec![document(2, "role")] }
}

fn archive() -> Vec<u8> {
    (0..5_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub(super) fn meta(name: &str, kind: CollectionKind, order: Order, as_of: ClusterTime) -> CollectionMeta {
    CollectionMeta {
        uuid: (kind != CollectionKind::View).then_some([name.len() as u8; 16]),
        db: "shop".to_owned(),
        name: name.to_owned(),
        kind,
        order,
        options: EMPTY.to_vec(),
        id_index: (kind != CollectionKind::View).then(|| EMPTY.to_vec()),
        indexes: vec![],
        as_of,
        read_through: None,
    }
}

pub(super) fn header() -> ManifestHeader {
    ManifestHeader {
        snapshot_id: Id::from_parts(0x6500_0000, [1; 8]),
        project_id: Id::from_parts(0x6400_0000, [2; 8]),
        project_name: "golden".to_owned(),
        deployment_id: Id::from_parts(0x6400_0001, [3; 8]),
        deployment_name: "rs".to_owned(),
        deployment_kind: DeploymentKind::ReplicaSet,
        cluster_time: ClusterTime { seconds: 1_700_000_000, increment: 7 },
        created_at: WallTime(1_700_000_000_000),
        mongod_version: "6.0.5".to_owned(),
        fcv: "6.0".to_owned(),
        replica_set_name: "rs0".to_owned(),
        description: Some("kept for ever".to_owned()),
        expires_at: None,
        amid_restore: false,
        fold_rules: 1,
        snapshot_type: "onDemand".to_owned(),
        ebbtide_version: "0.1.0".to_owned(),
    }
}

/// Entries of the two slices: the first has two blocks, and ends while a transaction of its entry 280 is open.
fn slices() -> [Vec<(OplogPosition, Vec<u8>)>; 2] {
    let at = |n: u32, term| {
        let position = position(1_700_000_000 + n, term);
        (position, entry(position, &format!("entry {n} ").repeat(400)))
    };
    [(1..=300).map(|n| at(n, 1)).collect(), (301..=303).map(|n| at(n, 2)).collect()]
}

fn timeline_start() -> SliceLink {
    SliceLink::first(position(1_700_000_000, 1))
}

pub(super) async fn golden_vault() -> Vault {
    golden_vault_of(ALL[0]).await
}

pub(super) async fn golden_vault_of(name: &str) -> Vault {
    Vault::open(&location(&golden(name).join("vault")), &master()).await.unwrap()
}

pub(super) async fn store(
    vault: &Vault,
    order: Order,
    documents: &[Vec<u8>],
    as_of: ClusterTime,
) -> SegmentEntry {
    let mut builder = SegmentBuilder::new(order);
    documents.iter().for_each(|document| builder.push(&key(document), document));
    let mut draft = builder.finish(vault).unwrap();
    draft.entry.as_of = as_of;
    draft.entry.stored_bytes = vault.put(&draft.seal(vault).unwrap()).await.unwrap();
    draft.entry
}

/// Writes the golden vault to a directory.
async fn write(path: &Path) {
    let keys = Keys::new(VaultId([0x1D; 16]), Zeroizing::new([0x2E; 32]), Salts::OfName);
    let vault = Vault::create_or_open_with(&location(path), &master(), keys, &[0x3F; 32]).await.unwrap();
    let at = header().cluster_time;
    let log_at = ClusterTime { seconds: at.seconds + 2, increment: 1 };
    let mut writer = ManifestWriter::new(&vault, header(), Arc::new(NoAnnounce));

    writer.begin_collection(meta("orders", CollectionKind::Plain, Order::Sorted, at)).unwrap();
    for documents in orders().chunks(1000) {
        let entry = store(&vault, Order::Sorted, documents, at).await;
        writer.push_segment(&entry).await.unwrap();
    }
    writer.end_collection().await.unwrap();

    writer.begin_collection(meta("log", CollectionKind::Capped, Order::Natural, log_at)).unwrap();
    let entry = store(&vault, Order::Natural, &log(), log_at).await;
    writer.push_segment(&entry).await.unwrap();
    writer.end_collection().await.unwrap();

    writer.begin_collection(meta("recent", CollectionKind::View, Order::Sorted, at)).unwrap();
    writer.end_collection().await.unwrap();
    writer.set_principals(&principals()).await.unwrap();
    writer.finish(WallTime(1_700_000_005_000)).await.unwrap();
    golden_deltas::write(&vault).await;

    let mut link = timeline_start();
    for entries in slices() {
        let mut builder = SliceBuilder::new(slice_source(), link);
        entries.iter().for_each(|(position, entry)| builder.push(*position, entry).unwrap());
        let read_from = if link.sequence == 0 { entries[279].0.time } else { builder.last().time };
        let slice = builder.seal(&vault, read_from, WallTime(1_700_000_400_000)).unwrap();
        vault.put(&slice.object).await.unwrap();
        link = SliceLink::behind(&slice.header, slice.name);
    }

    let id = "650000000404040404040404aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
    let mut archived = ArchiveWriter::with_id(&vault, id);
    archived.write(&archive()).await.unwrap();
    let info = archived.finish().await.unwrap();
    let mut text = serde_json::to_string_pretty(&info).unwrap();
    text.push('\n');
    fs::write(path.parent().unwrap().join("archive.json"), text).unwrap();
}

/// Every file below a directory.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn what_version_1_wrote_is_read() {
    for name in ALL {
        is_read(name).await;
    }
}

async fn is_read(name: &str) {
    let vault = golden_vault_of(name).await;
    assert_eq!(vault.id().to_string(), "1d".repeat(16));
    let manifests: Vec<_> = vault.list_manifests().try_collect().await.unwrap();
    assert_eq!(manifests.len(), 2);
    let mut snapshots = Vec::new();
    for listed in manifests {
        snapshots.push(Manifest::open(&vault, &listed.name).await.unwrap());
    }
    let manifest = snapshots.iter().find(|manifest| *manifest.header() == header()).unwrap();
    assert!(manifest.delta_runs().is_empty());
    assert_eq!(manifest.completed_at(), WallTime(1_700_000_005_000));
    assert_eq!(manifest.principals().await.unwrap(), Some(principals()));

    let mut read = Vec::new();
    for collection in manifest.collections().try_collect::<Vec<_>>().await.unwrap() {
        let mut documents = Vec::new();
        for entry in manifest.segments(&collection).try_collect::<Vec<_>>().await.unwrap() {
            vault.verify_segment(&entry).await.unwrap();
            documents.extend(vault.read_segment(&entry).await.unwrap().into_bytes());
        }
        read.push((collection.meta, documents));
    }
    let at = header().cluster_time;
    let log_at = ClusterTime { seconds: at.seconds + 2, increment: 1 };
    let expected = [
        (meta("orders", CollectionKind::Plain, Order::Sorted, at), orders().concat()),
        (meta("log", CollectionKind::Capped, Order::Natural, log_at), log().concat()),
        (meta("recent", CollectionKind::View, Order::Sorted, at), vec![]),
    ];
    assert!(read == expected, "the golden vault reads back as something else");

    let listed: Vec<_> = vault.list_slices().try_collect().await.unwrap();
    let mut chain = Vec::new();
    for listed in listed {
        chain.push(Slice::open(&vault, &listed.name).await.unwrap());
    }
    chain.sort_unstable_by_key(|slice| slice.header().sequence);
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0].header().link(), timeline_start());
    assert_eq!(chain[0].blocks().len(), 2);
    chain[1].follows(chain[0].header(), &chain[0].name()).unwrap();
    for (slice, entries) in chain.iter().zip(slices()) {
        let header = slice.header();
        assert_eq!((header.timeline_id, &*header.replica_set_name), (slice_source().timeline_id, "rs0"));
        assert_eq!((header.first, header.last), (entries[0].0, entries[entries.len() - 1].0));
        let plain: Vec<u8> = slice.read_blocks(0).try_concat().await.unwrap();
        assert!(plain == entries.into_iter().flat_map(|(_, entry)| entry).collect::<Vec<_>>());
    }
    assert_eq!(chain[0].header().read_from, slices()[0][279].0.time);

    let info = fs::read_to_string(golden(name).join("archive.json")).unwrap();
    let info: ArchiveInfo = serde_json::from_str(&info).unwrap();
    let reader = ArchiveReader::open(&vault, &info).unwrap();
    let pieces: Vec<_> = reader.read_range(0, u64::MAX).try_collect().await.unwrap();
    assert!(pieces.concat() == archive());
}

#[tokio::test]
async fn written_again_with_the_same_randomness_the_bytes_are_the_same() {
    let newest = golden(ALL[ALL.len() - 1]);
    if std::env::var_os(WRITE).is_some() {
        let path = newest.join("vault");
        let _ = fs::remove_dir_all(&path);
        write(&path).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vault");
    write(&path).await;
    let (written, kept) = (files(&path), files(&newest.join("vault")));
    assert_eq!(written.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, bytes) in &written {
        assert!(kept[name] == *bytes, "{} has other bytes", name.display());
    }
    let read = |path: PathBuf| fs::read(path).unwrap();
    assert!(read(directory.path().join("archive.json")) == read(newest.join("archive.json")));
}
