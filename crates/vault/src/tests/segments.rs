//! Segments: what goes in comes out, and nothing else ever does.

use history::ContentSum;
use proptest::prelude::*;

use super::{Directory, block_on, builder, document, key, memory, noise, store};
use crate::{
    Error, Hands, ObjectName, Order, SegmentBuilder, SegmentEntry, Vault, segment::BLOCK_BYTES_TARGET,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn documents_come_back_as_they_were(
        ids in prop::collection::btree_set(any::<i64>(), 1..60),
        lengths in prop::collection::vec(0usize..40_000, 60),
    ) {
        let documents: Vec<_> =
            ids.iter().zip(&lengths).map(|(&id, &length)| document(id, &noise(id as u64, length))).collect();
        block_on(async {
            let vault = memory().await;
            let entry = store(&vault, &documents).await;
            assert_eq!(entry.documents, documents.len() as u64);
            assert_eq!(entry.first_key, key(&documents[0]));
            assert_eq!(entry.last_key, key(documents.last().unwrap()));
            let mut content = ContentSum::default();
            documents.iter().for_each(|document| content.add(document));
            assert_eq!(entry.content, content);

            let segment = vault.read_segment(&entry).await.unwrap();
            assert!(segment.documents().eq(documents.iter().map(Vec::as_slice)));
            assert_eq!(segment.into_bytes(), documents.concat());
            vault.verify_segment(&entry).await.unwrap();
            for document in documents.iter().step_by(7) {
                let found = vault.read_document(&entry, &key(document)).await.unwrap();
                assert_eq!(found.as_ref(), Some(document));
            }
            // Some that are there, and between them some that are not.
            let wanted: Vec<_> = ids.iter().zip(&documents).step_by(3).flat_map(|(&id, there)| {
                let beside = id.checked_add(1).filter(|beside| !ids.contains(beside));
                let beside = beside.map(|beside| (key(&document(beside, "")), None));
                [Some((key(there), Some(there.clone()))), beside].into_iter().flatten()
            }).collect();
            let (keys, expected): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
            let (found, read_bytes) = vault.read_documents(&entry, &keys).await.unwrap();
            assert_eq!(found, expected);
            assert!(read_bytes <= entry.stored_bytes);
        });
    }
}

/// Two threads make what one makes, but for the salt.
#[tokio::test]
async fn two_seal_a_segment_as_one_does() {
    let vault = memory().await;
    for count in [1, 2, 90, 180, 900] {
        let documents: Vec<_> = (0..count).map(|id| document(id, &noise(id as u64, 12_000))).collect();
        let draft = builder(&documents).finish(&vault).unwrap();
        let alone = draft.seal(&vault).unwrap();
        let together = draft.seal_with(&vault, Hands::Two).unwrap();
        assert_eq!(alone.bytes.len(), together.bytes.len());
        vault.put(&together).await.unwrap();
        vault.verify_segment(&draft.entry).await.unwrap();
        let segment = vault.read_segment(&draft.entry).await.unwrap();
        assert_eq!(segment.into_bytes(), documents.concat());
    }
}

/// A document whose `_id` is a text.
fn named(id: &str, text: &str) -> Vec<u8> {
    let mut document = vec![0; 4];
    for (name, value) in [("_id", id), ("d", text)] {
        document.push(2);
        document.extend(name.as_bytes());
        document.push(0);
        document.extend(u32::try_from(value.len() + 1).unwrap().to_le_bytes());
        document.extend(value.as_bytes());
        document.push(0);
    }
    document.push(0);
    let length = u32::try_from(document.len()).unwrap();
    document[..4].copy_from_slice(&length.to_le_bytes());
    document
}

/// Neighbours are read together; what lies between is not read. Long keys are cut in the index, and then several blocks may
/// hold one of them.
#[tokio::test]
async fn documents_of_many_blocks_are_found_together() {
    let vault = memory().await;
    let numbered: Vec<_> = (0..900).map(|id| document(2 * id, &noise(id as u64, 12_000))).collect();
    let common = "k".repeat(700);
    let long =
        |id: u64| named(&format!("{}{id:05}", if id < 100 { "a" } else { &common }), &noise(id, 12_000));
    let long: Vec<_> = (0..900).map(long).collect();
    for documents in [numbered, long] {
        let entry = store(&vault, &documents).await;
        assert!(entry.bytes > 8 * BLOCK_BYTES_TARGET as u64);
        for (from, step) in [(0, 1), (3, 7), (5, 89), (90, 200), (899, 1)] {
            let expected: Vec<_> = documents.iter().skip(from).step_by(step).collect();
            let mut keys: Vec<_> = expected.iter().map(|document| key(document)).collect();
            // Behind each there is none.
            for at in (1..=keys.len()).rev() {
                let mut missing = keys[at - 1].clone();
                missing.push(1);
                keys.insert(at, missing);
            }
            let (found, read_bytes) = vault.read_documents(&entry, &keys).await.unwrap();
            assert!(found.iter().skip(1).step_by(2).all(Option::is_none));
            assert!(
                found.iter().step_by(2).eq(expected
                    .iter()
                    .map(|there| Some((*there).clone()))
                    .collect::<Vec<_>>()
                    .iter())
            );
            assert!(read_bytes <= entry.stored_bytes, "no block is read twice");
        }
        let (_, read_bytes) = vault.read_documents(&entry, &[key(&documents[50])]).await.unwrap();
        assert!(read_bytes < entry.stored_bytes / 4, "{read_bytes} of {}", entry.stored_bytes);
    }
}

