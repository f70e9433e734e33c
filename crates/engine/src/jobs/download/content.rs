//! What goes into the archive, file by file, in the layout of mongodump.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use vault::{CollectionEntry, CollectionKind, Manifest};

use super::{layout, metadata, tarball::Piece};
use crate::jobs::restore::segments::{self, Segment};
use crate::lease::{JobContext, JobError};

/// The version of the schema of users that servers since 3.0 have; mongorestore asks for it before it restores users.
const AUTH_SCHEMA_VERSION: i32 = 5;

/// Why feeding ended early.
pub(super) enum Feed {
    /// Something went wrong here.
    Failed(JobError),
    /// The compressor has stopped; it knows why.
    NobodyTakesIt,
}

impl<E: Into<JobError>> From<E> for Feed {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends all files on.
pub(super) async fn feed(
    ctx: &JobContext,
    manifest: &Manifest,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), Feed> {
    let out = Out { ctx, pieces };
    let prelude =
        serde_json::json!({"ServerVersion": manifest.header().mongod_version, "ToolVersion": "ebbtide"});
    out.file(format!("{}/prelude.json", layout::ROOT), prelude.to_string().into_bytes()).await?;
    let mut collections = manifest.collections();
    while let Some(entry) = collections.try_next().await? {
        ctx.check()?;
        ctx.progress().message(format!("{}.{}", entry.meta.db, entry.meta.name));
        out.collection(manifest, &entry).await?;
        ctx.progress().collection_done();
        ctx.services().probe("download.collection", &entry.meta.name).await;
    }
    out.principals(manifest).await
}

struct Out<'a> {
    ctx: &'a JobContext,
    pieces: mpsc::Sender<Piece>,
}

impl Out<'_> {
    /// A time series is its metadata under its own name and its buckets beside it; a view is its metadata alone.
    async fn collection(&self, manifest: &Manifest, entry: &CollectionEntry) -> Result<(), Feed> {
        use CollectionKind as K;
        let meta = &entry.meta;
        if matches!(meta.kind, K::Plain | K::Capped | K::Clustered | K::SystemJs | K::TimeSeriesBuckets) {
            self.documents(manifest, entry).await?;
        }
        let kind = match meta.kind {
            // mongorestore makes both from the metadata of views and series.
            K::TimeSeriesBuckets | K::SystemViews => return Ok(()),
            K::View => "view",
            K::TimeSeriesView => "timeseries",
            K::Plain | K::Capped | K::Clustered | K::SystemJs => "collection",
        };
        self.file(layout::metadata_path(&meta.db, &meta.name), metadata::of(meta, kind)?).await
    }

    async fn documents(&self, manifest: &Manifest, entry: &CollectionEntry) -> Result<(), Feed> {
        self.send(Piece::File {
            path: layout::bson_path(&entry.meta.db, &entry.meta.name),
            bytes: entry.bytes,
        })
        .await?;
        let mut segments = std::pin::pin!(segments::read(self.ctx, manifest, entry, None, 0));
        while let Some(segment) = self.ctx.or_stop(segments.next()).await? {
            let Segment { entry, documents, .. } = segment?;
            self.send(Piece::Data(documents)).await?;
            self.ctx.progress().add(entry.documents, entry.bytes);
        }
        Ok(())
    }

    /// Users and roles as mongodump writes them: ordinary files of `admin`, with the version of their schema.
    async fn principals(&self, manifest: &Manifest) -> Result<(), Feed> {
        let Some(principals) = manifest.principals().await? else { return Ok(()) };
        let version = bson::rawdoc! {"_id": "authSchema", "currentVersion": AUTH_SCHEMA_VERSION};
        let files = BTreeMap::from([
            ("system.users", principals.users.concat()),
            ("system.roles", principals.roles.concat()),
            ("system.version", version.into_bytes()),
        ]);
        for (name, documents) in files {
            if !documents.is_empty() {
                self.file(layout::bson_path("admin", name), documents).await?;
            }
        }
        Ok(())
    }

    async fn file(&self, path: String, content: Vec<u8>) -> Result<(), Feed> {
        self.send(Piece::File { path, bytes: content.len() as u64 }).await?;
        if content.is_empty() { Ok(()) } else { self.send(Piece::Data(content.into())).await }
    }

    async fn send(&self, piece: Piece) -> Result<(), Feed> {
        let sent = self.ctx.or_stop(self.pieces.send(piece)).await?;
        sent.map_err(|_| Feed::NobodyTakesIt)
    }
}
