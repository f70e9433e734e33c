//! From the vault back to changes, everything checked.

use std::{cmp::Ordering, ops::Range, sync::Arc};

use bytes::Bytes;
use history::{
    CollectionId,
    change::{Change, Position, split_record},
};

use super::{
    DeltaEntry, DeltaKey,
    header::{self, DeltaBlock, HEADER_BYTES_MAX},
};
use crate::{
    Error, ObjectKind, ObjectName, Result, Vault,
    crypt::ObjectSeal,
    object::{HEADER_BYTES, Header, decompress, expand, open_block, zstd_failed},
    vault::off_the_runtime,
};

/// An open delta: its header is in memory, its blocks are read as they are needed. Clones are the same delta.
#[derive(Clone)]
pub struct Delta(Arc<Inner>);

struct Inner {
    vault: Vault,
    name: ObjectName,
    blocks: Vec<DeltaBlock>,
    seal: ObjectSeal,
    /// Where the blocks lie.
    ranges: Vec<Range<u64>>,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delta({})", self.0.name)
    }
}

impl Delta {
    /// Opens a delta of the vault: one small read.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::NewerFormat`], and whatever the store says.
    pub async fn open(vault: &Vault, name: &ObjectName) -> Result<Self> {
        // Asking for a delta that is something else is a mistake and no damage.
        if name.kind != ObjectKind::Delta {
            return Err(Error::Refused { what: "a read of a delta", why: format!("{name} is none") });
        }
        let (header, front) = vault.get_front(name).await?;
        Self::of_front(vault, name, &header, &front)
    }

    fn of_front(vault: &Vault, name: &ObjectName, header: &Header, front: &[u8]) -> Result<Self> {
        let seal = vault.keys().object(name, &header.salt);
        let front_bytes = HEADER_BYTES + header.first_bytes;
        let sealed = front.get(HEADER_BYTES..front_bytes);
        let sealed = sealed.ok_or_else(|| Error::damaged_block(*name, 0, CUT_SHORT))?;
        let mut frame = Vec::new();
        open_block(&seal, name, 0, sealed, &mut frame)?;
        let plain = expand(name, &frame, HEADER_BYTES_MAX)?;
        let blocks = header::read(vault.keys(), name, &plain)?;
        let ranges = header::ranges(&blocks, front_bytes as u64);
        Ok(Self(Arc::new(Inner { vault: vault.clone(), name: *name, blocks, seal, ranges })))
    }

