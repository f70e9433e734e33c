//! Archives as `api` sees them: bytes of a range, out of the vault.

use std::ops::Range;

use api::{ArchiveError, ArchiveSource};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use vault::{ArchiveInfo, ArchiveReader, Vault};

/// Reads archives of one vault.
pub(super) struct VaultArchives(pub(super) Vault);

impl ArchiveSource for VaultArchives {
    fn read_range(
        &self,
        archive: &serde_json::Value,
        range: Range<u64>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<bytes::Bytes, ArchiveError>>, ArchiveError>>
    {
        let opened = serde_json::from_value::<ArchiveInfo>(archive.clone())
            .map_err(|error| ArchiveError(error.into()))
            .and_then(|info| ArchiveReader::open(&self.0, &info).map_err(|error| ArchiveError(error.into())));
        let stream = opened.map(|reader| {
            reader.read_range(range.start, range.end).map_err(|error| ArchiveError(error.into())).boxed()
        });
        std::future::ready(stream).boxed()
    }
}
