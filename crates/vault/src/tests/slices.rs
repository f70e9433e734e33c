//! Slices: entries come back as they were, nothing else does, and a chain tells where it is broken.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt as _;
use model::{ClusterTime, Id, OplogPosition, WallTime};
use proptest::prelude::*;

use super::{Directory, block_on, entry, memory, noise, position, slice_source};
use crate::{
    Error, Hands, LinkFault, Location, MasterKey, ObjectKind, ObjectName, SealedSlice, Slice, SliceBuilder,
    SliceHeader, SliceLink, Vault,
    faults::Faults,
    segment::BLOCK_BYTES_TARGET,
    slice::{SLICE_BYTES_TARGET, entries},
};

const NOW: WallTime = WallTime(1_700_000_000_000);

fn at(seconds: u32) -> ClusterTime {
    ClusterTime { seconds, increment: 1 }
}

fn first_link() -> SliceLink {
    SliceLink::first(position(9, 1))
}

/// Seals entries of these texts, one a second from second 10 on.
fn sealed(vault: &Vault, link: SliceLink, block_bytes: usize, texts: &[String]) -> SealedSlice {
    let mut builder = SliceBuilder::new(slice_source(), link).with_blocks_of(block_bytes);
    for (seconds, text) in (link.after.time.seconds + 1..).zip(texts) {
        let position = position(seconds, 1);
        builder.push(position, &entry(position, text)).unwrap();
    }
    let read_from = builder.last().time;
    builder.seal(vault, read_from, NOW).unwrap()
}

/// Three blocks.
fn three_blocks(vault: &Vault) -> SealedSlice {
    let texts: Vec<_> = (0..3).map(|n| noise(n, 500)).collect();
    sealed(vault, first_link(), 500, &texts)
}

async fn all(slice: &Slice, from: usize) -> Result<Vec<u8>, Error> {
    slice.read_blocks(from).try_concat().await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn entries_come_back_as_they_were(
        lengths in prop::collection::vec((0usize..30_000, 1u32..4, 0i64..2), 1..60),
        block_bytes in prop_oneof![Just(1usize), 1usize..100_000, Just(BLOCK_BYTES_TARGET)],
        open_since in 1u32..10,
    ) {
        let mut last = position(9, 1);
        let written: Vec<_> = lengths
            .iter()
            .map(|&(length, seconds, terms)| {
                last = position(last.time.seconds + seconds, last.term + terms);
                (last, entry(last, &noise(length as u64, length)))
            })
            .collect();
        block_on(async {
            let vault = memory().await;
            let mut builder = SliceBuilder::new(slice_source(), first_link()).with_blocks_of(block_bytes);
            assert!(builder.is_empty());
            written.iter().for_each(|(position, entry)| builder.push(*position, entry).unwrap());
            let plain: Vec<u8> = written.iter().flat_map(|(_, entry)| entry.clone()).collect();
            assert_eq!((builder.bytes(), builder.last()), (plain.len(), last));
            // The name is the hash of what the header says of all blocks: two threads make of them what one does.
            let alone = builder.seal(&vault, at(open_since), NOW).unwrap();
            let sealed = builder.seal_with(&vault, at(open_since), NOW, Hands::Two).unwrap();
            assert_eq!((sealed.name, sealed.object.bytes.len()), (alone.name, alone.object.bytes.len()));
            vault.put(&sealed.object).await.unwrap();

            let header = &sealed.header;
            assert_eq!(header.link(), first_link());
            assert_eq!((header.first, header.last, header.read_from), (written[0].0, last, at(open_since)));
            assert_eq!((header.entries, header.bytes), (written.len() as u64, plain.len() as u64));
            let stored = Slice::open(&vault, &sealed.name).await.unwrap();
            let spooled = Slice::from_sealed(&vault, &sealed.name, sealed.object.bytes.clone()).unwrap();
            for slice in [&stored, &spooled] {
                assert_eq!((slice.header(), slice.name()), (header, sealed.name));
                slice.verify().await.unwrap();
                assert_eq!(all(slice, 0).await.unwrap(), plain);
                let mut tail = plain.as_slice();
                for (number, block) in slice.blocks().iter().enumerate() {
                    assert_eq!(all(slice, number).await.unwrap(), tail);
                    let (expected, rest) = tail.split_at(usize::try_from(block.bytes).unwrap());
                    tail = rest;
                    let read = slice.read_block(number).await.unwrap();
                    assert_eq!(read, expected);
                    assert_eq!(entries(&read).count() as u64, block.entries);
                    // Whoever begins with this block misses nothing from its first entry on.
                    assert_eq!(slice.block_from(block.first), Some(number));
                }
                assert!(tail.is_empty());
                assert_eq!(slice.block_from(ClusterTime::default()), Some(0));
                assert_eq!(slice.block_from(at(last.time.seconds + 1)), None);
                assert!(matches!(slice.read_block(slice.blocks().len()).await, Err(Error::Refused { .. })));
                assert!(all(slice, slice.blocks().len()).await.unwrap().is_empty());
            }
            assert_eq!(stored.blocks(), spooled.blocks());
        });
    }
}

