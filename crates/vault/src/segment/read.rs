//! From the vault back to documents, everything checked.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use history::{ContentSum, SortKey, key::push_document_key, raw};

use super::{Order, SEGMENT_BYTES_MAX, SegmentEntry, block_number, index::Index};
use crate::{
    Error, ObjectName, Result, Vault,
    crypt::{Keys, ObjectSeal},
    object::{HEADER_BYTES, Header, decompress, open_block, zstd_failed},
    recycle::Holds,
    vault::off_the_runtime,
};

/// The documents of a segment, checked.
#[derive(Debug, Clone)]
pub struct Segment {
    plain: Bytes,
}

impl Segment {
    /// The documents, in the segment's order.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        // Walked once before, when they were counted: there is no error to be had.
        raw::documents(&self.plain).map_while(Result::ok)
    }

    /// All documents, back to back.
    pub fn into_bytes(self) -> Bytes {
        self.plain
    }

    /// Bytes of documents.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }
}

impl Vault {
    /// Reads a segment and checks every hash, the count and the content sum.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] with the block that is, or whatever the store says.
    pub async fn read_segment(&self, entry: &SegmentEntry) -> Result<Segment> {
        let sealed = self.get(&entry.name).await?;
        let (vault, entry) = (self.clone(), entry.clone());
        off_the_runtime(move || open_segment(&vault, &entry, &sealed)).await
    }

    /// Reads a segment like [`Vault::read_segment`], and checks that keys and order are those of the documents.
    ///
    /// # Errors
    /// As [`Vault::read_segment`].
    pub async fn verify_segment(&self, entry: &SegmentEntry) -> Result<()> {
        let segment = self.read_segment(entry).await?;
        let entry = entry.clone();
        off_the_runtime(move || check_keys(&entry, &segment)).await
    }

    /// Reads one document of a sorted segment by its sort key: two small reads.
    ///
    /// # Errors
    /// As [`Vault::read_segment`]; [`Error::Refused`] for a segment in natural order.
    pub async fn read_document(&self, entry: &SegmentEntry, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if entry.order != Order::Sorted {
            let why = "its documents are in natural order".to_owned();
            return Err(Error::Refused { what: "a search by key in a segment", why });
        }
        let name = &entry.name;
        let (seal, index) = self.read_index(name).await?;
        let ranges: Vec<_> = index.ranges().collect();
        for at in index.candidates(key).rev() {
            let sealed = self.get_range(name, ranges[at].clone()).await?;
            let mut opener = Opener::new(self.keys(), &seal, name)?;
            let mut plain = Vec::new();
            opener.open(at, &index, &sealed, &mut plain)?;
            for document in raw::documents(&plain) {
                let document = document.map_err(|e| Error::damaged_block(*name, block_number(at), e.0))?;
                let found = SortKey::of_document(document).map_err(|e| Error::damaged(*name, e.0))?;
                if found.as_bytes() == key {
                    return Ok(Some(document.to_vec()));
                }
            }
        }
        Ok(None)
    }

    /// Reads those documents of a sorted segment whose sort keys are `keys`, which ascend: only the blocks that may hold
    /// one of them. Also tells how many bytes of the store were read.
    ///
    /// # Errors
    /// As [`Vault::read_document`].
    pub async fn read_documents(
        &self,
        entry: &SegmentEntry,
        keys: &[Vec<u8>],
    ) -> Result<(Vec<Option<Vec<u8>>>, u64)> {
        if entry.order != Order::Sorted {
            let why = "its documents are in natural order".to_owned();
            return Err(Error::Refused { what: "a search by key in a segment", why });
        }
        let name = entry.name;
        let (seal, index) = self.read_index(&name).await?;
        let (index, seal, keys) = (Arc::new(index), Arc::new(seal), Arc::new(keys.to_vec()));
        let ranges: Vec<_> = index.ranges().collect();
        let mut read_bytes = ranges.first().map_or(0, |first| first.start);
        let mut found = vec![None; keys.len()];
        let (index, seal, ranges) = (&index, &seal, &ranges);
        let search = |stretch: Vec<Look>| {
            let (vault, index, seal, keys) =
                (self.clone(), Arc::clone(index), Arc::clone(seal), Arc::clone(&keys));
            async move {
                let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else {
                    return Ok((Vec::new(), 0));
                };
                let bytes = ranges[first.block].start..ranges[last.block].end;
                let sealed = vault.get_range(&name, bytes.clone()).await?;
                let found = off_the_runtime(move || {
                    search_blocks(&vault, &seal, &index, &name, &sealed, &stretch, &keys)
                });
                Ok::<_, Error>((found.await?, bytes.end - bytes.start))
            }
        };
        let mut searched = stream::iter(stretches(looks(index, &keys))).map(search).buffered(STRETCHES_AHEAD);
        while let Some((documents, bytes)) = searched.try_next().await? {
            read_bytes += bytes;
            for (place, document) in documents {
                found[place] = Some(document);
            }
        }
        drop(searched);
        Ok((found, read_bytes))
    }

