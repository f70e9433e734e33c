//! The index of a segment: block 0 of its object, not compressed, so that its length is known before the blocks'.
//!
//! All integers are little endian:
//! order `u8`, number of blocks `u32`, then per block: plain bytes `u32`, sealed bytes `u32`, documents `u32`,
//! hash (32 bytes), length of the first key `u16`, first key.

use std::ops::Range;

use crate::{
    Error, ObjectKind, ObjectName, Order, Result,
    crypt::{Keys, TAG_BYTES},
    object::HEADER_BYTES,
};

/// Keys longer than this are cut in the index; the reader then looks into the blocks around, too.
pub(crate) const INDEX_KEY_BYTES_MAX: usize = 512;

/// What the index says of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) plain_bytes: u32,
    /// With its tag.
    pub(crate) sealed_bytes: u32,
    pub(crate) documents: u32,
    pub(crate) hash: [u8; 32],
    /// The sort key of the first document, cut to [`INDEX_KEY_BYTES_MAX`].
    pub(crate) first_key: Vec<u8>,
}

/// The index of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) order: Order,
    pub(crate) blocks: Vec<BlockEntry>,
}

const FIXED_BYTES: usize = 1 + 4;
const FIXED_BLOCK_BYTES: usize = 4 + 4 + 4 + 32 + 2;

impl Index {
    /// How long [`Index::write`] makes it; the sealed lengths need not be known.
    pub(crate) fn plain_bytes(&self) -> usize {
        FIXED_BYTES + self.blocks.iter().map(|block| FIXED_BLOCK_BYTES + block.first_key.len()).sum::<usize>()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.order.code());
        out.extend(u32::try_from(self.blocks.len()).expect("blocks are few").to_le_bytes());
        for block in &self.blocks {
            out.extend(block.plain_bytes.to_le_bytes());
            out.extend(block.sealed_bytes.to_le_bytes());
            out.extend(block.documents.to_le_bytes());
            out.extend(block.hash);
            out.extend(u16::try_from(block.first_key.len()).expect("cut before").to_le_bytes());
            out.extend(&block.first_key);
        }
    }

    /// Reads an index and checks that its hashes make up the segment's name.
    pub(crate) fn read(keys: &Keys, name: &ObjectName, bytes: &[u8]) -> Result<Self> {
        let index = parse(bytes).ok_or_else(|| Error::damaged_block(*name, 0, "its index is malformed"))?;
        if index.name(keys) != *name {
            return Err(Error::damaged_block(*name, 0, "its blocks are not those of this segment"));
        }
        Ok(index)
    }

    /// The segment's name: a keyed hash over order and block hashes.
    pub(crate) fn name(&self, keys: &Keys) -> ObjectName {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(1 + self.blocks.len());
        let order = [self.order.code()];
        parts.push(&order);
        parts.extend(self.blocks.iter().map(|block| &block.hash[..]));
        keys.name(ObjectKind::Segment, &parts)
    }

    /// Plain bytes of all blocks.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.plain_bytes)).sum()
    }

    /// Where the blocks lie in the object.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = (HEADER_BYTES + self.plain_bytes() + TAG_BYTES) as u64;
        self.blocks.iter().map(move |block| {
            let start = at;
            at += u64::from(block.sealed_bytes);
            start..at
        })
    }

    /// The blocks that may hold a key, by their place in the list.
    pub(crate) fn candidates(&self, key: &[u8]) -> Range<usize> {
        let end = self.blocks.partition_point(|block| block.first_key.as_slice() <= key);
        // A key that was cut may stand for a larger one: then the block before may hold what is looked for.
        let surely_before = |block: &BlockEntry| {
            block.first_key.len() < INDEX_KEY_BYTES_MAX || !key.starts_with(&block.first_key)
        };
        let start = self.blocks[..end].iter().rposition(surely_before).unwrap_or(0);
        start..end
    }
}

fn parse(mut bytes: &[u8]) -> Option<Index> {
    let order = Order::from_code(take::<1>(&mut bytes)?[0])?;
    let count = u32::from_le_bytes(take(&mut bytes)?) as usize;
    if count > bytes.len() / FIXED_BLOCK_BYTES {
        return None;
    }
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let plain_bytes = u32::from_le_bytes(take(&mut bytes)?);
        let sealed_bytes = u32::from_le_bytes(take(&mut bytes)?);
        let documents = u32::from_le_bytes(take(&mut bytes)?);
        let hash = take(&mut bytes)?;
        let key_bytes = u16::from_le_bytes(take(&mut bytes)?) as usize;
        let (first_key, rest) = bytes.split_at_checked(key_bytes)?;
        bytes = rest;
        blocks.push(BlockEntry { plain_bytes, sealed_bytes, documents, hash, first_key: first_key.to_vec() });
    }
    bytes.is_empty().then_some(Index { order, blocks })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn block(first_key: &[u8]) -> BlockEntry {
        BlockEntry {
            plain_bytes: 10,
            sealed_bytes: 20,
            documents: 1,
            hash: [7; 32],
            first_key: first_key.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn an_index_round_trips_and_knows_its_length(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let index = Index { order: Order::Sorted, blocks: keys.iter().map(|k| block(k)).collect() };
            let mut bytes = Vec::new();
            index.write(&mut bytes);
            prop_assert_eq!(bytes.len(), index.plain_bytes());
            prop_assert_eq!(parse(&bytes), Some(index));
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), None);
            }
        }

        #[test]
        fn nonsense_is_no_index(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        /// Keys of one letter, some longer than what the index keeps.
        #[test]
        fn a_key_is_found_among_its_candidates(lengths in prop::collection::btree_set(1usize..1200, 1..40), block_keys in 1usize..5, pick in any::<prop::sample::Index>()) {
            let keys: Vec<Vec<u8>> = lengths.into_iter().map(|n| vec![b'k'; n]).collect();
            let blocks: Vec<&[Vec<u8>]> = keys.chunks(block_keys).collect();
            let cut = |key: &[u8]| key[..key.len().min(INDEX_KEY_BYTES_MAX)].to_vec();
            let index = Index { order: Order::Sorted, blocks: blocks.iter().map(|b| block(&cut(&b[0]))).collect() };
            let key = pick.get(&keys);
            let at = blocks.iter().position(|b| b.contains(key)).unwrap();
            prop_assert!(index.candidates(key).contains(&at), "{:?} has not {}", index.candidates(key), at);
        }
    }

    #[test]
    fn short_keys_have_one_candidate() {
        let index = Index { order: Order::Sorted, blocks: vec![block(b"b"), block(b"d"), block(b"f")] };
        assert_eq!(index.candidates(b"a"), 0..0);
        assert_eq!(index.candidates(b"b"), 0..1);
        assert_eq!(index.candidates(b"e"), 1..2);
        assert_eq!(index.candidates(b"z"), 2..3);
    }
}