#[tokio::test]
async fn blocks_are_closed_at_a_mebibyte_and_what_is_wanted_begins_in_the_right_one() {
    let vault = memory().await;
    let texts: Vec<_> = (0..5).map(|n| noise(n, BLOCK_BYTES_TARGET / 2)).collect();
    let slice = sealed(&vault, first_link(), BLOCK_BYTES_TARGET, &texts);
    let slice = Slice::from_sealed(&vault, &slice.name, slice.object.bytes).unwrap();
    let blocks: Vec<_> = slice.blocks().iter().map(|block| (block.first, block.entries)).collect();
    assert_eq!(blocks, [(at(10), 2), (at(12), 2), (at(14), 1)]);
    let begin: Vec<_> = (9..16).map(|seconds| slice.block_from(at(seconds))).collect();
    assert_eq!(begin, [Some(0), Some(0), Some(0), Some(1), Some(1), Some(2), None]);
}

#[tokio::test]
async fn what_cannot_follow_is_refused_and_changes_nothing() {
    let vault = memory().await;
    let mut builder = SliceBuilder::new(slice_source(), SliceLink::first(position(9, 5)));
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::Refused { .. }));
    assert!(refused(builder.seal(&vault, at(1), NOW).map(drop)), "nothing in it");
    let good = |position: OplogPosition| entry(position, "x");
    for early in [position(9, 5), position(8, 5), position(10, 4)] {
        assert!(refused(builder.push(early, &good(early))), "{early}");
    }
    builder.push(position(10, 5), &good(position(10, 5))).unwrap();
    for early in [position(10, 5), position(10, 6), position(9, 5), position(11, 4)] {
        assert!(refused(builder.push(early, &good(early))), "{early}");
    }
    let whole = good(position(11, 5));
    for broken in [&[][..], b"\x05\0\0", &whole[..whole.len() - 1], &[&whole[..], b"\0"].concat()] {
        assert!(refused(builder.push(position(11, 5), broken)));
    }
    builder.push(position(11, 6), &good(position(11, 6))).unwrap();
    assert!(refused(builder.seal(&vault, at(12), NOW).map(drop)), "read from behind its end");
    let sealed = builder.seal(&vault, at(11), NOW).unwrap();
    assert_eq!((sealed.header.entries, sealed.header.last), (2, position(11, 6)));

    let none = SliceLink { sequence: 1, ..first_link() };
    let mut builder = SliceBuilder::new(slice_source(), none);
    builder.push(position(10, 1), &good(position(10, 1))).unwrap();
    assert!(refused(builder.seal(&vault, at(10), NOW).map(drop)), "the second slice follows the first");
}

