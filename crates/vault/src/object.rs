//! The frame that every object has: a header, then sealed blocks.
//!
//! The header tells in the clear what is needed to open the rest, and nothing else: magic, version, kind, how
//! long the first sealed block is, and the salt.

use std::io::Cursor;

use bytes::Bytes;
use zstd::zstd_safe;

use crate::{
    Error, ObjectKind, ObjectName, Result,
    crypt::{Keys, ObjectSeal, SALT_BYTES, Salt, TAG_BYTES},
};

pub(crate) const MAGIC: &[u8; 8] = b"EBBTIDE\0";
/// The version of the format of objects.
pub(crate) const FORMAT_VERSION: u8 = 1;
/// Magic, version, kind, two zeros, length of the first sealed block, salt.
pub(crate) const HEADER_BYTES: usize = 8 + 1 + 1 + 2 + 4 + SALT_BYTES;

/// What single blocks, which are few, are compressed with. Blocks of documents are tuned by themselves.
const ZSTD_LEVEL: i32 = 3;

/// An object sealed and ready to be stored.
#[derive(Debug, Clone)]
pub struct SealedObject {
    /// Its name.
    pub name: ObjectName,
    /// What is stored.
    pub bytes: Bytes,
}

/// What a header says.
pub(crate) struct Header {
    /// Length of block 0 with its tag.
    pub(crate) first_bytes: usize,
    pub(crate) salt: Salt,
}

impl Header {
    pub(crate) fn write(name: &ObjectName, first_bytes: usize, salt: &Salt, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend([FORMAT_VERSION, name.kind.code(), 0, 0]);
        out.extend(u32::try_from(first_bytes).expect("blocks are below 4 GiB").to_le_bytes());
        out.extend(salt);
    }

    pub(crate) fn read(name: &ObjectName, bytes: &[u8]) -> Result<Self> {
        let damaged = |what| Error::damaged(*name, what);
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| damaged("it is cut short"))?;
        if header[..8] != MAGIC[..] {
            return Err(damaged("it does not start like an object of Ebbtide"));
        }
        let version = header[8];
        if version != FORMAT_VERSION {
            return Err(Error::NewerFormat {
                what: name.to_string(),
                version: version.into(),
                known: FORMAT_VERSION.into(),
            });
        }
        if header[9] != name.kind.code() || header[10..12] != [0, 0] {
            return Err(damaged("its header is of another kind of object"));
        }
        let mut length = [0; 4];
        length.copy_from_slice(&header[12..16]);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&header[16..]);
        Ok(Self { first_bytes: u32::from_le_bytes(length) as usize, salt })
    }
}

/// The words for a block that does not open.
pub(crate) const DOES_NOT_OPEN: &str =
    "the seal does not open: its bytes were changed or cut, or another object was put in its place";

/// Seals an object of one block.
pub(crate) fn seal_single(keys: &Keys, name: ObjectName, plain: &[u8]) -> Result<SealedObject> {
    let salt = keys.salt(&name);
    let mut block = if is_compressed(name.kind) { compress(plain)? } else { plain.to_vec() };
    let tag = keys.object(&name, &salt).seal(0, &mut block);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + block.len() + TAG_BYTES);
    Header::write(&name, block.len() + TAG_BYTES, &salt, &mut bytes);
    bytes.extend_from_slice(&block);
    bytes.extend(tag);
    Ok(SealedObject { name, bytes: bytes.into() })
}

/// Opens an object of one block whose content is `plain_bytes_max` long at most.
pub(crate) fn open_single(
    keys: &Keys,
    name: &ObjectName,
    bytes: &[u8],
    plain_bytes_max: usize,
) -> Result<Vec<u8>> {
    let header = Header::read(name, bytes)?;
    let sealed = &bytes[HEADER_BYTES..];
    if sealed.len() != header.first_bytes {
        return Err(Error::damaged_block(*name, 0, "its length is not what the header says"));
    }
    let mut plain = Vec::new();
    open_block(&keys.object(name, &header.salt), name, 0, sealed, &mut plain)?;
    if is_compressed(name.kind) {
        plain = expand(name, &plain, plain_bytes_max)?;
    }
    if plain.len() > plain_bytes_max {
        return Err(Error::damaged_block(*name, 0, "it is too long"));
    }
    Ok(plain)
}

/// The content of block 0 when that is a zstd frame which tells its length.
pub(crate) fn expand(name: &ObjectName, frame: &[u8], plain_bytes_max: usize) -> Result<Vec<u8>> {
    let length = frame_length(frame).filter(|&length| length <= plain_bytes_max);
    let length = length.ok_or_else(|| Error::damaged_block(*name, 0, "it says to be too long"))?;
    let (mut decompressor, mut content) = (zstd::bulk::Decompressor::new().map_err(zstd_failed)?, Vec::new());
    decompress(&mut decompressor, name, 0, frame, length, &mut content)?;
    Ok(content)
}

/// Parts of archives are compressed already.
const fn is_compressed(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Archive)
}

/// One zstd frame that tells its content's length.
pub(crate) fn compress(plain: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(zstd_failed)
}

/// zstd fails only for want of memory.
pub(crate) fn zstd_failed(source: std::io::Error) -> Error {
    Error::Refused { what: "a block", why: format!("zstd failed: {source}") }
}

/// Opens a sealed block, or says which one does not open.
pub(crate) fn open_block(
    seal: &ObjectSeal,
    name: &ObjectName,
    block: u32,
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    if seal.open(block, sealed, out) {
        Ok(())
    } else {
        Err(Error::damaged_block(*name, block, DOES_NOT_OPEN))
    }
}

/// Appends the content of a zstd frame, which must have exactly that length. Memory that is written over is not cleared before.
pub(crate) fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    name: &ObjectName,
    block: u32,
    frame: &[u8],
    bytes: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    out.reserve_exact(bytes);
    let mut behind = Cursor::new(&mut *out);
    behind.set_position(start as u64);
    match decompressor.decompress_to_buffer(frame, &mut behind) {
        Ok(_) if out.len() == start + bytes => Ok(()),
        _ => Err(Error::damaged_block(*name, block, "it does not decompress")),
    }
}

fn frame_length(frame: &[u8]) -> Option<usize> {
    zstd_safe::get_frame_content_size(frame).ok().flatten().and_then(|length| usize::try_from(length).ok())
}