    /// The size of a segment in the store, when it is there and whole as far as its index and its length tell: enough to
    /// find out that it was cut short or is another object, and not that a bit of its documents has flipped.
    ///
    /// # Errors
    /// Whatever the store says; damage is no error here.
    pub async fn whole_segment(&self, name: &ObjectName) -> Result<Option<u64>> {
        let Some(stored_bytes) = self.stored_bytes(name).await? else { return Ok(None) };
        let whole = match self.read_index(name).await {
            Ok((_, index)) => index.ranges().last().is_some_and(|range| range.end == stored_bytes),
            Err(error) if error.is_damage() => false,
            Err(error) => return Err(error),
        };
        Ok(whole.then_some(stored_bytes))
    }

    async fn read_index(&self, name: &ObjectName) -> Result<(ObjectSeal, Index)> {
        let (header, front) = self.get_front(name).await?;
        let seal = self.keys().object(name, &header.salt);
        let index = open_index(self.keys(), &seal, name, &header, &front)?;
        Ok((seal, index))
    }
}

/// So many blocks that lie side by side are read and searched in one go.
const BLOCKS_TOGETHER: usize = 4;
/// So many of such stretches are under way at a time.
const STRETCHES_AHEAD: usize = 2;

/// A block that may hold some of the documents that are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    block: usize,
    /// Places of the keys of these.
    keys: Range<usize>,
}

/// The blocks that may hold documents with these keys, which ascend; in their order.
fn looks(index: &Index, keys: &[Vec<u8>]) -> Vec<Look> {
    let mut looks: Vec<Look> = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        for block in index.candidates(key) {
            // Of an earlier key the candidates do not lie behind those of a later one.
            match looks.iter_mut().rev().find(|look| look.block == block) {
                Some(look) => look.keys.end = place + 1,
                None => looks.push(Look { block, keys: place..place + 1 }),
            }
        }
    }
    looks
}

/// Those of neighbours together.
fn stretches(looks: Vec<Look>) -> Vec<Vec<Look>> {
    let mut stretches: Vec<Vec<Look>> = Vec::new();
    for look in looks {
        match stretches.last_mut() {
            Some(last)
                if last.len() < BLOCKS_TOGETHER
                    && last.last().is_some_and(|before| before.block + 1 == look.block) =>
            {
                last.push(look);
            }
            _ => stretches.push(vec![look]),
        }
    }
    stretches
}

/// The documents of neighbouring blocks that are looked for, each with the place of its key. `sealed` begins with the first of
/// the blocks.
fn search_blocks(
    vault: &Vault,
    seal: &ObjectSeal,
    index: &Index,
    name: &ObjectName,
    sealed: &[u8],
    stretch: &[Look],
    keys: &[Vec<u8>],
) -> Result<Vec<(usize, Vec<u8>)>> {
    let mut opener = Opener::new(vault.keys(), seal, name)?;
    let (mut found, mut key, mut rest) = (Vec::new(), Vec::new(), sealed);
    let mut plain = vault.recycler().buffer(Holds::Plain);
    for look in stretch {
        let (name, number) = (*name, block_number(look.block));
        let block = &index.blocks[look.block];
        let (sealed, after) = rest
            .split_at_checked(block.sealed_bytes as usize)
            .ok_or_else(|| Error::damaged_block(name, number, CUT_SHORT))?;
        rest = after;
        plain.clear();
        opener.open(look.block, index, sealed, &mut plain)?;
        let mut wanted = look.keys.clone().peekable();
        for document in raw::documents(&plain) {
            let document = document.map_err(|e| Error::damaged_block(name, number, e.0))?;
            key.clear();
            push_document_key(&mut key, document).map_err(|e| Error::damaged(name, e.0))?;
            while wanted.next_if(|place| keys[*place] < key).is_some() {}
            match wanted.peek() {
                Some(place) if keys[*place] == key => found.push((*place, document.to_vec())),
                Some(_) => {}
                None => break,
            }
        }
    }
    vault.recycler().give_buffer(Holds::Plain, plain);
    Ok(found)
}

fn open_index(
    keys: &Keys,
    seal: &ObjectSeal,
    name: &ObjectName,
    header: &Header,
    object: &[u8],
) -> Result<Index> {
    let sealed = object.get(HEADER_BYTES..HEADER_BYTES + header.first_bytes);
    let sealed = sealed.ok_or_else(|| Error::damaged_block(*name, 0, "it is cut short"))?;
    let mut plain = Vec::new();
    open_block(seal, name, 0, sealed, &mut plain)?;
    let index = Index::read(keys, name, &plain)?;
    if index.segment_bytes() > SEGMENT_BYTES_MAX as u64 {
        return Err(Error::damaged_block(*name, 0, "its blocks are larger than a segment"));
    }
    Ok(index)
}