#[tokio::test]
async fn a_builder_holds_no_more_than_its_share_and_gives_the_memory_back() {
    let vault = memory().await;
    let mut builder = SliceBuilder::new(slice_source(), first_link());
    let large = entry(position(10, 1), &"x".repeat(SLICE_BYTES_TARGET));
    assert!(large.len() > SLICE_BYTES_TARGET && builder.has_room_for(large.len()));
    builder.push(position(10, 1), &large).unwrap();
    assert!(!builder.has_room_for(5));
    let small = entry(position(11, 1), "x");
    assert!(matches!(builder.push(position(11, 1), &small), Err(Error::Refused { .. })));
    let sealed = builder.seal(&vault, at(10), NOW).unwrap();
    let slice = Slice::from_sealed(&vault, &sealed.name, sealed.object.bytes).unwrap();
    assert_eq!(slice.read_block(0).await.unwrap(), large);

    let link = SliceLink::behind(&sealed.header, sealed.name);
    let mut builder = SliceBuilder::with_buffer(slice_source(), link, builder.into_buffer());
    assert!(builder.is_empty());
    let room = SLICE_BYTES_TARGET - small.len();
    builder.push(position(11, 1), &small).unwrap();
    assert!(builder.has_room_for(room) && !builder.has_room_for(room + 1));
    let sealed = builder.seal(&vault, at(11), NOW).unwrap();
    let slice = Slice::from_sealed(&vault, &sealed.name, sealed.object.bytes).unwrap();
    assert_eq!(slice.read_block(0).await.unwrap(), small);
}

/// Opens and reads a changed object, from the vault and from memory; gives the block that both name.
async fn open_changed(directory: &Directory, name: &ObjectName, bytes: Vec<u8>) -> Option<u32> {
    std::fs::write(directory.file(&name.path()), &bytes).unwrap();
    let vault = &directory.vault;
    let stored = match Slice::open(vault, name).await {
        Ok(slice) => slice.verify().await,
        Err(error) => Err(error),
    };
    let memory = match Slice::from_sealed(vault, name, Bytes::from(bytes)) {
        Ok(slice) => slice.verify().await,
        Err(error) => Err(error),
    };
    let block_of = |read: Result<(), Error>| {
        let error = read.expect_err("a changed object was read");
        assert!(error.to_string().contains(&name.hex()), "{error}");
        match error {
            Error::Damaged { object, block, .. } => {
                assert_eq!(object, *name);
                block
            }
            Error::NewerFormat { .. } => None,
            other => panic!("{other}"),
        }
    };
    let block = block_of(stored);
    let of_memory = block_of(memory);
    // In memory the length is looked at first.
    assert!(of_memory == block || of_memory.is_none(), "{of_memory:?} is not {block:?}");
    block
}

#[tokio::test]
async fn one_flipped_bit_anywhere_is_found_and_named() {
    let directory = Directory::new().await;
    let slice = three_blocks(&directory.vault);
    directory.vault.put(&slice.object).await.unwrap();
    let good = slice.object.bytes.to_vec();
    let mut blocks = BTreeSet::new();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        blocks.insert(open_changed(&directory, &slice.name, bad).await);
    }
    assert_eq!(blocks, [None, Some(0), Some(1), Some(2), Some(3)].into());
    std::fs::write(directory.file(&slice.name.path()), &good).unwrap();
    Slice::open(&directory.vault, &slice.name).await.unwrap().verify().await.unwrap();
}

