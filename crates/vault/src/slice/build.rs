//! From oplog entries to a slice: collected in memory, then hashed, compressed and sealed.

use history::raw;
use model::{ClusterTime, OplogPosition, WallTime};

use super::{
    SLICE_BYTES_MAX, SLICE_BYTES_TARGET, SliceBlock, SliceHeader, SliceLink, SliceSource,
    header::{FORMAT, HEADER_BYTES_MAX, Root, VERSION},
};
use crate::{
    Error, ObjectKind, ObjectName, Result, SealedObject, Vault, blocks::Blocks, compress::Hands,
    segment::BLOCK_BYTES_TARGET,
};

/// Collects the entries of one slice.
#[derive(Debug)]
pub struct SliceBuilder {
    source: SliceSource,
    link: SliceLink,
    /// All entries, back to back.
    plain: Vec<u8>,
    /// Only what is known before they are sealed.
    blocks: Vec<SliceBlock>,
    block_bytes: usize,
    first: Option<OplogPosition>,
    last: OplogPosition,
}

/// A slice that is ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedSlice {
    /// Its name.
    pub name: ObjectName,
    /// What it says of itself.
    pub header: SliceHeader,
    /// What is stored.
    pub object: SealedObject,
}

impl SliceBuilder {
    /// An empty slice at this place of a timeline.
    pub fn new(source: SliceSource, link: SliceLink) -> Self {
        Self::with_buffer(source, link, Vec::new())
    }

    /// An empty slice in the memory of an old one: see [`SliceBuilder::into_buffer`].
    pub fn with_buffer(source: SliceSource, link: SliceLink, mut plain: Vec<u8>) -> Self {
        plain.clear();
        let last = link.after;
        Self { source, link, plain, blocks: Vec::new(), block_bytes: BLOCK_BYTES_TARGET, first: None, last }
    }

    /// Closes blocks when they hold this much.
    #[cfg(test)]
    pub(crate) const fn with_blocks_of(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Adds the next entry of the oplog.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot follow the one before it, is no document, or does not fit; the builder stays
    /// as it was.
    pub fn push(&mut self, position: OplogPosition, entry: &[u8]) -> Result<()> {
        if !self.last.precedes(position) {
            let last = self.last;
            return Err(refused(format!("its entry at {position} cannot follow that at {last}")));
        }
        if !raw::document_length(entry).is_ok_and(|length| length == entry.len()) {
            return Err(refused(format!(
                "the length of its entry at {position} is not the one that it says"
            )));
        }
        if !self.has_room_for(entry.len()) {
            return Err(refused(format!("it has no room for the entry at {position}; seal it first")));
        }
        let full = self.blocks.last().is_none_or(|block| block.bytes >= self.block_bytes as u64);
        if full {
            self.blocks.push(SliceBlock {
                first: position.time,
                entries: 0,
                bytes: 0,
                stored_bytes: 0,
                hash: [0; 32],
            });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.entries += 1;
            block.bytes += entry.len() as u64;
        }
        self.plain.extend_from_slice(entry);
        self.first.get_or_insert(position);
        self.last = position;
        Ok(())
    }

    /// Whether an entry of so many bytes can be added. An empty slice takes any that a server writes.
    pub fn has_room_for(&self, entry_bytes: usize) -> bool {
        let most = if self.is_empty() { SLICE_BYTES_MAX } else { SLICE_BYTES_TARGET };
        self.plain.len().saturating_add(entry_bytes) <= most
    }

    /// Bytes of entries so far.
    pub fn bytes(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Says which slice it follows, when that became known only while this one was being filled.
    pub fn follow(&mut self, sequence: u64, previous: Option<ObjectName>) {
        (self.link.sequence, self.link.previous) = (sequence, previous);
    }

    /// The last entry; before the first one, the entry that the slice follows.
    pub const fn last(&self) -> OplogPosition {
        self.last
    }

    /// Hashes, compresses and seals the slice. Costs CPU, some 50 ms when it is full: not for an async thread.
    ///
    /// `read_from` is what [`SliceHeader::read_from`] says.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no entry, `read_from` lies behind the last one, the place in the chain is none,
    /// or there is no memory left.
    pub fn seal(&self, vault: &Vault, read_from: ClusterTime, now: WallTime) -> Result<SealedSlice> {
        self.seal_with(vault, read_from, now, Hands::One)
    }

    /// The same with so many threads.
    ///
    /// # Errors
    /// As [`SliceBuilder::seal`].
    pub fn seal_with(
        &self,
        vault: &Vault,
        read_from: ClusterTime,
        now: WallTime,
        hands: Hands,
    ) -> Result<SealedSlice> {
        let Some(first) = self.first else { return Err(refused("it has no entries".to_owned())) };
        let mut root = Root {
            format: FORMAT.to_owned(),
            version: VERSION,
            header: self.header(first, read_from, now),
            blocks: self.blocks.clone(),
        };
        if let Some(why) = root.contradiction() {
            return Err(refused(why.to_owned()));
        }

        let lengths = self.blocks.iter().map(|block| block.bytes);
        let (compressed, told) = Blocks::compress(vault, &self.plain, lengths, hands)?;
        for (block, told) in root.blocks.iter_mut().zip(told) {
            (block.hash, block.stored_bytes) = (told.hash, told.stored_bytes);
        }
        let header = serde_json::to_vec(&root)
            .ok()
            .filter(|plain| plain.len() <= HEADER_BYTES_MAX)
            .ok_or_else(|| refused("its header is too large".to_owned()))?;
        let name = vault.keys().name(ObjectKind::Slice, &[&header]);
        let object = compressed.seal(vault, name, &header)?;
        Ok(SealedSlice { name, header: root.header, object })
    }

    fn header(&self, first: OplogPosition, read_from: ClusterTime, now: WallTime) -> SliceHeader {
        let SliceSource {
            timeline_id,
            project_id,
            project_name,
            deployment_id,
            deployment_name,
            replica_set_name,
            ebbtide_version,
        } = self.source.clone();
        let SliceLink { sequence, previous, after } = self.link;
        SliceHeader {
            timeline_id,
            project_id,
            project_name,
            deployment_id,
            deployment_name,
            replica_set_name,
            sequence,
            previous,
            after,
            first,
            last: self.last,
            read_from,
            entries: self.blocks.iter().map(|block| block.entries).sum(),
            bytes: self.plain.len() as u64,
            created_at: now,
            ebbtide_version,
        }
    }

    /// Gives the memory back for the next slice.
    pub fn into_buffer(self) -> Vec<u8> {
        self.plain
    }
}

fn refused(why: String) -> Error {
    Error::Refused { what: "a slice", why }
}
