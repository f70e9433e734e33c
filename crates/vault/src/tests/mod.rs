//! Tests of the vault as a whole, on a local directory and in memory.
#![allow(clippy::unwrap_used)]

mod archives;
mod bson;
mod copies;
mod delta_damage;
mod delta_runs;
mod deltas;
mod golden;
mod golden_deltas;
mod manifests;
mod page_cache;
mod segments;
mod slices;
mod vaults;

use std::path::PathBuf;

use history::SortKey;
use model::{ClusterTime, Id, OplogPosition};

use crate::{Location, MasterKey, Order, S3Options, SegmentBuilder, SegmentEntry, SliceSource, Vault};

/// A raw document `{_id: NumberLong(id), d: text}`.
fn document(id: i64, text: &str) -> Vec<u8> {
    let length = 4 + (1 + 4 + 8) + (1 + 2 + 4 + text.len() + 1) + 1;
    let mut document = Vec::with_capacity(length);
    document.extend(u32::try_from(length).unwrap().to_le_bytes());
    document.extend(b"\x12_id\0");
    document.extend(id.to_le_bytes());
    document.extend(b"\x02d\0");
    document.extend(u32::try_from(text.len() + 1).unwrap().to_le_bytes());
    document.extend(text.as_bytes());
    document.extend([0, 0]);
    document
}

fn position(seconds: u32, term: i64) -> OplogPosition {
    OplogPosition { time: ClusterTime { seconds, increment: 1 }, term }
}

/// An entry of an oplog at this position: `{ts, t, v: 2, op: "n", ns: "", o: {msg: text}}`.
fn entry(position: OplogPosition, text: &str) -> Vec<u8> {
    let element = |kind: u8, name: &str, value: &[u8]| [&[kind], name.as_bytes(), &[0], value].concat();
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let string = |text: &str| [&length(text.len() + 1)[..], text.as_bytes(), &[0]].concat();
    let document = |elements: &[Vec<u8>]| {
        let body = elements.concat();
        [&length(4 + body.len() + 1)[..], &body, &[0]].concat()
    };
    document(&[
        element(0x11, "ts", &position.time.as_u64().to_le_bytes()),
        element(0x12, "t", &position.term.to_le_bytes()),
        element(0x10, "v", &2i32.to_le_bytes()),
        element(0x02, "op", &string("n")),
        element(0x02, "ns", &string("")),
        element(0x03, "o", &document(&[element(0x02, "msg", &string(text))])),
    ])
}

fn slice_source() -> SliceSource {
    SliceSource {
        timeline_id: Id::from_parts(0x6500_0002, [4; 8]),
        project_id: Id::from_parts(0x6400_0000, [2; 8]),
        project_name: "golden".to_owned(),
        deployment_id: Id::from_parts(0x6400_0001, [3; 8]),
        deployment_name: "rs".to_owned(),
        replica_set_name: "rs0".to_owned(),
        ebbtide_version: "0.1.0".to_owned(),
    }
}

fn key(document: &[u8]) -> Vec<u8> {
    SortKey::of_document(document).unwrap().into_bytes()
}

/// Text that neither repeats nor compresses well.
fn noise(seed: u64, bytes: usize) -> String {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut noise = vec![0; bytes];
    reader.fill(&mut noise);
    noise.into_iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn builder(documents: &[Vec<u8>]) -> SegmentBuilder {
    let mut builder = SegmentBuilder::new(Order::Sorted);
    for document in documents {
        builder.push(&key(document), document);
    }
    builder
}

/// Stores a segment of these documents.
async fn store(vault: &Vault, documents: &[Vec<u8>]) -> SegmentEntry {
    let mut draft = builder(documents).finish(vault).unwrap();
    draft.entry.stored_bytes = vault.put(&draft.seal(vault).unwrap()).await.unwrap();
    draft.entry
}

/// For properties, which are no async functions.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn memory() -> Vault {
    Vault::create_or_open(&Location::memory(), &MasterKey::generate()).await.unwrap()
}

/// A vault in a directory that goes away with the test.
struct Directory {
    directory: tempfile::TempDir,
    location: Location,
    master: MasterKey,
    vault: Vault,
}

impl Directory {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let location = Location::parse(path.to_str().unwrap(), S3Options::default()).unwrap();
        let master = MasterKey::generate();
        let vault = Vault::create_or_open(&location, &master).await.unwrap();
        Self { directory, location, master, vault }
    }

    fn file(&self, relative: &str) -> PathBuf {
        self.directory.path().join("vault").join(relative)
    }
}