#[tokio::test]
async fn an_object_cut_short_or_grown_is_found() {
    let directory = Directory::new().await;
    let slice = three_blocks(&directory.vault);
    directory.vault.put(&slice.object).await.unwrap();
    let good = slice.object.bytes.to_vec();
    for length in 0..good.len() {
        open_changed(&directory, &slice.name, good[..length].to_vec()).await;
    }
    assert_eq!(open_changed(&directory, &slice.name, [&good[..], b"x"].concat()).await, None);

    // A slice that was opened while it was whole.
    std::fs::write(directory.file(&slice.name.path()), &good).unwrap();
    let open = Slice::open(&directory.vault, &slice.name).await.unwrap();
    std::fs::write(directory.file(&slice.name.path()), &good[..100]).unwrap();
    for (at, block) in [(0, 1), (1, 2), (2, 3)] {
        let read = open.read_block(at).await;
        assert!(matches!(read, Err(Error::Damaged { block: Some(b), .. }) if b == block), "{read:?}");
    }
    std::fs::remove_file(directory.file(&slice.name.path())).unwrap();
    assert!(matches!(open.read_block(0).await, Err(Error::Missing { .. })));
    assert!(matches!(Slice::open(&directory.vault, &slice.name).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn one_slice_cannot_stand_in_for_another() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    let one = three_blocks(vault);
    let two = sealed(vault, SliceLink::behind(&one.header, one.name), 1_000, &["two".to_owned()]);
    std::fs::create_dir_all(directory.file(&one.name.path()).parent().unwrap()).unwrap();
    for (slice, other) in [(&one, &two), (&two, &one)] {
        assert_eq!(open_changed_to(&directory, slice, other).await, Some(0));
        let read = Slice::from_sealed(vault, &slice.name, other.object.bytes.clone());
        assert!(matches!(read, Err(Error::Damaged { object, .. }) if object == slice.name));
    }
    // Nor one block for another, of the same slice.
    let open = Slice::from_sealed(vault, &one.name, one.object.bytes.clone()).unwrap();
    let lengths: Vec<_> = open.blocks().iter().map(|block| block.stored_bytes as usize).collect();
    let front = one.object.bytes.len() - lengths.iter().sum::<usize>();
    let mut twice = one.object.bytes[..front].to_vec();
    for length in &lengths {
        let mut block = one.object.bytes[front..front + lengths[0]].to_vec();
        block.resize(*length, 0);
        twice.extend(block);
    }
    vault.put(&one.object).await.unwrap();
    assert_eq!(open_changed(&directory, &one.name, twice).await, Some(2));

    let segment = ObjectName::new(ObjectKind::Segment, *one.name.as_bytes());
    assert!(matches!(Slice::open(vault, &segment).await, Err(Error::Refused { .. })));
    let stranger = memory().await;
    assert!(Slice::from_sealed(&stranger, &one.name, one.object.bytes).is_err());
}

async fn open_changed_to(directory: &Directory, slice: &SealedSlice, other: &SealedSlice) -> Option<u32> {
    directory.vault.put(&slice.object).await.unwrap();
    open_changed(directory, &slice.name, other.object.bytes.to_vec()).await
}

#[tokio::test]
async fn a_chain_tells_which_link_is_broken() {
    let vault = memory().await;
    let texts = ["x".to_owned(), "y".to_owned()];
    let mut chain: Vec<SealedSlice> = vec![];
    for _ in 0..4 {
        let link = chain.last().map_or(first_link(), |last| SliceLink::behind(&last.header, last.name));
        chain.push(sealed(&vault, link, 1, &texts));
    }
    for slice in &chain {
        vault.put(&slice.object).await.unwrap();
    }
    let fault = |slice: &SealedSlice, previous: &SealedSlice| {
        let broken = slice.header.follows(&slice.name, &previous.header, &previous.name).unwrap_err();
        assert_eq!((broken.slice, broken.previous), (slice.name, previous.name));
        let text = broken.to_string();
        assert!(text.contains(&slice.name.hex()) && text.contains(&previous.name.hex()), "{text}");
        broken.fault
    };
    for pair in chain.windows(2) {
        let slice = Slice::open(&vault, &pair[1].name).await.unwrap();
        slice.follows(&pair[0].header, &pair[0].name).unwrap();
        // The other way round, and one left out.
        let LinkFault::Sequence { found, expected } = fault(&pair[0], &pair[1]) else { panic!() };
        assert_eq!(found + 2, expected);
    }
    assert_eq!(fault(&chain[3], &chain[1]), LinkFault::Sequence { found: 3, expected: 2 });
    assert_eq!(fault(&chain[0], &chain[0]), LinkFault::Sequence { found: 0, expected: 1 });

    // Another slice in the place of the one before.
    let again = sealed(&vault, chain[1].header.link(), 1, &["x".to_owned(), "z".to_owned()]);
    assert_eq!(fault(&chain[2], &again), LinkFault::Previous { found: Some(chain[1].name) });
    let mut builder = SliceBuilder::new(
        slice_source(),
        SliceLink { after: position(40, 1), ..SliceLink::behind(&chain[1].header, chain[1].name) },
    );
    builder.push(position(41, 1), &entry(position(41, 1), "x")).unwrap();
    let gap = builder.seal(&vault, at(41), NOW).unwrap();
    let expected = LinkFault::After { found: position(40, 1), expected: chain[1].header.last };
    assert_eq!(fault(&gap, &chain[1]), expected);
    let timeline = Id::from_parts(1, [9; 8]);
    let other = SealedSlice {
        header: SliceHeader { timeline_id: timeline, ..chain[2].header.clone() },
        ..chain[2].clone()
    };
    let expected = LinkFault::Timeline { found: timeline, expected: slice_source().timeline_id };
    assert_eq!(fault(&other, &chain[1]), expected);

    let mut listed: Vec<_> = vault.list_slices().map_ok(|listed| listed.name).try_collect().await.unwrap();
    let mut names: Vec<_> = chain.iter().map(|slice| slice.name).collect();
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn a_store_that_fails_is_not_taken_for_damage() {
    let faults = Faults::new();
    let location = Location::memory().with_faults(faults.clone());
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let slice = three_blocks(&vault);
    faults.tear_put(1);
    assert!(vault.put(&slice.object).await.is_err());
    let torn = Slice::open(&vault, &slice.name).await.unwrap();
    assert!(torn.verify().await.unwrap_err().is_damage());
    vault.put(&slice.object).await.unwrap();
    faults.fail_get(1);
    assert!(Slice::open(&vault, &slice.name).await.unwrap_err().is_transient());
    let open = Slice::open(&vault, &slice.name).await.unwrap();
    faults.fail_get(1);
    assert!(open.read_block(1).await.unwrap_err().is_transient());
    faults.fail_get(1);
    assert!(open.verify().await.unwrap_err().is_transient());
    open.verify().await.unwrap();
}

#[tokio::test]
async fn a_slice_of_a_newer_ebbtide_is_told_as_such() {
    // The header as JSON is the format: fields that are not known are passed over, a higher version is not.
    use crate::object::seal_single;
    let vault = memory().await;
    let one = sealed(&vault, first_link(), 1, &["x".to_owned()]);
    let header = serde_json::to_value(&one.header).unwrap();
    let open = |root: serde_json::Value| {
        let plain = serde_json::to_vec(&root).unwrap();
        let name = vault.keys().name(ObjectKind::Slice, &[&plain]);
        Slice::from_sealed(&vault, &name, seal_single(vault.keys(), name, &plain).unwrap().bytes)
    };
    let root = |format: &str, version: u32| serde_json::json!({ "format": format, "version": version, "header": header, "blocks": [], "new": 1 });
    assert!(matches!(open(root("ebbtide-slice", 2)), Err(Error::NewerFormat { version: 2, known: 1, .. })));
    let what = |read: Result<Slice, Error>| match read {
        Err(Error::Damaged { block: Some(0), what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(open(root("ebbtide-manifest", 1))), "it is not a slice");
    assert!(what(open(root("ebbtide-slice", 1))).contains("do not add up"));
    assert_eq!(
        what(open(serde_json::json!({ "format": "ebbtide-slice", "version": 1 }))),
        "its header is malformed"
    );
}
