//! What a snapshot keeps beside the segments of the collections that are restored: whoever loads those applies it while it
//! reads.

use std::sync::Arc;

use history::CollectionId;
use vault::{Manifest, Order};

use super::source::Item;
use crate::{
    damage,
    fold::runs::Beside,
    lease::{JobContext, JobError},
};

/// Gives each item the changes that its segments do not hold.
///
/// # Errors
/// [`JobError`]: what is damaged in the vault.
pub(super) async fn attach(
    ctx: &JobContext,
    manifest: &Manifest,
    items: &mut [Item],
) -> Result<(), JobError> {
    if manifest.delta_runs().is_empty() {
        return Ok(());
    }
    let beside = match Beside::of(ctx.vault(), manifest).await {
        Ok(beside) => Arc::new(beside),
        Err(error) => return Err(damage::noted(ctx.catalog(), error).await),
    };
    for item in items {
        let id = item.entry.meta.uuid.filter(|_| item.entry.meta.order == Order::Sorted);
        let is_touched = id.is_some_and(|id| beside.may_touch(CollectionId(id), &[], None));
        item.beside = is_touched.then(|| Arc::clone(&beside));
    }
    Ok(())
}
