//! Archives: what people download, kept sealed in parts until then.
//!
//! An archive is a stream of bytes that is compressed already. It is cut into parts of 4 MiB, each an object of
//! one block. Its name says which job made it, so that nothing is left when the job is gone; a random half keeps
//! two attempts of one job apart.

mod read;
mod write;

use std::{fmt, str::FromStr};

use futures::{StreamExt as _, TryStreamExt as _};
use model::id::RestoreJobId;
use serde::{Deserialize, Serialize};

pub use read::ArchiveReader;
pub use write::ArchiveWriter;

use crate::{ObjectKind, ObjectName, Result, Vault, crypt::random, name::fixed_hex};

/// Plain bytes of every part but the last.
pub const PART_BYTES: usize = 4 << 20;
/// Deletes in flight at a time.
const DELETES_AT_A_TIME: usize = 8;

/// Which archive: the job that made it, and which of its attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArchiveId([u8; 24]);

impl ArchiveId {
    /// A fresh id for an attempt of `job`.
    pub(crate) fn new(job: RestoreJobId) -> Self {
        let mut bytes = [0; 24];
        bytes[..12].copy_from_slice(job.as_bytes());
        bytes[12..].copy_from_slice(&random::<12>());
        Self(bytes)
    }

    /// The job that made it.
    pub fn job(&self) -> RestoreJobId {
        job_of(&self.0)
    }

    /// The name of a part, counted from 0.
    pub(crate) fn part(&self, number: u64) -> ObjectName {
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(&self.0);
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        ObjectName::new(ObjectKind::Archive, bytes)
    }
}

fn job_of(bytes: &[u8]) -> RestoreJobId {
    let mut job = [0; 12];
    job.copy_from_slice(&bytes[..12]);
    RestoreJobId::from_bytes(job)
}

impl ObjectName {
    /// The job whose archive this is a part of.
    pub fn archive_job(&self) -> Option<RestoreJobId> {
        (self.kind == ObjectKind::Archive).then(|| job_of(&self.bytes))
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArchiveId({self})")
    }
}

impl FromStr for ArchiveId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fixed_hex(text)
            .map(Self)
            .ok_or_else(|| format!("an archive id is 48 hexadecimal digits, got {text:?}"))
    }
}

impl TryFrom<String> for ArchiveId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ArchiveId> for String {
    fn from(id: ArchiveId) -> Self {
        id.to_string()
    }
}

/// What is known of a finished archive; the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveInfo {
    /// Which archive.
    pub id: ArchiveId,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its SHA-1, hexadecimal; some of Atlas's answers show one.
    pub sha1: String,
    /// How many parts.
    pub parts: u64,
}

impl Vault {
    /// Deletes an archive; it may be gone already.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn delete_archive(&self, archive: &ArchiveInfo) -> Result<()> {
        let names = (0..archive.parts).map(|number| archive.id.part(number));
        self.delete_all(futures::stream::iter(names.map(Ok)).boxed()).await
    }

    /// Deletes every part of every archive that a job made, finished or not.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn delete_archives_of(&self, job: RestoreJobId) -> Result<()> {
        let parts = self.list(ObjectKind::Archive).map_ok(|listed| listed.name);
        let own = parts.try_filter(move |name| std::future::ready(name.archive_job() == Some(job)));
        self.delete_all(own.boxed()).await
    }

    async fn delete_all(&self, names: futures::stream::BoxStream<'_, Result<ObjectName>>) -> Result<()> {
        names.try_for_each_concurrent(DELETES_AT_A_TIME, |name| async move { self.delete(&name).await }).await
    }
}
