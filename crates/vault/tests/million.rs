//! A manifest of a million segments goes through little memory, both ways.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ebbtide_vault::{
    CollectionKind, CollectionMeta, Location, Manifest, ManifestHeader, ManifestWriter, MasterKey,
    NoAnnounce, ObjectName, Order, S3Options, SegmentEntry, Vault,
};
use futures::TryStreamExt as _;
use history::ContentSum;
use model::{ClusterTime, DeploymentKind, Id, WallTime};

const SEGMENTS: u64 = 1_000_000;
/// All entries at once would take some 300 MB.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

fn entry(n: u64, as_of: ClusterTime) -> SegmentEntry {
    // Spread like the hashes that names are.
    let word = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut name = [0; 32];
    for (at, eight) in name.chunks_exact_mut(8).enumerate() {
        eight.copy_from_slice(&word.rotate_left(17 * at as u32).to_be_bytes());
    }
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    SegmentEntry {
        name: format!("segment/{name}").parse::<ObjectName>().unwrap(),
        order: Order::Sorted,
        first_key: word.to_be_bytes().repeat(3),
        last_key: word.to_le_bytes().repeat(3),
        documents: 15_000,
        bytes: 16 << 20,
        content: ContentSum { documents: 15_000, bytes: 16 << 20, sum: [n, word] },
        as_of,
        stored_bytes: 7 << 20,
    }
}

/// The most memory that this process ever had resident.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_million_segments_stream_through_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::parse(directory.path().to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let as_of = ClusterTime { seconds: 1_700_000_000, increment: 1 };
    let header = ManifestHeader {
        snapshot_id: Id::from_parts(1, [1; 8]),
        project_id: Id::from_parts(2, [2; 8]),
        project_name: "p".to_owned(),
        deployment_id: Id::from_parts(3, [3; 8]),
        deployment_name: "d".to_owned(),
        deployment_kind: DeploymentKind::ReplicaSet,
        cluster_time: as_of,
        created_at: WallTime(0),
        mongod_version: "6.0.5".to_owned(),
        fcv: "6.0".to_owned(),
        replica_set_name: "rs0".to_owned(),
        description: None,
        expires_at: None,
        amid_restore: false,
        fold_rules: 2,
        snapshot_type: "onDemand".to_owned(),
        ebbtide_version: "0.1.0".to_owned(),
    };
    let meta = CollectionMeta {
        uuid: Some([7; 16]),
        db: "shop".to_owned(),
        name: "orders".to_owned(),
        kind: CollectionKind::Plain,
        order: Order::Sorted,
        options: vec![5, 0, 0, 0, 0],
        id_index: None,
        indexes: vec![],
        as_of,
        read_through: None,
    };
    let before = peak_bytes();

    let mut writer = ManifestWriter::new(&vault, header, Arc::new(NoAnnounce));
    writer.begin_collection(meta).unwrap();
    for n in 0..SEGMENTS {
        writer.push_segment(&entry(n, as_of)).await.unwrap();
    }
    writer.end_collection().await.unwrap();
    let stored = writer.finish(WallTime(1)).await.unwrap();
    let written = peak_bytes();

    let manifest = Manifest::open(&vault, &stored.name).await.unwrap();
    let collections: Vec<_> = manifest.collections().try_collect().await.unwrap();
    let mut segments = manifest.segments(&collections[0]);
    let mut n = 0;
    while let Some(segment) = segments.try_next().await.unwrap() {
        assert_eq!(segment, entry(n, as_of));
        n += 1;
    }
    assert_eq!(n, SEGMENTS);
    let read = peak_bytes();
    let grown = read.saturating_sub(before);
    println!(
        "writing took {} MB, reading {} MB more; {} pages",
        (written - before) >> 20,
        (read - written) >> 20,
        collections[0].segment_pages.len()
    );
    assert!(grown < GROWTH_BYTES_MAX, "memory grew by {} MB", grown >> 20);
}
