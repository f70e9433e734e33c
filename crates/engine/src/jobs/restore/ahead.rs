//! What the cut-over will load is read from the vault before it begins.
//!
//! Everything else was read when it was staged. What cannot be staged would be read when the old data is gone already:
//! damage in the vault has to be found while the target is as it was.

use futures::StreamExt as _;

use super::{
    checkpoint::Checkpoint,
    plan::Way,
    segments,
    source::{Item, Restore},
};
use crate::lease::{JobContext, JobError};

/// Reads and checks all documents that are loaded inside the cut-over. What has changed beside segments is applied by then, so
/// there have to be as many documents as the manifest says.
///
/// # Errors
/// [`JobError::Failed`] names what is damaged.
pub(crate) async fn read(ctx: &JobContext, job: &Restore, state: &Checkpoint) -> Result<(), JobError> {
    // What the server makes itself is read to be counted.
    let is_read = |item: &Item| {
        is_loaded_in_cut_over(item, job.options.in_place)
            || (item.way == Way::Server && item.beside.is_some())
    };
    let read: Vec<Item> = job.items.iter().filter(|item| is_read(item)).cloned().collect();
    let mut documents = read_items(ctx, job, &read).await?;
    if job.options.selection.is_some() || job.going(Way::Kept).next().is_some() {
        return Ok(());
    }
    let staged = state.as_loaded(&job.items).zip(&job.items).filter(|(_, item)| !is_read(item));
    documents += staged.map(|(told, _)| told.entry.documents).sum::<u64>();
    let wanted = job.manifest.documents();
    // A version before this one counted what came and went again as one document too few; and an insert of a user's `applyOps` is
    // counted as one of a document that was there.
    if documents > wanted {
        tracing::warn!("the snapshot says that it has {wanted} documents, and has {documents}");
    }
    if documents < wanted {
        return Err(JobError::failed(format!(
            "what is loaded is {documents} documents, and the snapshot has {wanted}; verify it, and restore another one"
        )));
    }
    Ok(())
}

/// Reads and checks the documents of these items, and counts them.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_items(ctx: &JobContext, job: &Restore, items: &[Item]) -> Result<u64, JobError> {
    let mut documents = 0;
    for item in items {
        ctx.progress().message(format!("checking {} in the vault", item.ns));
        let segments = segments::read(ctx, &job.manifest, &item.entry, item.beside.as_ref(), 0);
        let mut segments = std::pin::pin!(segments);
        while let Some(segment) = ctx.or_stop(segments.next()).await? {
            documents += segment?.content.documents;
        }
    }
    Ok(documents)
}

fn is_loaded_in_cut_over(item: &Item, in_place: bool) -> bool {
    match item.way {
        Way::Buckets | Way::Functions => true,
        Way::Renamed => in_place,
        Way::TimeSeries | Way::View | Way::Server | Way::Kept => false,
    }
}
