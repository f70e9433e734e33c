//! Objects of several blocks behind a header that names them all: slices and deltas.
//!
//! The header names the blocks and tells their lengths, and the seals need the object's name, which is the header's hash: so
//! all is compressed before anything is sealed.

use crate::{
    ObjectName, Result, SealedObject, Vault,
    compress::{append_compressed, compressor},
    crypt::TAG_BYTES,
    object::{HEADER_BYTES, Header, compress},
};

/// What a header has to say of a block.
pub(crate) struct Compressed {
    /// BLAKE3 of its content, keyed.
    pub(crate) hash: [u8; 32],
    /// What it takes in the object, its tag included.
    pub(crate) stored_bytes: u64,
}

/// Blocks that wait for their name, each with room for its tag.
pub(crate) struct Blocks {
    out: Vec<u8>,
    lengths: Vec<usize>,
}

impl Blocks {
    /// Compresses content that is cut into blocks of these lengths; they add up to it.
    pub(crate) fn compress(
        vault: &Vault,
        plain: &[u8],
        lengths: impl Iterator<Item = u64>,
    ) -> Result<(Self, Vec<Compressed>)> {
        let mut blocks = Self { out: vault.recycler().buffer(), lengths: Vec::new() };
        let mut compressor = compressor(vault.recycler())?;
        let (mut told, mut rest) = (Vec::new(), plain);
        for length in lengths {
            let (plain, after) = rest.split_at(length as usize);
            rest = after;
            let start = blocks.out.len();
            append_compressed(&mut compressor, plain, &mut blocks.out)?;
            blocks.out.resize(blocks.out.len() + TAG_BYTES, 0);
            let stored = blocks.out.len() - start;
            blocks.lengths.push(stored);
            told.push(Compressed { hash: vault.keys().block_hash(plain), stored_bytes: stored as u64 });
        }
        vault.recycler().give_compressor(compressor);
        Ok((blocks, told))
    }

    /// The whole object of this name, which is the hash of `header`.
    pub(crate) fn seal(self, vault: &Vault, name: ObjectName, header: &[u8]) -> Result<SealedObject> {
        let Self { mut out, lengths } = self;
        let salt = vault.keys().salt(&name);
        let seal = vault.keys().object(&name, &salt);
        let mut rest = out.as_mut_slice();
        for (number, length) in (1..).zip(lengths) {
            let (block, after) = rest.split_at_mut(length);
            let (block, tag) = block.split_last_chunk_mut().expect("a tag");
            *tag = seal.seal(number, block);
            rest = after;
        }
        let mut first = compress(header)?;
        let tag = seal.seal(0, &mut first);
        first.extend(tag);
        let mut front = Vec::with_capacity(HEADER_BYTES + first.len());
        Header::write(&name, first.len(), &salt, &mut front);
        front.extend(first);
        out.splice(0..0, front);
        Ok(SealedObject { name, bytes: vault.recycler().lend(out) })
    }
}
