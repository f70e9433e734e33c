//! What a delta says of itself: block 0 of its object.

use std::ops::Range;

use history::{CollectionId, SortKey, change::Change};
use serde::{Deserialize, Serialize};

use super::{DELTA_BYTES_MAX, DeltaKey, entry::KeyLine};
use crate::{Error, ObjectKind, ObjectName, Result, crypt::Keys, name::hex_hash};

pub(super) const FORMAT: &str = "ebbtide-delta";
/// The version of the content of deltas.
pub(super) const VERSION: u32 = 1;
/// A header has a line of at most a kilobyte for every block.
pub(super) const HEADER_BYTES_MAX: usize = 16 << 20;
/// Keys are told up to this length in a header: one may be 16 MiB.
const KEY_BYTES_TOLD: usize = 512;

/// What the header says of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaBlock {
    /// Of which document its first change is; the key is cut to 512 bytes.
    pub first: DeltaKey,
    /// How many changes.
    pub changes: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// What it takes in the object, its tag included.
    pub stored_bytes: u64,
    /// BLAKE3 of the records' bytes, keyed.
    pub(crate) hash: [u8; 32],
}

/// The beginning of a key that a header tells.
pub(super) fn told(key: &[u8]) -> &[u8] {
    &key[..key.len().min(KEY_BYTES_TOLD)]
}

impl DeltaBlock {
    /// A block that begins with a change of this document, and has nothing yet.
    pub(super) fn beginning(collection: CollectionId, key: &SortKey) -> Self {
        let first = DeltaKey { collection, key: told(key.as_bytes()).to_vec() };
        Self { first, changes: 0, bytes: 0, stored_bytes: 0, hash: [0; 32] }
    }

    /// Whether this can be its first change.
    pub(super) fn begins_with(&self, change: &Change<'_>) -> bool {
        self.first.collection == change.collection && self.first.key == told(change.key.as_bytes())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockLine {
    first: KeyLine,
    changes: u64,
    bytes: u64,
    stored_bytes: u64,
    #[serde(with = "hex_hash")]
    hash: [u8; 32],
}

/// The header as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    format: String,
    version: u32,
    blocks: Vec<BlockLine>,
}

/// Only what every version of a header has.
#[derive(Deserialize)]
struct RootVersion {
    format: String,
    version: u32,
}

/// The header's text.
pub(super) fn write(blocks: &[DeltaBlock]) -> Option<Vec<u8>> {
    let line = |block: &DeltaBlock| BlockLine {
        first: (&block.first).into(),
        changes: block.changes,
        bytes: block.bytes,
        stored_bytes: block.stored_bytes,
        hash: block.hash,
    };
    let root =
        Root { format: FORMAT.to_owned(), version: VERSION, blocks: blocks.iter().map(line).collect() };
    serde_json::to_vec(&root).ok().filter(|plain| plain.len() <= HEADER_BYTES_MAX)
}

/// Reads a header that was unsealed, and checks that it is the one that has this name. What it says of its blocks can be true
/// then: they are in order, and not larger than a delta.
pub(super) fn read(keys: &Keys, name: &ObjectName, plain: &[u8]) -> Result<Vec<DeltaBlock>> {
    let damaged = |what| Error::damaged_block(*name, 0, what);
    if keys.name(ObjectKind::Delta, &[plain]) != *name {
        return Err(damaged("its hash is another one"));
    }
    let malformed = || damaged("its header is malformed");
    let RootVersion { format, version } = serde_json::from_slice(plain).map_err(|_| malformed())?;
    if format != FORMAT {
        return Err(damaged("it is not a delta"));
    }
    if version > VERSION {
        return Err(Error::NewerFormat { what: name.to_string(), version, known: VERSION });
    }
    let root: Root = serde_json::from_slice(plain).map_err(|_| malformed())?;
    let block = |line: BlockLine| {
        Some(DeltaBlock {
            first: line.first.read()?,
            changes: line.changes,
            bytes: line.bytes,
            stored_bytes: line.stored_bytes,
            hash: line.hash,
        })
    };
    let blocks: Vec<_> = root.blocks.into_iter().map(block).collect::<Option<_>>().ok_or_else(malformed)?;
    let sum =
        |of: fn(&DeltaBlock) -> u64| blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(of(block)));
    if blocks.is_empty() || !blocks.is_sorted_by(|block, next| block.first <= next.first) {
        return Err(damaged("its header contradicts itself: its blocks are out of order"));
    }
    if sum(|block| block.bytes).is_none_or(|bytes| bytes > DELTA_BYTES_MAX as u64)
        || sum(|block| block.stored_bytes).is_none_or(|bytes| bytes > u64::from(u32::MAX))
    {
        return Err(damaged("its blocks are larger than a delta"));
    }
    if sum(|block| block.changes).is_none() || blocks.iter().any(|block| block.changes == 0) {
        return Err(damaged(
            "its header contradicts itself: its blocks have no number of changes that can be",
        ));
    }
    Ok(blocks)
}

/// Where the blocks lie in an object whose front (the object's header and block 0) is so long.
pub(super) fn ranges(blocks: &[DeltaBlock], front_bytes: u64) -> Vec<Range<u64>> {
    let mut at = front_bytes;
    let range = |block: &DeltaBlock| {
        let start = at;
        at += block.stored_bytes;
        start..at
    };
    blocks.iter().map(range).collect()
}