    /// Checks every block of a delta that lies in memory.
    pub(crate) fn check_sealed(vault: &Vault, name: &ObjectName, object: &Bytes) -> Result<()> {
        let header = Header::read(name, object)?;
        let delta = Self::of_front(vault, name, &header, object)?.0;
        for (at, range) in delta.ranges.iter().enumerate() {
            let sealed = object.slice(within(object, range.start)..within(object, range.end));
            delta.open_block(at, &sealed)?;
        }
        match delta.ranges.last().map_or(0, |range| range.end).cmp(&(object.len() as u64)) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Error::damaged(*name, BYTES_BEHIND)),
            Ordering::Greater => Err(Error::damaged(*name, CUT_SHORT)),
        }
    }

    /// Its name.
    pub fn name(&self) -> ObjectName {
        self.0.name
    }

    /// Its blocks.
    pub fn blocks(&self) -> &[DeltaBlock] {
        &self.0.blocks
    }

    /// The numbers of the blocks that may have changes of documents of a collection, from `from` on and below `to`.
    pub fn blocks_of(&self, collection: CollectionId, from: &[u8], to: Option<&[u8]>) -> Range<usize> {
        let told = header::told(from);
        let is_before =
            |block: &DeltaBlock| (block.first.collection, block.first.key.as_slice()) < (collection, told);
        let is_not_behind = |block: &DeltaBlock| {
            block.first.collection < collection
                || (block.first.collection == collection
                    && to.is_none_or(|to| block.first.key.as_slice() < to))
        };
        let start = self.blocks().partition_point(is_before).saturating_sub(1);
        start..self.blocks().partition_point(is_not_behind).max(start)
    }

    /// The records of one block, back to back: see [`changes`](Self::changes). Blocks are counted from 0 here; errors name
    /// them as the format counts them, where 0 is the header.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the block, [`Error::Missing`], [`Error::Refused`] when there is no such block, and whatever the
    /// store says.
    pub async fn read_block(&self, at: usize) -> Result<Vec<u8>> {
        let Some(range) = self.0.ranges.get(at).cloned() else {
            let why = format!("it has {} of them, and number {at} was asked for", self.blocks().len());
            return Err(Error::Refused { what: "a read of a block of a delta", why });
        };
        let sealed = self.0.vault.get_range(&self.0.name, range).await?;
        let delta = self.clone();
        off_the_runtime(move || delta.0.open_block(at, &sealed)).await
    }

    /// The changes of a block. Those of a block that [`Delta::read_block`] gave are whole and in order.
    pub fn changes(block: &[u8]) -> impl Iterator<Item = Change<'_>> {
        let mut rest = block;
        std::iter::from_fn(move || {
            let (change, behind) = split_record(rest).ok().flatten()?;
            rest = behind;
            Some(change)
        })
    }

    /// Reads every block and checks it, and that the whole is what a manifest says of it.
    ///
    /// # Errors
    /// As [`Delta::read_block`].
    pub async fn verify(&self, entry: &DeltaEntry) -> Result<()> {
        let damaged = |what| Error::damaged(self.0.name, what);
        let sum = |of: fn(&DeltaBlock) -> u64| self.blocks().iter().map(of).sum::<u64>();
        if sum(|block| block.changes) != entry.changes || sum(|block| block.bytes) != entry.bytes {
            return Err(damaged("it has another number of changes than the manifest says"));
        }
        let mut last: Option<(DeltaKey, Position)> = None;
        for at in 0..self.blocks().len() {
            // In itself the block is in order, so its ends tell the rest.
            let block = self.read_block(at).await?;
            let Some((first, end)) = ends(&block) else {
                return Err(damaged("a block of it has no changes"));
            };
            if last.is_none() && first.0 != entry.first {
                return Err(damaged("its first change is not what the manifest says"));
            }
            if last.is_some_and(|last| last >= first) {
                return Err(damaged("its changes are not in order"));
            }
            last = Some(end);
        }
        if last.is_none_or(|(key, _)| key != entry.last) {
            return Err(damaged("its last change is not what the manifest says"));
        }
        let end = self.0.ranges.last().map_or(0, |range| range.end);
        match self.0.vault.stored_bytes(&self.0.name).await? {
            Some(bytes) if bytes == end => Ok(()),
            Some(bytes) if bytes < end => Err(damaged(CUT_SHORT)),
            Some(_) => Err(damaged(BYTES_BEHIND)),
            None => Err(Error::Missing { object: self.0.name, location: self.0.vault.location().to_owned() }),
        }
    }
}

/// Of which documents the first and the last change of a block are, and when these take effect.
fn ends(block: &[u8]) -> Option<((DeltaKey, Position), (DeltaKey, Position))> {
    let place = |change: Change<'_>| {
        let key = DeltaKey { collection: change.collection, key: change.key.into_bytes() };
        (key, change.position)
    };
    let first = place(Delta::changes(block).next()?);
    Some((first, place(Delta::changes(block).last()?)))
}

const CUT_SHORT: &str = "the object is cut short";
const BYTES_BEHIND: &str = "there are bytes behind its last block";

/// A place in an object, or its end.
fn within(object: &Bytes, at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(object.len())
}

impl Inner {
    fn open_block(&self, at: usize, sealed: &Bytes) -> Result<Vec<u8>> {
        let block = &self.blocks[at];
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let damaged = |what| Error::damaged_block(self.name, number, what);
        if sealed.len() as u64 != block.stored_bytes {
            return Err(damaged(CUT_SHORT));
        }
        let mut frame = Vec::new();
        open_block(&self.seal, &self.name, number, sealed, &mut frame)?;
        // The header was checked: no block is larger than a delta.
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(zstd_failed)?;
        let mut plain = Vec::new();
        decompress(&mut decompressor, &self.name, number, &frame, block.bytes as usize, &mut plain)?;
        if self.vault.keys().block_hash(&plain) != block.hash {
            return Err(damaged("its hash is another one"));
        }
        let (mut rest, mut changes, mut last) = (plain.as_slice(), 0, None::<Change<'_>>);
        while !rest.is_empty() {
            let (change, behind) = match split_record(rest) {
                Ok(Some(split)) => split,
                Ok(None) => return Err(damaged("a change of it is cut short")),
                Err(error) => return Err(damaged(error.0)),
            };
            match &last {
                Some(last) if *last >= change => return Err(damaged("its changes are not in order")),
                // Whoever looks for a document skips blocks by what the header says of their first ones.
                None if !block.begins_with(&change) => {
                    return Err(damaged("its first change is not what the header says"));
                }
                _ => {}
            }
            (rest, changes, last) = (behind, changes + 1, Some(change));
        }
        if changes != block.changes {
            return Err(damaged("it has another number of changes"));
        }
        Ok(plain)
    }
}