#[tokio::test]
async fn equal_content_has_one_name_and_never_the_same_bytes() {
    let (vault, other) = (memory().await, memory().await);
    let documents = [document(1, "a"), document(2, "b")];
    let draft = builder(&documents).finish(&vault).unwrap();
    let again = builder(&documents).finish(&vault).unwrap();
    assert_eq!(draft.entry, again.entry);
    let (sealed, resealed) = (draft.seal(&vault).unwrap(), again.seal(&vault).unwrap());
    assert_eq!(sealed.bytes.len(), resealed.bytes.len());
    assert_ne!(sealed.bytes, resealed.bytes);
    assert_ne!(builder(&documents).finish(&other).unwrap().entry.name, draft.entry.name);

    let mut natural = SegmentBuilder::new(Order::Natural);
    documents.iter().for_each(|document| natural.push(&[], document));
    let natural = natural.finish(&vault).unwrap();
    assert_ne!(natural.entry.name, draft.entry.name);
    vault.put(&natural.seal(&vault).unwrap()).await.unwrap();
    vault.verify_segment(&natural.entry).await.unwrap();
    assert!(matches!(vault.read_document(&natural.entry, b"").await, Err(Error::Refused { .. })));
    assert!(matches!(vault.read_documents(&natural.entry, &[]).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_builder_works_in_the_memory_of_the_one_before() {
    let vault = memory().await;
    let first = builder(&[document(1, &noise(1, 100_000))]).finish(&vault).unwrap();
    let expected = builder(&[document(2, "b")]).finish(&vault).unwrap();
    let mut second = SegmentBuilder::with_buffer(Order::Sorted, first.into_buffer());
    assert!(second.is_empty());
    second.push(&key(&document(2, "b")), &document(2, "b"));
    assert_eq!(second.finish(&vault).unwrap().entry, expected.entry);
}

#[tokio::test]
async fn the_largest_document_is_a_block_of_its_own() {
    let vault = memory().await;
    let documents = [
        document(1, "small"),
        document(2, &noise(2, 16 << 20)),
        document(3, "small"),
        document(4, &noise(4, BLOCK_BYTES_TARGET)),
    ];
    let entry = store(&vault, &documents).await;
    vault.verify_segment(&entry).await.unwrap();
    for document in &documents {
        assert_eq!(vault.read_document(&entry, &key(document)).await.unwrap().as_ref(), Some(document));
    }
    assert_eq!(vault.read_document(&entry, &key(&document(5, ""))).await.unwrap(), None);
    assert_eq!(vault.read_document(&entry, &key(&document(0, ""))).await.unwrap(), None);
}

#[tokio::test]
async fn keys_longer_than_the_index_keeps_are_found() {
    let vault = memory().await;
    // `_id`s of one letter, of growing length: cut in the index they are all alike.
    let documents: Vec<_> = (0..8)
        .map(|n| {
            let id = "k".repeat(70_000 * (n + 1));
            let mut document = Vec::from(u32::try_from(4 + 5 + 4 + id.len() + 1 + 1).unwrap().to_le_bytes());
            document.extend(b"\x02_id\0");
            document.extend(u32::try_from(id.len() + 1).unwrap().to_le_bytes());
            document.extend(id.as_bytes());
            document.extend([0, 0]);
            document
        })
        .collect();
    let entry = store(&vault, &documents).await;
    for document in &documents {
        assert_eq!(vault.read_document(&entry, &key(document)).await.unwrap().as_ref(), Some(document));
    }
}

#[tokio::test]
async fn what_cannot_follow_is_refused() {
    let vault = memory().await;
    let refused = |builder: SegmentBuilder| matches!(builder.finish(&vault), Err(Error::Refused { .. }));
    assert!(refused(SegmentBuilder::new(Order::Sorted)));
    assert!(refused(builder(&[document(2, "b"), document(1, "a")])));
    assert!(refused(builder(&[document(1, "b"), document(1, "a")])));
    let mut short = SegmentBuilder::new(Order::Natural);
    short.push(&[], &document(1, "a")[..10]);
    assert!(refused(short));
}

/// Opens a changed object; gives the error and which block it names.
async fn open_changed(directory: &Directory, entry: &SegmentEntry, bytes: &[u8]) -> (Error, Option<u32>) {
    std::fs::write(directory.file(&entry.name.path()), bytes).unwrap();
    let error = directory.vault.read_segment(entry).await.expect_err("a changed object opened");
    let block = match &error {
        Error::Damaged { object, block, .. } => {
            assert_eq!(*object, entry.name);
            *block
        }
        Error::NewerFormat { .. } => None,
        other => panic!("{other}"),
    };
    assert!(error.to_string().contains(&entry.name.hex()), "{error}");
    (error, block)
}

#[tokio::test]
async fn one_flipped_bit_anywhere_is_found_and_named() {
    let directory = Directory::new().await;
    let documents: Vec<_> = (0..3).map(|id| document(id, &noise(id as u64, BLOCK_BYTES_TARGET))).collect();
    let entry = store(&directory.vault, &documents).await;
    let good = std::fs::read(directory.file(&entry.name.path())).unwrap();
    let front = 0..600.min(good.len());
    let rest = (front.end..good.len()).step_by(good.len() / 300);
    let mut blocks = std::collections::BTreeSet::new();
    for at in front.chain(rest).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        blocks.insert(open_changed(&directory, &entry, &bad).await.1);
    }
    assert_eq!(blocks, [None, Some(0), Some(1), Some(2), Some(3)].into());
    std::fs::write(directory.file(&entry.name.path()), &good).unwrap();
    directory.vault.verify_segment(&entry).await.unwrap();
}

#[tokio::test]
async fn an_object_cut_short_or_grown_is_found() {
    let directory = Directory::new().await;
    let entry = store(&directory.vault, &[document(1, "one"), document(2, "two")]).await;
    let good = std::fs::read(directory.file(&entry.name.path())).unwrap();
    for length in 0..good.len() {
        open_changed(&directory, &entry, &good[..length]).await;
    }
    open_changed(&directory, &entry, &[&good[..], b"x"].concat()).await;
    std::fs::remove_file(directory.file(&entry.name.path())).unwrap();
    assert!(matches!(directory.vault.read_segment(&entry).await, Err(Error::Missing { .. })));
    assert!(matches!(directory.vault.read_document(&entry, b"k").await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn one_object_cannot_stand_in_for_another() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    let one = store(vault, &[document(1, "one")]).await;
    let two = store(vault, &[document(2, "two")]).await;
    let path = |name: &ObjectName| directory.file(&name.path());
    let (first, second) = (std::fs::read(path(&one.name)).unwrap(), std::fs::read(path(&two.name)).unwrap());
    std::fs::write(path(&one.name), second).unwrap();
    std::fs::write(path(&two.name), first).unwrap();
    for entry in [&one, &two] {
        let error = vault.read_segment(entry).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { object, block: Some(0), .. } if object == entry.name));
        assert!(error.to_string().contains("another object was put in its place"), "{error}");
        assert!(vault.read_document(entry, &entry.first_key).await.is_err());
        assert!(vault.read_documents(entry, std::slice::from_ref(&entry.first_key)).await.is_err());
    }
}

#[tokio::test]
async fn a_segment_that_is_not_what_the_manifest_says_is_found() {
    let vault = memory().await;
    let entry = store(&vault, &[document(1, "one"), document(2, "two")]).await;
    let mut content = entry.content;
    content.sum[1] ^= 1;
    let wrong = [
        SegmentEntry { documents: 3, ..entry.clone() },
        SegmentEntry { bytes: entry.bytes + 1, ..entry.clone() },
        SegmentEntry { content, ..entry.clone() },
        SegmentEntry { order: Order::Natural, ..entry.clone() },
    ];
    for entry in wrong {
        let read: Result<_, _> = Vault::read_segment(&vault, &entry).await;
        assert!(matches!(read, Err(Error::Damaged { .. })));
    }
    for entry in [
        SegmentEntry { first_key: key(&document(0, "")), ..entry.clone() },
        SegmentEntry { last_key: key(&document(3, "")), ..entry.clone() },
    ] {
        assert!(matches!(vault.verify_segment(&entry).await, Err(Error::Damaged { .. })));
    }
}
