//! What is not as it was written is found, and what lies is too.

use std::collections::BTreeSet;

use history::change::{Change, Write, push_record};
use serde_json::json;

use super::{
    Directory,
    deltas::{change, sealed},
    memory, noise,
};
use crate::{
    Delta, DeltaBuilder, DeltaEntry, DeltaKey, Error, Location, MasterKey, ObjectKind, ObjectName,
    SealedDelta, SealedObject, Vault,
    faults::Faults,
    object::{HEADER_BYTES, Header, compress, seal_single},
};

/// Three blocks of one change each.
fn three_blocks(vault: &Vault, seed: u64) -> SealedDelta {
    let text = |n: u64| Write::Patch(noise(seed + n, 400).into_bytes().into());
    let changes: Vec<_> = (1..4).map(|n| change(n, b"key", 1, text(n.into()))).collect();
    sealed(vault, 1, &changes)
}

/// Opens a delta and reads all of it.
async fn read(vault: &Vault, entry: &DeltaEntry) -> Result<(), Error> {
    Delta::open(vault, &entry.name).await?.verify(entry).await
}

/// Reads a changed object; gives the block that the error names.
async fn read_changed(directory: &Directory, entry: &DeltaEntry, bytes: &[u8]) -> Option<u32> {
    std::fs::write(directory.file(&entry.name.path()), bytes).unwrap();
    let error = read(&directory.vault, entry).await.expect_err("a changed object was read");
    assert!(error.to_string().contains(&entry.name.hex()), "{error}");
    match error {
        Error::Damaged { object, block, .. } => {
            assert_eq!(object, entry.name);
            block
        }
        Error::NewerFormat { .. } => None,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn one_flipped_bit_anywhere_is_found_and_named() {
    let directory = Directory::new().await;
    let SealedDelta { entry, object } = three_blocks(&directory.vault, 0);
    directory.vault.put(&object).await.unwrap();
    let mut blocks = BTreeSet::new();
    for at in 0..object.bytes.len() {
        let mut bad = object.bytes.to_vec();
        bad[at] ^= 1 << (at % 8);
        blocks.insert(read_changed(&directory, &entry, &bad).await);
    }
    assert_eq!(blocks, [None, Some(0), Some(1), Some(2), Some(3)].into());
    std::fs::write(directory.file(&entry.name.path()), &object.bytes).unwrap();
    read(&directory.vault, &entry).await.unwrap();
}

#[tokio::test]
async fn an_object_cut_short_or_grown_is_found() {
    let directory = Directory::new().await;
    let SealedDelta { entry, object } = three_blocks(&directory.vault, 0);
    directory.vault.put(&object).await.unwrap();
    for length in 0..object.bytes.len() {
        read_changed(&directory, &entry, &object.bytes[..length]).await;
    }
    assert_eq!(read_changed(&directory, &entry, &[&object.bytes[..], b"x"].concat()).await, None);

    // A delta that was opened while it was whole.
    std::fs::write(directory.file(&entry.name.path()), &object.bytes).unwrap();
    let open = Delta::open(&directory.vault, &entry.name).await.unwrap();
    std::fs::write(directory.file(&entry.name.path()), &object.bytes[..100]).unwrap();
    for (at, block) in [(0, 1), (1, 2), (2, 3)] {
        let read = open.read_block(at).await;
        assert!(matches!(read, Err(Error::Damaged { block: Some(b), .. }) if b == block), "{read:?}");
    }
    std::fs::remove_file(directory.file(&entry.name.path())).unwrap();
    assert!(matches!(open.read_block(0).await, Err(Error::Missing { .. })));
    assert!(matches!(read(&directory.vault, &entry).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn one_delta_or_block_cannot_stand_in_for_another() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    let (one, two) = (three_blocks(vault, 0), three_blocks(vault, 10));
    vault.put(&one.object).await.unwrap();
    assert_eq!(read_changed(&directory, &one.entry, &two.object.bytes).await, Some(0));
    vault.put(&one.object).await.unwrap();
    let open = Delta::open(vault, &one.entry.name).await.unwrap();
    let lengths: Vec<_> = open.blocks().iter().map(|block| block.stored_bytes as usize).collect();
    let front = one.object.bytes.len() - lengths.iter().sum::<usize>();
    let first = &one.object.bytes[front..front + lengths[0]];
    // The first block in all places, and every block where that of the other delta was.
    let mut twice = one.object.bytes[..front].to_vec();
    for length in &lengths {
        let mut block = first.to_vec();
        block.resize(*length, 0);
        twice.extend(block);
    }
    assert_eq!(read_changed(&directory, &one.entry, &twice).await, Some(2));
    let mut mixed = one.object.bytes[..front].to_vec();
    mixed.extend(&two.object.bytes[two.object.bytes.len() - (one.object.bytes.len() - front)..]);
    assert_eq!(read_changed(&directory, &one.entry, &mixed).await, Some(1));

    let segment = ObjectName::new(ObjectKind::Segment, *one.entry.name.as_bytes());
    assert!(matches!(Delta::open(vault, &segment).await, Err(Error::Refused { .. })));
    let slice = ObjectName::new(ObjectKind::Slice, *one.entry.name.as_bytes());
    vault.put(&SealedObject { name: slice, bytes: one.object.bytes }).await.unwrap();
    assert!(crate::Slice::open(vault, &slice).await.unwrap_err().is_damage());
}

#[tokio::test]
async fn a_store_that_fails_is_not_taken_for_damage() {
    let faults = Faults::new();
    let location = Location::memory().with_faults(faults.clone());
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let SealedDelta { entry, object } = three_blocks(&vault, 0);
    faults.tear_put(1);
    assert!(vault.put(&object).await.is_err());
    assert!(read(&vault, &entry).await.unwrap_err().is_damage());
    vault.put(&object).await.unwrap();
    faults.fail_get(1);
    assert!(Delta::open(&vault, &entry.name).await.unwrap_err().is_transient());
    let open = Delta::open(&vault, &entry.name).await.unwrap();
    faults.fail_get(1);
    assert!(open.read_block(1).await.unwrap_err().is_transient());
    faults.fail_get(1);
    assert!(open.verify(&entry).await.unwrap_err().is_transient());
    open.verify(&entry).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_lies_is_found() {
    let vault = memory().await;
    let SealedDelta { entry, object } = three_blocks(&vault, 0);
    vault.put(&object).await.unwrap();
    read(&vault, &entry).await.unwrap();
    let key = |collection, key: &[u8]| DeltaKey { collection, key: key.to_vec() };
    let (first, last) = (entry.first.collection, entry.last.collection);
    for lie in [
        DeltaEntry { changes: 4, ..entry.clone() },
        DeltaEntry { changes: 2, ..entry.clone() },
        DeltaEntry { bytes: entry.bytes + 1, ..entry.clone() },
        DeltaEntry { first: key(first, b"kex"), ..entry.clone() },
        DeltaEntry { first: key(last, b"key"), ..entry.clone() },
        DeltaEntry { last: key(last, b"key\0"), ..entry.clone() },
        DeltaEntry { last: key(first, b"key"), ..entry.clone() },
    ] {
        let error = read(&vault, &lie).await.unwrap_err();
        assert!(matches!(&error, Error::Damaged { object, .. } if *object == entry.name), "{lie:?}: {error}");
    }
}

/// A block as a writer with a mistake makes it.
struct Forged {
    told: &'static [u8],
    changes: u64,
    plain: Vec<u8>,
    /// What is hashed.
    hashed: Option<Vec<u8>>,
}

impl Forged {
    fn of(told: &'static [u8], changes: &[&Change<'_>]) -> Self {
        let mut plain = Vec::new();
        changes.iter().for_each(|change| push_record(&mut plain, change));
        Self { told, changes: changes.len() as u64, plain, hashed: None }
    }
}

/// Stores a delta of these blocks, which has the name of its header; tells what is wrong with it.
async fn forge(vault: &Vault, blocks: &[Forged]) -> Result<(), Error> {
    let frames: Vec<_> = blocks.iter().map(|block| compress(&block.plain).unwrap()).collect();
    let line = |(block, frame): (&Forged, &Vec<u8>)| {
        json!({
            "first": { "collection": "01".repeat(16), "key": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, block.told) },
            "changes": block.changes,
            "bytes": block.plain.len(),
            "storedBytes": frame.len() + 16,
            "hash": hex::encode(vault.keys().block_hash(block.hashed.as_ref().unwrap_or(&block.plain))),
        })
    };
    let lines: Vec<_> = blocks.iter().zip(&frames).map(line).collect();
    let root = json!({ "format": "ebbtide-delta", "version": 1, "blocks": lines });
    let plain = serde_json::to_vec(&root).unwrap();
    let name = vault.keys().name(ObjectKind::Delta, &[&plain]);
    let salt = vault.keys().salt(&name);
    let seal = vault.keys().object(&name, &salt);
    let mut bytes = Vec::new();
    for (number, mut frame) in (0..).zip([compress(&plain).unwrap()].into_iter().chain(frames)) {
        let tag = seal.seal(number, &mut frame);
        if number == 0 {
            Header::write(&name, frame.len() + tag.len(), &salt, &mut bytes);
            assert_eq!(bytes.len(), HEADER_BYTES);
        }
        bytes.extend(frame);
        bytes.extend(tag);
    }
    let stored_bytes = vault.put(&SealedObject { name, bytes: bytes.into() }).await.unwrap();
    let key = |change: Option<Change<'_>>| {
        change.map_or(DeltaKey { collection: history::CollectionId([1; 16]), key: vec![] }, |change| {
            DeltaKey { collection: change.collection, key: change.key.into_bytes() }
        })
    };
    let entry = DeltaEntry {
        name,
        first: key(blocks.first().and_then(|block| Delta::changes(&block.plain).next())),
        last: key(blocks.last().and_then(|block| Delta::changes(&block.plain).last())),
        changes: blocks.iter().map(|block| block.changes).sum(),
        bytes: blocks.iter().map(|block| block.plain.len() as u64).sum(),
        stored_bytes,
    };
    read(vault, &entry).await
}

#[tokio::test]
async fn what_a_writer_did_wrong_is_found() {
    let vault = memory().await;
    let delete = |key: &[u8], seconds| change(1, key, seconds, Write::Delete);
    let (a, b, c) = (delete(b"a", 1), delete(b"b", 1), delete(b"c", 1));
    forge(&vault, &[Forged::of(b"a", &[&a, &b]), Forged::of(b"c", &[&c])]).await.unwrap();
    // One document may be in two blocks.
    forge(&vault, &[Forged::of(b"a", &[&a]), Forged::of(b"a", &[&delete(b"a", 2)])]).await.unwrap();

    let what = async |blocks: &[Forged]| match forge(&vault, blocks).await {
        Err(Error::Damaged { block, what, .. }) => (block, what),
        other => panic!("{other:?}"),
    };
    let order = "its changes are not in order";
    assert_eq!(what(&[Forged::of(b"b", &[&b, &a])]).await, (Some(1), order));
    assert_eq!(what(&[Forged::of(b"a", &[&delete(b"a", 2), &a])]).await, (Some(1), order));
    assert_eq!(what(&[Forged::of(b"a", &[&a, &a])]).await, (Some(1), order));
    let overlapping = [Forged::of(b"a", &[&a, &c]), Forged::of(b"b", &[&b])];
    assert_eq!(what(&overlapping).await, (None, order));
    let backwards = [Forged::of(b"a", &[&delete(b"a", 2)]), Forged::of(b"a", &[&a])];
    assert_eq!(what(&backwards).await, (None, order));
    let (block, text) = what(&[Forged::of(b"b", &[&b]), Forged::of(b"a", &[&a])]).await;
    assert!(block == Some(0) && text.contains("out of order"), "{text}");
    let lies = [Forged::of(b"a", &[&a]), Forged::of(b"b", &[&c])];
    assert_eq!(what(&lies).await, (Some(2), "its first change is not what the header says"));
    let hashed = Forged { hashed: Some(b"else".to_vec()), ..Forged::of(b"a", &[&a]) };
    assert_eq!(what(&[hashed]).await, (Some(1), "its hash is another one"));
    let counted = Forged { changes: 2, ..Forged::of(b"a", &[&a]) };
    assert_eq!(what(&[counted]).await, (Some(1), "it has another number of changes"));
    let cut = Forged { plain: Forged::of(b"a", &[&a]).plain[..41].to_vec(), ..Forged::of(b"a", &[&a]) };
    assert_eq!(what(&[cut]).await, (Some(1), "a change of it is cut short"));
    let mut unknown = Forged::of(b"a", &[&a]);
    unknown.plain[32] = 9;
    assert_eq!(what(&[unknown]).await, (Some(1), "a change of an unknown kind"));
    let none = Forged { told: b"", changes: 0, plain: vec![], hashed: None };
    assert_eq!(what(&[none]).await.0, Some(0));
}

#[tokio::test]
async fn a_delta_of_a_newer_ebbtide_is_told_as_such() {
    let vault = memory().await;
    let open = async |root: serde_json::Value| {
        let plain = serde_json::to_vec(&root).unwrap();
        let name = vault.keys().name(ObjectKind::Delta, &[&plain]);
        vault.put(&seal_single(vault.keys(), name, &plain).unwrap()).await.unwrap();
        Delta::open(&vault, &name).await
    };
    let what = |read: Result<Delta, Error>| match read {
        Err(Error::Damaged { block: Some(0), what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let block = |bytes: u64, changes: u64| {
        let first = json!({ "collection": "01".repeat(16), "key": "" });
        json!({ "first": first, "changes": changes, "bytes": bytes, "storedBytes": 20, "hash": "00".repeat(32) })
    };
    let root = |format: &str, version: u32, blocks: serde_json::Value| json!({ "format": format, "version": version, "blocks": blocks, "new": 1 });
    let newer = open(root("ebbtide-delta", 2, json!("of another form"))).await;
    assert!(matches!(newer, Err(Error::NewerFormat { version: 2, known: 1, .. })));
    assert_eq!(what(open(root("ebbtide-slice", 1, json!([]))).await), "it is not a delta");
    assert_eq!(
        what(open(json!({ "format": "ebbtide-delta", "version": 1 })).await),
        "its header is malformed"
    );
    assert!(what(open(root("ebbtide-delta", 1, json!([]))).await).contains("out of order"));
    let large = json!([block(70 << 20, 1), block(3 << 20, 1)]);
    assert_eq!(what(open(root("ebbtide-delta", 1, large)).await), "its blocks are larger than a delta");
    let many = json!([block(41, u64::MAX), block(41, u64::MAX)]);
    assert!(what(open(root("ebbtide-delta", 1, many)).await).contains("no number of changes"));
    // Fields that are not known are passed over.
    open(root("ebbtide-delta", 1, json!([block(41, 1)]))).await.unwrap();
    // A builder has no other way to make what is refused here.
    assert!(DeltaBuilder::new().seal(&vault).is_err());
}
