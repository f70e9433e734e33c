//! From changes to a delta: collected in memory, then hashed, compressed and sealed.

use history::change::{Change, Position, push_record};

use super::{
    DELTA_BYTES_MAX, DeltaEntry, DeltaKey,
    header::{self, DeltaBlock},
};
use crate::{
    Error, ObjectKind, Result, SealedObject, Vault, blocks::Blocks, compress::Hands,
    segment::BLOCK_BYTES_TARGET,
};

/// Collects the changes of one delta.
#[derive(Debug, Default)]
pub struct DeltaBuilder {
    /// All records, back to back.
    plain: Vec<u8>,
    /// Only what is known before they are sealed.
    blocks: Vec<DeltaBlock>,
    block_bytes: Option<usize>,
    bounds: Option<(DeltaKey, DeltaKey)>,
    /// When the last change takes effect.
    position: Position,
}

/// A delta that is ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedDelta {
    /// What a manifest says of it.
    pub entry: DeltaEntry,
    /// What is stored.
    pub object: SealedObject,
}

impl DeltaBuilder {
    /// An empty delta.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes blocks when they hold this much.
    #[cfg(test)]
    pub(crate) const fn with_blocks_of(mut self, bytes: usize) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// Adds a change. Changes ascend by collection and key; those of one document are in the order in which they take effect.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot follow the one before it or does not fit; the builder stays as it was.
    pub fn push(&mut self, change: &Change<'_>) -> Result<()> {
        let at = DeltaKey { collection: change.collection, key: change.key.as_bytes().to_vec() };
        let last = self.bounds.as_ref().map(|(_, last)| (last, self.position));
        if last.is_some_and(|last| last >= (&at, change.position)) {
            return Err(refused("its changes are not in order"));
        }
        let start = self.plain.len();
        push_record(&mut self.plain, change);
        if self.plain.len() > DELTA_BYTES_MAX {
            self.plain.truncate(start);
            return Err(refused("it has no room for another change; seal it first"));
        }
        let block_bytes = self.block_bytes.unwrap_or(BLOCK_BYTES_TARGET) as u64;
        if self.blocks.last().is_none_or(|block| block.bytes >= block_bytes) {
            self.blocks.push(DeltaBlock::beginning(change.collection, &change.key));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.changes += 1;
            block.bytes += (self.plain.len() - start) as u64;
        }
        self.position = change.position;
        match &mut self.bounds {
            Some((_, last)) => *last = at,
            none => *none = Some((at.clone(), at)),
        }
        Ok(())
    }

    /// Bytes of records so far.
    pub fn bytes(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is no change yet.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Hashes, compresses and seals the delta. Costs CPU: not for an async thread.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no change, or no memory left.
    pub fn seal(&self, vault: &Vault) -> Result<SealedDelta> {
        self.seal_with(vault, Hands::One)
    }

    /// The same with so many threads.
    ///
    /// # Errors
    /// As [`DeltaBuilder::seal`].
    pub fn seal_with(&self, vault: &Vault, hands: Hands) -> Result<SealedDelta> {
        let Some((first, last)) = self.bounds.clone() else { return Err(refused("it has no changes")) };
        let mut blocks = self.blocks.clone();
        let lengths = self.blocks.iter().map(|block| block.bytes);
        let (compressed, told) = Blocks::compress(vault, &self.plain, lengths, hands)?;
        for (block, told) in blocks.iter_mut().zip(told) {
            (block.hash, block.stored_bytes) = (told.hash, told.stored_bytes);
        }
        let header = header::write(&blocks).ok_or_else(|| refused("its header is too large"))?;
        let name = vault.keys().name(ObjectKind::Delta, &[&header]);
        let object = compressed.seal(vault, name, &header)?;
        let entry = DeltaEntry {
            name,
            first,
            last,
            changes: blocks.iter().map(|block| block.changes).sum(),
            bytes: self.plain.len() as u64,
            stored_bytes: object.bytes.len() as u64,
        };
        Ok(SealedDelta { entry, object })
    }
}

fn refused(why: &str) -> Error {
    Error::Refused { what: "a delta", why: why.to_owned() }
}
