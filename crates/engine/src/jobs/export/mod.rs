//! An export: the documents of a snapshot as compressed lines of Extended JSON, in a place outside the vault.
//!
//! The files have the names that Atlas gives them, below a prefix that no other export has. What is in which file follows
//! from the snapshot alone, so an attempt that takes over puts the very same files again; the checkpoint tells which ones it
//! need not. A file comes into being whole, and the marker comes last: without it an export is not complete, whatever lies
//! there.

mod collection;
mod lines;
mod marker;
mod names;
mod text;

use std::sync::Arc;

use catalog::ExportJob;
use futures::TryStreamExt as _;
use model::{
    export::{ExportState, PlaceName, ROOT},
    id::ExportJobId,
};
use serde::{Deserialize, Serialize};
use vault::{CollectionKind, Manifest, Outlet, OutletError};

use super::restore::{beside, open_manifest};
use crate::{
    crash,
    fold::runs::Beside,
    lease::{JobContext, JobError, Outcome},
};

/// An empty file of this name is put before anything else, as Atlas does: to learn whether files can be put at all.
const PERMISSION_CHECK: &str = ".permissioncheck";

/// How far an export is: what the checkpoint holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Done {
    /// Collections, views included, that are done; they are in the order of the manifest, which is the same in every attempt.
    collections: u64,
    /// Those among them that have documents of their own.
    with_documents: u64,
    /// Segments of the collection after those whose documents are in files.
    segments: u64,
    /// Files of that collection.
    increments: u64,
    /// Files of all collections.
    files: u64,
    /// Documents in them.
    documents: u64,
    /// Their bytes of BSON.
    bytes: u64,
    /// Those of them that have strings which are not UTF-8.
    not_text: u64,
}

/// An export with everything it needs, opened.
struct Export<'a> {
    ctx: &'a JobContext,
    row: ExportJob,
    manifest: Manifest,
    /// What the snapshot keeps beside its segments, if it does.
    beside: Option<Arc<Beside>>,
    place: PlaceName,
    outlet: Outlet,
}

/// Runs an export to its end, or goes on with it.
///
/// # Errors
/// [`JobError`]. What was put stays where it lies, without the marker.
pub async fn run(ctx: &JobContext, id: ExportJobId) -> Result<Outcome, JobError> {
    let row = ctx.catalog().exports().get(id).await?;
    let row = row.ok_or_else(|| JobError::failed(format!("the export {id} is gone from the catalog")))?;
    if row.state == ExportState::Cancelling {
        return Err(JobError::Cancelled);
    }
    ctx.progress().phase("export");
    let mut done = ctx.last_checkpoint::<Done>()?.unwrap_or_default();
    let export = Export::open(ctx, row).await?;
    export.put(&format!("{ROOT}/{PERMISSION_CHECK}"), Vec::new()).await?;
    export.count(&done).await?;
    export.collections(&mut done).await?;
    crash::point("export.before-marker");
    let marker =
        marker::of(&export.row, export.manifest.header(), &ctx.services().settings.organization, done.files);
    export.put(&names::marker(&export.row.prefix), marker).await?;
    crash::point("export.after-marker");
    match ctx.catalog().jobs().finish(ctx.lease(), catalog::Outcome::ExportFinished, ctx.now()).await {
        Ok(()) => Ok(Outcome::Recorded),
        // Cancelled while the marker was put. It is true: everything lies there.
        Err(catalog::Error::Illegal(_)) => Err(JobError::Cancelled),
        Err(error) => Err(error.into()),
    }
}

impl<'a> Export<'a> {
    async fn open(ctx: &'a JobContext, row: ExportJob) -> Result<Self, JobError> {
        let bucket = ctx.catalog().export_buckets().get(row.bucket_id).await?;
        let bucket = bucket.ok_or_else(|| {
            JobError::failed(format!("the export bucket {} is gone from the catalog", row.bucket_id))
        })?;
        let place = bucket.place;
        let location = ctx.services().settings.export_places.get(&place).ok_or_else(|| {
            JobError::failed(format!(
                "the configuration of this server names no place {place} for exports: put [exports.{place}] into that of \
                 every server that runs jobs, and export again"
            ))
        })?;
        let outlet = Outlet::open(location).map_err(|e| not_written(&place, e))?;
        let manifest = open_manifest(ctx, row.snapshot_id).await?;
        let beside = beside::open(ctx, &manifest).await?;
        Ok(Self { ctx, row, manifest, beside, place, outlet })
    }

    /// Tells how much there is to do, and what of it was done by earlier attempts.
    async fn count(&self, done: &Done) -> Result<(), JobError> {
        let (mut with_documents, mut documents, mut bytes) = (0, 0, 0);
        let mut collections = self.manifest.collections();
        while let Some(entry) = self.ctx.or_stop(collections.try_next()).await?? {
            if has_documents(entry.meta.kind) {
                with_documents += 1;
                documents += entry.documents;
                bytes += entry.bytes;
            }
        }
        let progress = self.ctx.progress();
        progress.totals(documents, bytes, with_documents);
        progress.add(done.documents, done.bytes);
        for _ in 0..done.with_documents {
            progress.collection_done();
        }
        warn_of_what_is_not_text(self.ctx, done);
        Ok(())
    }

    async fn collections(&self, done: &mut Done) -> Result<(), JobError> {
        let mut place = 0;
        let mut collections = self.manifest.collections();
        while let Some(entry) = self.ctx.or_stop(collections.try_next()).await?? {
            place += 1;
            if place <= done.collections {
                continue;
            }
            self.collection(&entry, done).await?;
            let has_documents = has_documents(entry.meta.kind);
            done.collections = place;
            done.with_documents += u64::from(has_documents);
            (done.segments, done.increments) = (0, 0);
            if has_documents {
                self.ctx.progress().collection_done();
            }
            self.ctx.checkpoint(done).await?;
            crash::point("export.after-collection");
            self.ctx.services().probe("export.collection", &entry.meta.name).await;
        }
        Ok(())
    }

    async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), JobError> {
        let put = self.ctx.or_stop(self.outlet.put(name, content.into())).await?;
        put.map_err(|e| not_written(&self.place, e))
    }
}

/// Whether a collection has documents of its own. Those of `system.views` are the views, whose files tell them.
const fn has_documents(kind: CollectionKind) -> bool {
    use CollectionKind as K;
    matches!(kind, K::Plain | K::Capped | K::Clustered | K::SystemJs | K::TimeSeriesBuckets)
}

fn warn_of_what_is_not_text(ctx: &JobContext, done: &Done) {
    if done.not_text > 0 {
        ctx.progress().warn(format!(
            "{} documents have strings that are not UTF-8, which no JSON can hold: what is not has U+FFFD in its place; the \
             snapshot itself has them as they are",
            done.not_text
        ));
    }
}

fn not_written(place: &PlaceName, error: OutletError) -> JobError {
    let message = format!("the place {place} for exports cannot be written");
    if error.is_transient() {
        JobError::retry_by(message, error)
    } else {
        JobError::failed_by(message, error)
    }
}
