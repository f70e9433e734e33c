//! What a snapshot keeps beside its segments, applied in the vault: an archive tells the length of what it holds before it holds
//! it.
//!
//! It is a fold without a record. What comes of it is pinned for the job, and nobody may take it for a snapshot.

use vault::Manifest;

use crate::{
    crash,
    fold::{Folded, FoldedCollection, Record, Wish, fold_manifest},
    lease::{JobContext, JobError},
    pipeline::SegmentStore,
};

/// A manifest of everything, whole: the snapshot's own where it keeps nothing beside its segments.
///
/// # Errors
/// [`JobError`]: why it cannot be made.
pub(super) async fn of_everything(ctx: &JobContext, manifest: Manifest) -> Result<Manifest, JobError> {
    if manifest.delta_runs().is_empty() {
        return Ok(manifest);
    }
    let store = SegmentStore::new(ctx);
    let header = manifest.header().clone();
    let at = header.cluster_time;
    let time = history::ClusterTime { seconds: at.seconds, increment: at.increment };
    let record = Record::of_entries(time, time, Vec::new());
    let folded = fold_manifest(&store, &manifest, record, at, header, Wish::WHOLE).await?;
    let Folded { manifest: mut writer, pinner, collections, principals, .. } = folded;
    for FoldedCollection { meta, pages } in collections {
        ctx.check()?;
        writer.push_collection(meta, pages).await?;
    }
    if let Some(principals) = &principals {
        writer.set_principals(principals).await?;
    }
    let detached = writer.finish_detached(ctx.now()).await?;
    pinner.record().await?;
    crash::point("fold.download-whole");
    Ok(Manifest::attach(ctx.vault(), &detached)?)
}
