//! Objects of several blocks behind a header that names them all: slices and deltas.
//!
//! The header names the blocks and tells their lengths, and the seals need the object's name, which is the header's hash: so
//! all is compressed before anything is sealed.

use crate::{
    ObjectName, Result, SealedObject, Vault,
    compress::{Hands, append_blocks},
    crypt::TAG_BYTES,
    object::{HEADER_BYTES, Header, compress},
    recycle::Holds,
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
        hands: Hands,
    ) -> Result<(Self, Vec<Compressed>)> {
        let lengths: Vec<usize> = lengths.map(|length| length as usize).collect();
        let mut out = vault.recycler().buffer(Holds::Sealed);
        let told =
            append_blocks(vault.recycler(), plain, &lengths, hands, &mut out, |_, plain, out, start| {
                out.resize(out.len() + TAG_BYTES, 0);
                Compressed { hash: vault.keys().block_hash(plain), stored_bytes: (out.len() - start) as u64 }
            })?;
        let lengths = told.iter().map(|told| told.stored_bytes as usize).collect();
        Ok((Self { out, lengths }, told))
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
        Ok(SealedObject { name, bytes: vault.recycler().lend(Holds::Sealed, out) })
    }
}
