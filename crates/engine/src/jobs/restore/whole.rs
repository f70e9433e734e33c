//! What a snapshot keeps beside its segments, applied: whatever is loaded is loaded from segments that are the whole of it.
//!
//! It is a fold without a record. What comes of it is listed in a manifest whose root stays in the job's checkpoint, as that
//! of a point in time does.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use history::CollectionId;
use mongo::Namespace;
use vault::{CollectionEntry, DetachedManifest, Manifest, Order};

use super::{checkpoint::Checkpoint, plan::Way, source::Item};
use crate::{
    crash, damage,
    fold::{Folded, FoldedCollection, Hindered, Only, Record, Sparse, Wish, fold_manifest, runs::Beside},
    lease::{JobContext, JobError},
    pipeline::SegmentStore,
};

/// Makes whole what is going to be loaded of `items`, unless an earlier attempt has; of what stays it is noted whether it is.
///
/// # Errors
/// [`JobError`]: why it cannot be made.
pub(super) async fn make(
    ctx: &JobContext,
    manifest: &Manifest,
    items: &mut [Item],
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    if manifest.delta_runs().is_empty() {
        return Ok(());
    }
    let beside = match Beside::of(ctx.vault(), manifest).await {
        Ok(beside) => beside,
        Err(error) => return Err(damage::noted(ctx.catalog(), error).await),
    };
    let mut wanted = BTreeSet::new();
    for item in items.iter_mut() {
        let id = item.entry.meta.uuid.filter(|_| item.entry.meta.order == Order::Sorted);
        item.is_whole = !id.is_some_and(|id| beside.may_touch(CollectionId(id), &[], None));
        if !item.is_whole && matches!(item.way, Way::Renamed | Way::Buckets | Way::Functions) {
            wanted.insert(item.from.clone());
        }
    }
    let mut whole = BTreeMap::new();
    for detached in &state.whole {
        whole.extend(entries(ctx, detached).await?);
    }
    wanted.retain(|name| !whole.contains_key(name));
    if !wanted.is_empty() {
        ctx.progress().phase("fold");
        let detached = applied(ctx, manifest, &wanted).await?;
        whole.extend(entries(ctx, &detached).await?);
        crash::point("fold.restore-whole");
        state.whole.push(detached);
        ctx.checkpoint(state).await?;
        ctx.progress().restart();
    }
    for item in items.iter_mut().filter(|item| item.way != Way::Kept) {
        if let Some(entry) = whole.get(&item.from) {
            item.entry = entry.clone();
            item.is_whole = true;
        }
    }
    Ok(())
}

/// A manifest of everything, whole: the snapshot's own where it keeps nothing beside its segments.
///
/// # Errors
/// As [`make`].
pub(crate) async fn of_everything(ctx: &JobContext, manifest: Manifest) -> Result<Manifest, JobError> {
    if manifest.delta_runs().is_empty() {
        return Ok(manifest);
    }
    let detached = fold(ctx, &manifest, Only::Everything).await?;
    Ok(Manifest::attach(ctx.vault(), &detached)?)
}

async fn applied(
    ctx: &JobContext,
    manifest: &Manifest,
    wanted: &BTreeSet<Namespace>,
) -> Result<DetachedManifest, JobError> {
    fold(ctx, manifest, Only::Named(wanted)).await
}

async fn fold(ctx: &JobContext, manifest: &Manifest, only: Only<'_>) -> Result<DetachedManifest, JobError> {
    let store = SegmentStore::new(ctx);
    let header = manifest.header().clone();
    let at = header.cluster_time;
    let time = history::ClusterTime { seconds: at.seconds, increment: at.increment };
    let record = Record::of_entries(time, time, Vec::new());
    let wish = Wish { only, hindered: Hindered::Fail, sparse: Sparse::Apply };
    let folded = fold_manifest(&store, manifest, record, at, header, wish).await?;
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
    Ok(detached)
}

async fn entries(
    ctx: &JobContext,
    detached: &DetachedManifest,
) -> Result<BTreeMap<Namespace, CollectionEntry>, JobError> {
    let manifest = Manifest::attach(ctx.vault(), detached)?;
    let entries: Vec<CollectionEntry> = manifest.collections().try_collect().await?;
    let named = |entry: CollectionEntry| (Namespace::new(&entry.meta.db, &entry.meta.name), entry);
    Ok(entries.into_iter().map(named).collect())
}
