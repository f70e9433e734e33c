//! From documents to a segment: collected, hashed, and only then, if need be, compressed and sealed.

use history::ContentSum;
use model::ClusterTime;

use super::{
    BLOCK_BYTES_TARGET, Order, SEGMENT_BYTES_MAX, SegmentEntry, block_number,
    index::{BlockEntry, INDEX_KEY_BYTES_MAX, Index},
};
use crate::{
    Error, Result, SealedObject, Vault,
    compress::{Hands, append_blocks},
    crypt::TAG_BYTES,
    object::Header,
    recycle::Holds,
};

/// Collects the documents of one segment.
#[derive(Debug)]
pub struct SegmentBuilder {
    order: Order,
    /// All documents, back to back.
    plain: Vec<u8>,
    blocks: Vec<BlockEntry>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    content: ContentSum,
    fault: Option<Fault>,
}

/// Why a document cannot follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Length,
    Order,
}

impl Fault {
    const fn why(self) -> &'static str {
        match self {
            Self::Length => "a document's length is not the one that it says",
            Self::Order => "its documents are not in the order of their keys",
        }
    }
}

impl SegmentBuilder {
    /// An empty segment.
    pub fn new(order: Order) -> Self {
        Self::with_buffer(order, Vec::new())
    }

    /// An empty segment in the memory of an old one: see [`Draft::into_buffer`].
    pub fn with_buffer(order: Order, mut plain: Vec<u8>) -> Self {
        plain.clear();
        Self {
            order,
            plain,
            blocks: Vec::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            content: ContentSum::default(),
            fault: None,
        }
    }

    /// Adds a document and its sort key; in natural order the key is not looked at and may be empty.
    ///
    /// A document that cannot follow is told of by [`SegmentBuilder::finish`].
    pub fn push(&mut self, key: &[u8], document: &[u8]) {
        if !has_own_length(document) {
            self.fault = Some(Fault::Length);
        }
        let sorted = self.order == Order::Sorted;
        if sorted && !self.is_empty() && self.last_key.as_slice() >= key {
            self.fault = Some(Fault::Order);
        }
        if self.is_empty() && sorted {
            self.first_key.extend_from_slice(key);
        }
        if sorted {
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.block_for(if sorted { key } else { &[] }).add(document.len());
        self.plain.extend_from_slice(document);
        self.content.add(document);
    }

    /// The block that the next document joins.
    fn block_for(&mut self, key: &[u8]) -> &mut BlockEntry {
        let full = self.blocks.last().is_none_or(|block| block.plain_bytes as usize >= BLOCK_BYTES_TARGET);
        if full {
            let first_key = key[..key.len().min(INDEX_KEY_BYTES_MAX)].to_vec();
            self.blocks.push(BlockEntry {
                plain_bytes: 0,
                sealed_bytes: 0,
                documents: 0,
                hash: [0; 32],
                first_key,
            });
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// Key of the last document; empty in natural order.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Whether the documents so far came in the order of their keys.
    pub fn is_in_order(&self) -> bool {
        self.fault != Some(Fault::Order)
    }

    /// Bytes of documents so far.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is no document yet.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Hashes the documents, which gives the segment its name. Costs CPU: a few milliseconds.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no document, there are too many, or one could not follow.
    pub fn finish(mut self, vault: &Vault) -> Result<Draft> {
        let fault = match self.plain.len() {
            0 => Some("it has no documents"),
            SEGMENT_BYTES_MAX.. => Some("it is too large"),
            _ => self.fault.map(Fault::why),
        };
        if let Some(why) = fault {
            return Err(Error::Refused { what: "a segment", why: why.to_owned() });
        }
        let mut rest = self.plain.as_slice();
        for block in &mut self.blocks {
            let (plain, after) = rest.split_at(block.plain_bytes as usize);
            block.hash = vault.keys().block_hash(plain);
            rest = after;
        }
        let index = Index { order: self.order, blocks: self.blocks };
        let entry = SegmentEntry {
            name: index.name(vault.keys()),
            order: self.order,
            first_key: self.first_key,
            last_key: self.last_key,
            documents: self.content.documents,
            bytes: self.content.bytes,
            content: self.content,
            as_of: ClusterTime::default(),
            stored_bytes: 0,
        };
        Ok(Draft { entry, plain: self.plain, index })
    }
}

impl BlockEntry {
    fn add(&mut self, document_bytes: usize) {
        self.plain_bytes = self.plain_bytes.saturating_add(u32::try_from(document_bytes).unwrap_or(u32::MAX));
        self.documents += 1;
    }
}

fn has_own_length(document: &[u8]) -> bool {
    document.first_chunk().is_some_and(|length| u32::from_le_bytes(*length) as usize == document.len())
}

/// A segment that has its name and is not yet compressed.
#[derive(Debug)]
pub struct Draft {
    /// What a manifest will say of it. `as_of` is for the caller to set; `stored_bytes` once it is known.
    pub entry: SegmentEntry,
    plain: Vec<u8>,
    index: Index,
}

impl Draft {
    /// Compresses and seals the segment. Costs CPU, some 50 ms: not for an async thread.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no memory left.
    pub fn seal(&self, vault: &Vault) -> Result<SealedObject> {
        self.seal_with(vault, Hands::One)
    }

    /// The same with so many threads.
    ///
    /// # Errors
    /// As [`Draft::seal`].
    pub fn seal_with(&self, vault: &Vault, hands: Hands) -> Result<SealedObject> {
        let name = self.entry.name;
        let salt = vault.keys().salt(&name);
        let seal = vault.keys().object(&name, &salt);
        let mut index = self.index.clone();
        let index_bytes = index.plain_bytes();

        let recycler = vault.recycler();
        let mut out = recycler.buffer(Holds::Sealed);
        Header::write(&name, index_bytes + TAG_BYTES, &salt, &mut out);
        // The index has a place of known size; its content is known when the blocks are.
        let index_at = out.len();
        out.resize(index_at + index_bytes + TAG_BYTES, 0);

        let lengths: Vec<_> = index.blocks.iter().map(|block| block.plain_bytes as usize).collect();
        let sealed = append_blocks(recycler, &self.plain, &lengths, hands, &mut out, |at, _, out, start| {
            let tag = seal.seal(block_number(at), &mut out[start..]);
            out.extend(tag);
            u32::try_from(out.len() - start).expect("blocks are below 4 GiB")
        })?;
        for (block, bytes) in index.blocks.iter_mut().zip(sealed) {
            block.sealed_bytes = bytes;
        }

        let mut plain_index = Vec::with_capacity(index_bytes + TAG_BYTES);
        index.write(&mut plain_index);
        let tag = seal.seal(0, &mut plain_index);
        plain_index.extend(tag);
        out[index_at..index_at + plain_index.len()].copy_from_slice(&plain_index);
        Ok(SealedObject { name, bytes: recycler.lend(Holds::Sealed, out) })
    }

    /// Gives the memory back for the next segment.
    pub fn into_buffer(self) -> Vec<u8> {
        self.plain
    }
}
