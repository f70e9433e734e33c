//! What a snapshot keeps beside the segments of its collections: whoever reads documents of those applies it.

use std::sync::Arc;

use history::CollectionId;
use vault::{CollectionEntry, Manifest, Order};

use super::source::Item;
use crate::{
    damage,
    fold::runs::Beside,
    lease::{JobContext, JobError},
};

/// What a snapshot keeps beside its segments; none where it keeps nothing.
///
/// # Errors
/// [`JobError`]: what is damaged in the vault.
pub(crate) async fn open(ctx: &JobContext, manifest: &Manifest) -> Result<Option<Arc<Beside>>, JobError> {
    if manifest.delta_runs().is_empty() {
        return Ok(None);
    }
    match Beside::of(ctx.vault(), manifest).await {
        Ok(beside) => Ok(Some(Arc::new(beside))),
        Err(error) => Err(damage::noted(ctx.catalog(), error).await),
    }
}

/// The same, if it may have anything of a collection.
pub(crate) fn touching(beside: &Arc<Beside>, collection: &CollectionEntry) -> Option<Arc<Beside>> {
    let id = collection.meta.uuid.filter(|_| collection.meta.order == Order::Sorted);
    let is_touched = id.is_some_and(|id| beside.may_touch(CollectionId(id), &[], None));
    is_touched.then(|| Arc::clone(beside))
}

/// Gives each item that is restored the changes that its segments do not hold.
///
/// # Errors
/// [`JobError`]: what is damaged in the vault.
pub(super) async fn attach(
    ctx: &JobContext,
    manifest: &Manifest,
    items: &mut [Item],
) -> Result<(), JobError> {
    if let Some(beside) = open(ctx, manifest).await? {
        for item in items {
            item.beside = touching(&beside, &item.entry);
        }
    }
    Ok(())
}