fn open_segment(vault: &Vault, entry: &SegmentEntry, object: &[u8]) -> Result<Segment> {
    let (keys, name) = (vault.keys(), &entry.name);
    let header = Header::read(name, object)?;
    let seal = keys.object(name, &header.salt);
    let index = open_index(keys, &seal, name, &header, object)?;
    if index.order != entry.order || index.segment_bytes() != entry.bytes {
        return Err(Error::damaged(*name, "it is not what the manifest says of it"));
    }
    let mut plain = vault.recycler().buffer(Holds::Plain);
    plain.reserve_exact(usize::try_from(entry.bytes).unwrap_or(0));
    let mut opener = Opener::new(keys, &seal, name)?;
    let mut end = 0;
    for (at, range) in index.ranges().enumerate() {
        let sealed =
            slice(object, &range).ok_or_else(|| Error::damaged_block(*name, block_number(at), CUT_SHORT))?;
        opener.open(at, &index, sealed, &mut plain)?;
        end = range.end;
    }
    if end != object.len() as u64 {
        return Err(Error::damaged(*name, BYTES_BEHIND));
    }
    check_content(entry, &index, &plain)?;
    Ok(Segment { plain: vault.recycler().lend(Holds::Plain, plain) })
}

/// Checks every block of a segment that lies in memory, without knowing what a manifest says of it.
pub(crate) fn check_sealed(vault: &Vault, name: &ObjectName, object: &[u8]) -> Result<()> {
    let keys = vault.keys();
    let header = Header::read(name, object)?;
    let seal = keys.object(name, &header.salt);
    let index = open_index(keys, &seal, name, &header, object)?;
    let mut opener = Opener::new(keys, &seal, name)?;
    let (mut plain, mut end) = (vault.recycler().buffer(Holds::Plain), 0);
    for (at, range) in index.ranges().enumerate() {
        let sealed =
            slice(object, &range).ok_or_else(|| Error::damaged_block(*name, block_number(at), CUT_SHORT))?;
        plain.clear();
        opener.open(at, &index, sealed, &mut plain)?;
        end = range.end;
    }
    vault.recycler().give_buffer(Holds::Plain, plain);
    if end == object.len() as u64 { Ok(()) } else { Err(Error::damaged(*name, BYTES_BEHIND)) }
}

const CUT_SHORT: &str = "the object is cut short";
const BYTES_BEHIND: &str = "there are bytes behind its last block";

fn slice<'a>(object: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    object.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Opens the blocks of one segment, one after another, with the same buffers.
struct Opener<'a> {
    keys: &'a Keys,
    seal: &'a ObjectSeal,
    name: &'a ObjectName,
    decompressor: zstd::bulk::Decompressor<'static>,
    frame: Vec<u8>,
}

impl<'a> Opener<'a> {
    fn new(keys: &'a Keys, seal: &'a ObjectSeal, name: &'a ObjectName) -> Result<Self> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(zstd_failed)?;
        Ok(Self { keys, seal, name, decompressor, frame: Vec::new() })
    }

    /// Appends one block.
    fn open(&mut self, at: usize, index: &Index, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let (number, start) = (block_number(at), out.len());
        open_block(self.seal, self.name, number, sealed, &mut self.frame)?;
        let bytes = index.blocks[at].plain_bytes as usize;
        decompress(&mut self.decompressor, self.name, number, &self.frame, bytes, out)?;
        if self.keys.block_hash(&out[start..]) != index.blocks[at].hash {
            return Err(Error::damaged_block(*self.name, number, "its hash is another one"));
        }
        Ok(())
    }
}

/// Walks all documents: afterwards the walk cannot fail.
fn check_content(entry: &SegmentEntry, index: &Index, plain: &[u8]) -> Result<()> {
    let mut content = ContentSum::default();
    let mut rest = plain;
    for (at, block) in index.blocks.iter().enumerate() {
        let (documents, after) = rest.split_at(block.plain_bytes as usize);
        rest = after;
        let before = content.documents;
        for document in raw::documents(documents) {
            content.add(document.map_err(|e| Error::damaged_block(entry.name, block_number(at), e.0))?);
        }
        if content.documents - before != u64::from(block.documents) {
            return Err(Error::damaged_block(
                entry.name,
                block_number(at),
                "it has another number of documents",
            ));
        }
    }
    if content != entry.content || content.documents != entry.documents {
        return Err(Error::damaged(
            entry.name,
            "count or hash of its documents is not what the manifest says",
        ));
    }
    Ok(())
}

fn check_keys(entry: &SegmentEntry, segment: &Segment) -> Result<()> {
    if entry.order == Order::Natural {
        return Ok(());
    }
    let damaged = |what| Error::damaged(entry.name, what);
    let mut last: Option<SortKey> = None;
    for document in segment.documents() {
        let key = SortKey::of_document(document).map_err(|e| damaged(e.0))?;
        match &last {
            None if key.as_bytes() != entry.first_key => {
                return Err(damaged("its first key is not what the manifest says"));
            }
            Some(before) if *before >= key => {
                return Err(damaged("its documents are not in the order of their keys"));
            }
            _ => {}
        }
        last = Some(key);
    }
    if last.is_some_and(|key| key.as_bytes() != entry.last_key) {
        return Err(damaged("its last key is not what the manifest says"));
    }
    Ok(())
}
