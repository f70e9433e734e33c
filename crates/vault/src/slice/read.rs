//! From the vault, or from memory, back to entries, everything checked.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use history::raw;
use model::ClusterTime;

use super::{
    SliceBlock, SliceHeader,
    header::{HEADER_BYTES_MAX, Root},
};
use crate::{
    Error, ObjectKind, ObjectName, Result, Vault,
    crypt::ObjectSeal,
    object::{HEADER_BYTES, Header, decompress, expand, open_block, zstd_failed},
    vault::off_the_runtime,
};

/// An open slice: its header is in memory, its blocks are read as they are needed. Clones are the same slice.
#[derive(Clone)]
pub struct Slice(Arc<Inner>);

struct Inner {
    vault: Vault,
    name: ObjectName,
    root: Root,
    seal: ObjectSeal,
    /// Where the blocks lie.
    ranges: Vec<Range<u64>>,
    /// The whole object, when it need not be read from the vault.
    object: Option<Bytes>,
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({})", self.0.name)
    }
}

impl Slice {
    /// Opens a slice of the vault: one small read.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::NewerFormat`], and whatever the store says.
    pub async fn open(vault: &Vault, name: &ObjectName) -> Result<Self> {
        check_kind(name)?;
        let (header, front) = vault.get_front(name).await?;
        Self::of_front(vault, name, &header, &front, None)
    }

    /// Opens a slice that lies in memory, as [`SealedSlice`](super::SealedSlice) has it.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::NewerFormat`].
    pub fn from_sealed(vault: &Vault, name: &ObjectName, object: Bytes) -> Result<Self> {
        check_kind(name)?;
        let header = Header::read(name, &object)?;
        let slice = Self::of_front(vault, name, &header, &object, Some(object.clone()))?;
        let end = slice.0.ranges.last().map_or(0, |range| range.end);
        match end.cmp(&(object.len() as u64)) {
            std::cmp::Ordering::Equal => Ok(slice),
            std::cmp::Ordering::Less => Err(Error::damaged(*name, BYTES_BEHIND)),
            std::cmp::Ordering::Greater => Err(Error::damaged(*name, CUT_SHORT)),
        }
    }

    /// Its name.
    pub fn name(&self) -> ObjectName {
        self.0.name
    }

    /// What it says of itself.
    pub fn header(&self) -> &SliceHeader {
        &self.0.root.header
    }

    /// Its blocks.
    pub fn blocks(&self) -> &[SliceBlock] {
        &self.0.root.blocks
    }

    /// The block to begin with for whoever wants every entry from `time` on; none when they are all before it.
    pub fn block_from(&self, time: ClusterTime) -> Option<usize> {
        (time <= self.header().last.time)
            .then(|| self.blocks().partition_point(|block| block.first <= time).saturating_sub(1))
    }

    /// The entries of one block, back to back: see [`entries`](super::entries). Blocks are counted from 0 here; errors
    /// name them as the format counts them, where 0 is the header.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the block, [`Error::Missing`], [`Error::Refused`] when there is no such block, and whatever the
    /// store says.
    pub async fn read_block(&self, at: usize) -> Result<Vec<u8>> {
        let Some(range) = self.0.ranges.get(at).cloned() else {
            let why = format!("it has {} of them, and number {at} was asked for", self.blocks().len());
            return Err(Error::Refused { what: "a read of a block of a slice", why });
        };
        let sealed = self.0.sealed(range).await?;
        self.open_block(at, sealed).await
    }

