//! What the cut-over will load is read from the vault before it begins.
//!
//! Everything else was read when it was staged. What cannot be staged would be read when the old data is gone already:
//! damage in the vault has to be found while the target is as it was.

use futures::StreamExt as _;

use super::{
    plan::Way,
    segments,
    source::{Item, Restore},
};
use crate::lease::{JobContext, JobError};

/// Reads and checks all documents that are loaded inside the cut-over.
///
/// # Errors
/// [`JobError::Failed`] names what is damaged.
pub(crate) async fn read(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let loaded = job.items.iter().filter(|item| is_loaded_in_cut_over(item, job.options.in_place));
    read_items(ctx, job, &loaded.cloned().collect::<Vec<_>>()).await
}

/// The same for these items.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_items(ctx: &JobContext, job: &Restore, items: &[Item]) -> Result<(), JobError> {
    for item in items {
        ctx.progress().message(format!("checking {} in the vault", item.ns));
        let mut segments = std::pin::pin!(segments::read(ctx, &job.manifest, &item.entry));
        while let Some(segment) = ctx.or_stop(segments.next()).await? {
            segment?;
        }
    }
    Ok(())
}

fn is_loaded_in_cut_over(item: &Item, in_place: bool) -> bool {
    match item.way {
        Way::Buckets | Way::Functions => true,
        Way::Renamed => in_place,
        Way::TimeSeries | Way::View | Way::Server | Way::Kept => false,
    }
}
