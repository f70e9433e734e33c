//! Writing an archive.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use bytes::BytesMut;
use model::id::RestoreJobId;
use tokio::task::JoinSet;

use super::{ArchiveId, ArchiveInfo, PART_BYTES};
use crate::{Error, Result, Vault, object::seal_single};

/// Parts under way to the store while the next one fills.
const PUTS_AT_A_TIME: usize = 2;

/// Takes the bytes of one archive and stores them in parts.
pub struct ArchiveWriter {
    vault: Vault,
    id: ArchiveId,
    part: BytesMut,
    parts: u64,
    bytes: u64,
    sha256: Context,
    sha1: Context,
    puts: JoinSet<Result<()>>,
}

impl ArchiveWriter {
    /// Begins an archive for `job`.
    pub fn new(vault: &Vault, job: RestoreJobId) -> Self {
        Self::with_id(vault, ArchiveId::new(job))
    }

    pub(crate) fn with_id(vault: &Vault, id: ArchiveId) -> Self {
        Self {
            vault: vault.clone(),
            id,
            part: BytesMut::with_capacity(PART_BYTES),
            parts: 0,
            bytes: 0,
            sha256: Context::new(&SHA256),
            sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
            puts: JoinSet::new(),
        }
    }

    /// Which archive this will be.
    pub const fn id(&self) -> ArchiveId {
        self.id
    }

    /// Adds bytes. After an error the archive is good for nothing but [`ArchiveWriter::abort`].
    ///
    /// # Errors
    /// Whatever the store says, perhaps of bytes before these.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == PART_BYTES {
                self.put_part().await?;
            }
        }
        Ok(())
    }

    async fn put_part(&mut self) -> Result<()> {
        while self.puts.len() >= PUTS_AT_A_TIME {
            self.settle_one().await?;
        }
        let part = self.part.split().freeze();
        self.part.reserve(PART_BYTES);
        let name = self.id.part(self.parts);
        self.parts += 1;
        let vault = self.vault.clone();
        self.puts.spawn(async move {
            let sealed = seal_single(vault.keys(), name, &part)?;
            vault.put(&sealed).await.map(drop)
        });
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        match self.puts.join_next().await {
            Some(Ok(put)) => put,
            Some(Err(e)) => Err(Error::Store {
                action: "write a part of an archive",
                location: self.vault.location().to_owned(),
                source: Box::new(e),
            }),
            None => Ok(()),
        }
    }

    /// Stores what is left. The archive is durable when this returns.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn finish(mut self) -> Result<ArchiveInfo> {
        let stored = self.put_rest().await;
        // Whoever hears of a failure may delete what is there, and nothing may come after that.
        while self.puts.join_next().await.is_some() {}
        stored?;
        Ok(ArchiveInfo {
            id: self.id,
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.finish()),
            sha1: hex::encode(self.sha1.finish()),
            parts: self.parts,
        })
    }

    async fn put_rest(&mut self) -> Result<()> {
        if !self.part.is_empty() {
            self.put_part().await?;
        }
        while !self.puts.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Gives up and deletes what was stored.
    ///
    /// # Errors
    /// Whatever the store says; [`Vault::delete_archives_of`] can be tried later.
    pub async fn abort(mut self) -> Result<()> {
        while self.puts.join_next().await.is_some() {}
        for number in 0..self.parts {
            self.vault.delete(&self.id.part(number)).await?;
        }
        Ok(())
    }
}