    /// The blocks from this one on, in order, each as [`Slice::read_block`] gives it. They are read at once: a few megabytes,
    /// held until the stream ends.
    pub fn read_blocks(&self, from: usize) -> BoxStream<'static, Result<Vec<u8>>> {
        let count = self.blocks().len();
        if from >= count {
            return stream::empty().boxed();
        }
        let slice = self.clone();
        stream::once(async move { slice.0.sealed_from(from).await.map(|sealed| (slice, sealed)) })
            .map_ok(move |(slice, sealed)| {
                stream::iter(from..count).then(move |at| {
                    let (slice, sealed) = (slice.clone(), sealed.clone());
                    async move {
                        let start = slice.0.ranges[from].start;
                        let range = &slice.0.ranges[at];
                        let sealed = part(&sealed, range.start - start..range.end - start);
                        slice.open_block(at, sealed).await
                    }
                })
            })
            .try_flatten()
            .boxed()
    }

    /// Reads every block and checks it.
    ///
    /// # Errors
    /// As [`Slice::read_block`].
    pub async fn verify(&self) -> Result<()> {
        self.read_blocks(0).try_for_each(|_| std::future::ready(Ok(()))).await
    }

    fn of_front(
        vault: &Vault,
        name: &ObjectName,
        header: &Header,
        front: &[u8],
        object: Option<Bytes>,
    ) -> Result<Self> {
        let seal = vault.keys().object(name, &header.salt);
        let front_bytes = HEADER_BYTES + header.first_bytes;
        let sealed = front.get(HEADER_BYTES..front_bytes);
        let sealed = sealed.ok_or_else(|| Error::damaged_block(*name, 0, CUT_SHORT))?;
        let mut frame = Vec::new();
        open_block(&seal, name, 0, sealed, &mut frame)?;
        let plain = expand(name, &frame, HEADER_BYTES_MAX)?;
        let root = Root::read(vault.keys(), name, &plain)?;
        let ranges = root.ranges(front_bytes as u64);
        Ok(Self(Arc::new(Inner { vault: vault.clone(), name: *name, root, seal, ranges, object })))
    }

    async fn open_block(&self, at: usize, sealed: Bytes) -> Result<Vec<u8>> {
        let slice = self.clone();
        off_the_runtime(move || slice.0.open_block(at, &sealed)).await
    }
}

const CUT_SHORT: &str = "the object is cut short";
const BYTES_BEHIND: &str = "there are bytes behind its last block";

/// Asking for a slice that is something else is a mistake and no damage.
fn check_kind(name: &ObjectName) -> Result<()> {
    if name.kind == ObjectKind::Slice {
        return Ok(());
    }
    Err(Error::Refused { what: "a read of a slice", why: format!("{name} is none") })
}

/// A range of bytes, or as much of it as there is.
fn part(bytes: &Bytes, range: Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(within(range.start)..within(range.end))
}

impl Inner {
    /// A range of the object, or as much of it as there is.
    async fn sealed(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.object {
            Some(object) => Ok(part(object, range)),
            None => self.vault.get_range(&self.name, range).await,
        }
    }

    /// The object from a block on, and nothing behind it.
    async fn sealed_from(&self, from: usize) -> Result<Bytes> {
        let range = self.ranges[from].start..self.ranges.last().map_or(0, |range| range.end);
        let bytes = range.end - range.start;
        // One byte more tells whether there is anything behind.
        let sealed = self.sealed(range.start..range.end + 1).await?;
        if sealed.len() as u64 > bytes {
            return Err(Error::damaged(self.name, BYTES_BEHIND));
        }
        Ok(sealed)
    }

    fn open_block(&self, at: usize, sealed: &[u8]) -> Result<Vec<u8>> {
        let block = &self.root.blocks[at];
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let damaged = |what| Error::damaged_block(self.name, number, what);
        if sealed.len() as u64 != block.stored_bytes {
            return Err(damaged(CUT_SHORT));
        }
        let mut frame = Vec::new();
        open_block(&self.seal, &self.name, number, sealed, &mut frame)?;
        // The header was checked: no block is larger than a slice.
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(zstd_failed)?;
        let mut plain = Vec::new();
        decompress(&mut decompressor, &self.name, number, &frame, block.bytes as usize, &mut plain)?;
        if self.vault.keys().block_hash(&plain) != block.hash {
            return Err(damaged("its hash is another one"));
        }
        let mut entries = 0;
        for entry in raw::documents(&plain) {
            entry.map_err(|e| damaged(e.0))?;
            entries += 1;
        }
        if entries != block.entries {
            return Err(damaged("it has another number of entries"));
        }
        Ok(plain)
    }
}
