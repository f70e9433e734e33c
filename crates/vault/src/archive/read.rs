//! Reading an archive, from any place in it.

use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};

use super::{ArchiveInfo, PART_BYTES};
use crate::{Error, Result, Vault, object::open_single};

/// Parts read ahead of the one being sent.
const PARTS_AHEAD: usize = 2;

/// Reads one archive.
#[derive(Debug, Clone)]
pub struct ArchiveReader {
    vault: Vault,
    info: ArchiveInfo,
}

impl ArchiveReader {
    /// Opens an archive. Nothing is read yet.
    ///
    /// # Errors
    /// [`Error::Refused`] when its length and its number of parts do not agree.
    pub fn open(vault: &Vault, info: &ArchiveInfo) -> Result<Self> {
        if info.bytes.div_ceil(PART_BYTES as u64) != info.parts {
            let why = "its length and its number of parts do not agree".to_owned();
            return Err(Error::Refused { what: "an archive", why });
        }
        Ok(Self { vault: vault.clone(), info: info.clone() })
    }

    /// What is known of it.
    pub const fn info(&self) -> &ArchiveInfo {
        &self.info
    }

    /// The bytes from `start` up to `end`, which is not included and is cut to the archive's length.
    pub fn read_range(&self, start: u64, end: u64) -> BoxStream<'static, Result<Bytes>> {
        let end = end.min(self.info.bytes);
        if start >= end {
            return stream::empty().boxed();
        }
        let part_bytes = PART_BYTES as u64;
        let reader = self.clone();
        stream::iter(start / part_bytes..end.div_ceil(part_bytes))
            .map(move |number| {
                let reader = reader.clone();
                async move {
                    let part = reader.read_part(number).await?;
                    let at = number * part_bytes;
                    let from = start.saturating_sub(at);
                    let to = (end - at).min(part.len() as u64);
                    // Both are at most the length of a part.
                    Ok(part.slice(from as usize..to as usize))
                }
            })
            .buffered(PARTS_AHEAD)
            .boxed()
    }

    async fn read_part(&self, number: u64) -> Result<Bytes> {
        let name = self.info.id.part(number);
        let sealed = self.vault.get(&name).await?;
        let part = open_single(self.vault.keys(), &name, &sealed, PART_BYTES)?;
        let expected = (self.info.bytes - number * PART_BYTES as u64).min(PART_BYTES as u64);
        if part.len() as u64 != expected {
            return Err(Error::damaged(name, "it has another length than the archive says"));
        }
        Ok(part.into())
    }
}
