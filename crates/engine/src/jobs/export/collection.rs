//! One collection: its documents in files of bounded length, and a file that describes it.

use futures::StreamExt as _;
use vault::{CollectionEntry, CollectionKind};

use super::{Done, Export, has_documents, lines::Lines, names, warn_of_what_is_not_text};
use crate::{
    crash,
    jobs::{
        download::metadata,
        restore::{
            beside,
            segments::{self, Segment},
        },
    },
    lease::JobError,
    pipeline::on_processor,
};

/// A file ends with the segment after which it has so many bytes. It is in memory until then, and put in one request.
const FILE_BYTES: usize = 8 << 20;

impl Export<'_> {
    /// Puts the files of a collection that are not there yet.
    pub(super) async fn collection(&self, entry: &CollectionEntry, done: &mut Done) -> Result<(), JobError> {
        let meta = &entry.meta;
        self.ctx.progress().message(format!("{}.{}", meta.db, meta.name));
        if has_documents(meta.kind) {
            self.documents(entry, done).await?;
        }
        let kind = match meta.kind {
            // The definition of a view is in the file of the view itself.
            CollectionKind::SystemViews => return Ok(()),
            CollectionKind::View => "view",
            CollectionKind::TimeSeriesView => "timeseries",
            CollectionKind::Plain
            | CollectionKind::Capped
            | CollectionKind::Clustered
            | CollectionKind::SystemJs
            | CollectionKind::TimeSeriesBuckets => "collection",
        };
        self.put(&names::metadata(&self.row.prefix, &meta.db, &meta.name), metadata::of(meta, kind)?).await?;
        done.files += 1;
        Ok(())
    }

    async fn documents(&self, entry: &CollectionEntry, done: &mut Done) -> Result<(), JobError> {
        let beside = self.beside.as_ref().and_then(|beside| beside::touching(beside, entry));
        let behind = usize::try_from(done.segments)
            .map_err(|e| JobError::failed_by("the job's checkpoint is none of this machine", e))?;
        let segments = segments::read(self.ctx, &self.manifest, entry, beside.as_ref(), behind);
        let mut segments = std::pin::pin!(segments);
        let mut lines = Lines::new();
        while let Some(segment) = self.ctx.or_stop(segments.next()).await? {
            let Segment { content, documents, .. } = segment?;
            let processors = &self.ctx.services().budget.processors;
            let (filled, written) = on_processor(processors, move || {
                let written = lines.append(&documents);
                (lines, written)
            })
            .await?;
            lines = filled;
            written.map_err(|e| {
                let name = format!("{}.{}", entry.meta.db, entry.meta.name);
                JobError::failed_by(format!("a document of {name} cannot be written as JSON"), e)
            })?;
            done.segments += 1;
            done.documents += content.documents;
            done.bytes += content.bytes;
            self.ctx.progress().add(content.documents, content.bytes);
            if lines.bytes() >= FILE_BYTES {
                self.file(entry, std::mem::replace(&mut lines, Lines::new()), done).await?;
                self.ctx.checkpoint(done).await?;
                crash::point("export.after-file");
            }
        }
        if !lines.is_empty() {
            self.file(entry, lines, done).await?;
        }
        Ok(())
    }

    async fn file(&self, entry: &CollectionEntry, lines: Lines, done: &mut Done) -> Result<(), JobError> {
        let shard = &self.manifest.header().replica_set_name;
        let meta = &entry.meta;
        let name = names::documents(&self.row.prefix, &meta.db, &meta.name, shard, done.increments);
        let (content, not_text) =
            lines.finish().map_err(|e| JobError::failed_by(format!("{name} cannot be compressed"), e))?;
        crash::point("export.before-file");
        self.put(&name, content).await?;
        done.increments += 1;
        done.files += 1;
        done.not_text += not_text;
        warn_of_what_is_not_text(self.ctx, done);
        Ok(())
    }
}
