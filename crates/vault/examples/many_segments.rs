//! Writes a snapshot of one collection in very many segments of one document each into a vault, for measuring what a
//! manifest of that size costs: `many_segments VAULT MASTER_KEY_FILE PROJECT_ID SEGMENTS`. Prints the snapshot's id.

use std::{error::Error, sync::Arc};

use ebbtide_vault::{
    CollectionKind, CollectionMeta, Location, ManifestHeader, ManifestWriter, MasterKey, NoAnnounce, Order,
    S3Options, SegmentBuilder, SegmentEntry, Vault,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use history::key::push_document_key;
use model::{ClusterTime, DeploymentKind, Id, WallTime};

/// Segments on their way to the disk.
const AT_A_TIME: usize = 32;
const AS_OF: ClusterTime = ClusterTime { seconds: 1_700_000_000, increment: 1 };

/// `{v: 2, key: {_id: 1}, name: "_id_"}`.
const ID_INDEX: &[u8] =
    b"\x2e\0\0\0\x10v\0\x02\0\0\0\x03key\0\x0e\0\0\0\x10_id\0\x01\0\0\0\0\x02name\0\x05\0\0\0_id_\0\0";

/// `{_id: n}`.
fn document(n: i64) -> Vec<u8> {
    let mut document = 18_i32.to_le_bytes().to_vec();
    document.extend(b"\x12_id\0");
    document.extend(n.to_le_bytes());
    document.push(0);
    document
}

async fn store(vault: Vault, n: i64) -> Result<SegmentEntry, Box<dyn Error + Send + Sync>> {
    let document = document(n);
    let mut key = vec![];
    push_document_key(&mut key, &document)?;
    let mut builder = SegmentBuilder::new(Order::Sorted);
    builder.push(&key, &document);
    let draft = builder.finish(&vault)?;
    let mut entry = draft.entry.clone();
    entry.as_of = AS_OF;
    entry.stored_bytes = vault.put(&draft.seal(&vault)?).await?;
    Ok(entry)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, key, project, segments] = arguments.as_slice() else {
        return Err("many_segments VAULT MASTER_KEY_FILE PROJECT_ID SEGMENTS".into());
    };
    let location = Location::parse(place, S3Options::default())?;
    let vault = Vault::open(&location, &MasterKey::from_file(key)?).await?;
    let header = ManifestHeader {
        snapshot_id: Id::from_parts(1, [1; 8]),
        project_id: project.parse()?,
        project_name: "bench".to_owned(),
        deployment_id: Id::from_parts(3, [3; 8]),
        deployment_name: "many".to_owned(),
        deployment_kind: DeploymentKind::ReplicaSet,
        cluster_time: AS_OF,
        created_at: WallTime(1_700_000_000_000),
        mongod_version: "6.0.5".to_owned(),
        fcv: "6.0".to_owned(),
        replica_set_name: "rs".to_owned(),
        description: None,
        expires_at: None,
        amid_restore: false,
        fold_rules: 2,
        snapshot_type: "onDemand".to_owned(),
        ebbtide_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let id = header.snapshot_id;
    let mut writer = ManifestWriter::new(&vault, header, Arc::new(NoAnnounce));
    writer.begin_collection(CollectionMeta {
        uuid: Some([7; 16]),
        db: "bench".to_owned(),
        name: "many".to_owned(),
        kind: CollectionKind::Plain,
        order: Order::Sorted,
        options: vec![5, 0, 0, 0, 0],
        id_index: Some(ID_INDEX.to_vec()),
        indexes: vec![ID_INDEX.to_vec()],
        as_of: AS_OF,
        read_through: None,
    })?;
    let stored = (0..segments.parse::<i64>()?).map(|n| {
        let vault = vault.clone();
        async move { tokio::spawn(store(vault, n)).await? }
    });
    let mut stored = stream::iter(stored).buffered(AT_A_TIME);
    while let Some(entry) = stored.try_next().await? {
        writer.push_segment(&entry).await?;
    }
    writer.end_collection().await?;
    writer.finish(WallTime(1_700_000_001_000)).await?;
    println!("{id}");
    Ok(())
}
