//! A snapshot of a captured deployment: folded out of the vault, with no look at a document of the deployment.
//!
//! 1. The deployment is listed so that the listing is true at a time T, as for every snapshot.
//! 2. Capture is waited for until everything up to T is in the vault.
//! 3. The newest snapshot on the timeline is folded up to T.
//! 4. Names, options and indexes that come of it are compared with the listing, byte for byte. A difference is a defect of
//!    the record or of the base; nothing that has one becomes a snapshot.
//!
//! What stands in the way is recorded on the snapshot, and the deployment is read as a whole instead.

use std::collections::BTreeMap;

use catalog::{Completion, Timeline};
use mongo::{CollectionInfo, Namespace, listing::Pinned};
use serde_json::json;
use vault::{CollectionMeta, Manifest, ManifestHeader, ObjectName, SegmentPages};

use super::{
    attempt::Everything,
    collection::CollectionRead,
    manifest::{self, meta_of_info},
};
use crate::{
    connect::{Connected, to_model},
    crash,
    fold::{FoldFailure, FoldedCollection, fold_manifest},
    lease::{JobContext, JobError},
    pipeline::SegmentStore,
    timeline,
};

/// So many defects are named.
const DEFECTS_NAMED_MAX: usize = 20;

/// Why a snapshot is not folded.
pub(super) enum Instead {
    /// There is nothing to fold: the deployment is not captured, or this becomes the first snapshot on its timeline.
    NoBase,
    /// It could not be folded for this reason, which is recorded.
    Because(String),
}

/// Folds the snapshot, or says why the deployment has to be read.
pub(super) async fn take(
    ctx: &JobContext,
    connected: &Connected,
    header: &ManifestHeader,
    store: &SegmentStore,
) -> Result<Result<Completion, Instead>, JobError> {
    let id = connected.row.id;
    let timelines = ctx.catalog().timelines();
    let Some(current) = timelines.current(id).await?.filter(|_| connected.row.continuous.pit_enabled) else {
        return Ok(Err(Instead::NoBase));
    };
    if base_on(ctx, &current).await?.is_none() {
        return Ok(Err(Instead::NoBase));
    }
    ctx.progress().phase("list");
    let pinned = ctx.or_stop(mongo::listing::pin(&connected.deployment)).await?;
    let pinned =
        pinned.map_err(|e| JobError::retry_by(format!("{} cannot be listed", connected.row.name), e))?;
    let at = to_model(pinned.at);
    ctx.services().probe("snapshot.pinned", "").await;
    ctx.progress().phase("capture");
    let current = match timeline::reach(ctx, &current, at).await? {
        Ok(reached) => reached,
        Err(reason) => return Ok(Err(Instead::Because(reason))),
    };
    let base = timelines.base_for(id, at).await?.filter(|(of, _)| of.id == current.id);
    let Some((_, base)) = base else { return Ok(Err(Instead::NoBase)) };
    crash::point("fold.snapshot-before");
    ctx.progress().phase("fold");
    let folded = fold(ctx, &current, &base, at, header, store).await;
    let folded = match folded {
        Ok(folded) => folded,
        // What is damaged or missing in the vault stays so, and the deployment still has all of it.
        Err(FoldFailure::Job(error)) if !matches!(error, JobError::Failed { .. }) => return Err(error),
        Err(failure) => return Ok(Err(Instead::Because(failure_text(failure)))),
    };
    let (counters, principals) = (folded.counters, folded.principals);
    let Some(principals) = principals else {
        return Ok(Err(Instead::Because("the snapshot that is the base has no users and roles".to_owned())));
    };
    let collections = match compare(&pinned, folded.collections) {
        Ok(collections) => collections,
        Err(defects) => return Ok(Err(Instead::Because(defects))),
    };
    let everything = Everything {
        manifest: folded.manifest,
        pinner: folded.pinner,
        at,
        collections,
        excluded: pinned.excluded,
        principals,
    };
    let mut completion = manifest::write(ctx, header, everything, store).await?;
    completion.notes["folded"] = json!({
        "base": base.id,
        "timeline": current.id,
        "entries": counters.entries,
        "writes": counters.writes,
        "segmentsKept": counters.segments_kept,
        "segmentsNew": counters.segments_new,
        "vaultBytesRead": counters.bytes_read,
    });
    if let Some(bytes) = base.notes.get("sourceDiskBytes") {
        completion.notes["sourceDiskBytes"] = bytes.clone();
    }
    Ok(Ok(completion))
}

/// The newest snapshot on a timeline.
async fn base_on(ctx: &JobContext, timeline: &Timeline) -> Result<Option<catalog::Snapshot>, JobError> {
    let found = ctx.catalog().timelines().base_for(timeline.deployment_id, timeline.durable.time).await?;
    Ok(found.filter(|(of, _)| of.id == timeline.id).map(|(_, base)| base))
}

async fn fold(
    ctx: &JobContext,
    current: &Timeline,
    base: &catalog::Snapshot,
    at: model::ClusterTime,
    header: &ManifestHeader,
    store: &SegmentStore,
) -> Result<crate::fold::Folded, FoldFailure> {
    let name = base.manifest.as_deref().unwrap_or_default();
    let name: ObjectName = name.parse().map_err(|e| {
        JobError::failed_by(format!("the catalog names no manifest for the snapshot {}", base.id), e)
    })?;
    let manifest = Manifest::open(ctx.vault(), &name).await.map_err(JobError::from)?;
    let record = timeline::record(ctx.services(), current, base).await?;
    fold_manifest(store, &manifest, record, at, header.clone()).await
}

fn failure_text(failure: FoldFailure) -> String {
    JobError::from(failure).full_text()
}

/// The folded collections as the listing has them; or what is not as it is listed.
fn compare(pinned: &Pinned, folded: Vec<FoldedCollection>) -> Result<Vec<CollectionRead>, String> {
    let mut by_name: BTreeMap<Namespace, (CollectionMeta, SegmentPages)> = folded
        .into_iter()
        .map(|FoldedCollection { meta, pages }| (Namespace::new(&meta.db, &meta.name), (meta, pages)))
        .collect();
    let (mut collections, mut defects) = (Vec::with_capacity(by_name.len()), Vec::new());
    for info in &pinned.collections {
        let Some((meta, pages)) = by_name.remove(&info.namespace) else {
            defects.push(format!("{} is listed and does not come of the fold", info.namespace));
            continue;
        };
        match difference(info, &meta) {
            Some(what) => defects.push(format!("{} has {what} listed than come of the fold", info.namespace)),
            None => collections.push(CollectionRead {
                info: info.clone(),
                as_of: meta.as_of,
                order: meta.order,
                pages,
            }),
        }
    }
    defects
        .extend(by_name.keys().map(|namespace| format!("{namespace} comes of the fold and is not listed")));
    if defects.is_empty() {
        return Ok(collections);
    }
    let named: Vec<_> = defects.iter().take(DEFECTS_NAMED_MAX).map(String::as_str).collect();
    Err(format!(
        "the record of operations and the deployment do not agree ({} times): {}",
        defects.len(),
        named.join("; ")
    ))
}

fn difference(info: &CollectionInfo, meta: &CollectionMeta) -> Option<&'static str> {
    let listed = meta_of_info(info, meta.order, meta.as_of);
    if listed.uuid != meta.uuid {
        Some("another identity")
    } else if listed.kind != meta.kind {
        Some("another kind")
    } else if listed.options != meta.options {
        Some("other options")
    } else if listed.id_index != meta.id_index || listed.indexes != meta.indexes {
        Some("other indexes")
    } else {
        None
    }
}
