//! A snapshot of a captured deployment: folded out of the vault, with no look at a document of the deployment.
//!
//! 1. The deployment is listed so that the listing is true at a time T, as for every snapshot.
//! 2. Capture is waited for until everything up to T is in the vault.
//! 3. The newest snapshot on the timeline is folded up to T.
//! 4. Names, options and indexes that come of it are compared with the listing, byte for byte. A difference is a defect of
//!    the record or of the base; nothing that has one becomes part of a snapshot.
//! 5. Collections that cannot be folded, or have a defect, are read from the deployment at T. Why is recorded on the
//!    snapshot. So are those of which a live check found that they are not what is recorded of them.
//!
//! Where that does not do, the deployment is read as a whole instead, and the snapshot says why.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Completion, Defect, Timeline};
use mongo::{CollectionInfo, Namespace, listing::Pinned};
use serde_json::json;
use vault::{CollectionMeta, Manifest, ManifestHeader, ObjectName, SegmentPages};

use super::{
    attempt::{Again, Attempt, Everything},
    collection::CollectionRead,
    manifest::{self, meta_of_info},
};
use crate::{
    connect::{Connected, to_model},
    crash,
    fold::{
        Counters, FoldFailure, Folded, FoldedCollection, Hindered, Only, Sparse, Unfoldable, Wish,
        fold_manifest, is_sound,
    },
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

/// Folds the snapshot, or says why the deployment has to be read. Collections that are `known` to have a defect are read.
pub(super) async fn take(
    ctx: &JobContext,
    connected: &Connected,
    header: &ManifestHeader,
    cache_bytes: u64,
    store: &SegmentStore,
    known: &[Defect],
) -> Result<Result<Completion, Instead>, JobError> {
    let id = connected.row.id;
    let timelines = ctx.catalog().timelines();
    let Some(current) = timelines.current(id).await?.filter(|_| connected.row.continuous.pit_enabled) else {
        return Ok(Err(Instead::NoBase));
    };
    if base_on(ctx, &current).await?.is_none() {
        return Ok(Err(Instead::NoBase));
    }
    let attempt = Attempt { ctx, connected, store, header, cache_bytes, hot: &[] };
    let (term, pinned) = attempt
        .list()
        .await?
        .map_err(|e| JobError::retry_by(format!("{} cannot be listed", connected.row.name), e))?;
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
    let noted = note(&folded.counters, &current);
    let mut completion = match complete(&attempt, term, pinned, folded, known).await? {
        Ok(completion) => completion,
        Err(reason) => return Ok(Err(Instead::Because(reason))),
    };
    completion.notes["folded"] = noted;
    completion.notes["folded"]["base"] = base.id.to_string().into();
    if let Some(bytes) = base.notes.get("sourceDiskBytes") {
        completion.notes["sourceDiskBytes"] = bytes.clone();
    }
    Ok(Ok(completion))
}

/// What a snapshot says of the fold that it came of.
pub(super) fn note(counters: &Counters, timeline: &Timeline) -> serde_json::Value {
    json!({
        "timeline": timeline.id,
        "entries": counters.entries,
        "writes": counters.writes,
        "segmentsKept": counters.segments_kept,
        "segmentsNew": counters.segments_new,
        "documentsKeptBeside": counters.documents_kept_beside,
        "vaultBytesRead": counters.bytes_read,
    })
}

/// Compares what was folded with the listing at its time, reads what does not agree or is `known` to have a defect, and writes
/// the manifest. Or says why the snapshot cannot be that.
pub(super) async fn complete(
    attempt: &Attempt<'_>,
    term: i64,
    pinned: Pinned,
    folded: Folded,
    known: &[Defect],
) -> Result<Result<Completion, String>, JobError> {
    let (ctx, at) = (attempt.ctx, folded.at);
    let mut reread = serde_json::Value::Null;
    let (principals, mut kept) = (folded.principals, folded.kept);
    let Some(principals) = principals else {
        return Ok(Err("the snapshot that is the base has no users and roles".to_owned()));
    };
    let Compared { mut collections, missing, defects } = compare(&pinned, folded.collections, known, at);
    let why = reasons(&folded.aside, &defects);
    missing.iter().filter_map(|info| info.uuid).for_each(|uuid| kept.forget(uuid));
    if !missing.is_empty() {
        let names: BTreeSet<_> = missing.iter().map(|info| info.namespace.to_string()).collect();
        tracing::warn!(collections = ?names, why, "{} collections are read, because they cannot be folded: {why}", names.len());
        ctx.progress().phase("read");
        match attempt.read_some(term, pinned.at, missing, &folded.manifest).await {
            Ok(read) => collections.extend(read),
            Err(Again::Stop(error)) => return Err(error),
            Err(Again::Later(later)) => {
                let why =
                    format!("{why}; and {} could not be read at {at}: {}", later.namespace, later.cause);
                return Ok(Err(why));
            }
        }
        collections.sort_by(|a, b| a.info.namespace.cmp(&b.info.namespace));
        reread = json!({ "collections": names, "reason": why });
    } else if !defects.is_empty() {
        reread = json!({ "collections": [], "reason": why });
    }
    let everything = Everything {
        manifest: folded.manifest,
        pinner: folded.pinner,
        at,
        collections,
        excluded: pinned.excluded,
        principals,
        kept,
    };
    let mut completion = manifest::write(ctx, attempt.header, everything, attempt.store).await?;
    if !reread.is_null() {
        completion.notes["reread"] = reread;
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
) -> Result<Folded, FoldFailure> {
    let name = base.manifest.as_deref().unwrap_or_default();
    let name: ObjectName = name.parse().map_err(|e| {
        JobError::failed_by(format!("the catalog names no manifest for the snapshot {}", base.id), e)
    })?;
    let manifest = Manifest::open(ctx.vault(), &name).await.map_err(JobError::from)?;
    if !is_sound(manifest.header()) {
        return Err(FoldFailure::Job(JobError::failed(format!(
            "the snapshot {} before it was taken by a version of Ebbtide whose folds could bring deleted documents back; \
             everything is read once, and what follows is folded from that",
            base.id
        ))));
    }
    let record = timeline::record(ctx.services(), current, base).await?;
    let wish = Wish { only: Only::Everything, hindered: Hindered::LeaveAside, sparse: Sparse::Keep };
    fold_manifest(store, &manifest, record, at, header.clone(), wish).await
}

fn failure_text(failure: FoldFailure) -> String {
    JobError::from(failure).full_text()
}

/// The folded collections beside the listing.
struct Compared {
    /// Those that agree; and views, which are what is listed.
    collections: Vec<CollectionRead>,
    /// Those with documents that are listed and did not come of the fold as they are listed.
    missing: Vec<CollectionInfo>,
    /// What does not agree, in words.
    defects: Vec<String>,
}

fn compare(
    pinned: &Pinned,
    folded: Vec<FoldedCollection>,
    known: &[Defect],
    at: model::ClusterTime,
) -> Compared {
    let mut by_name: BTreeMap<Namespace, (CollectionMeta, SegmentPages)> = folded
        .into_iter()
        .map(|FoldedCollection { meta, pages }| (Namespace::new(&meta.db, &meta.name), (meta, pages)))
        .collect();
    let mut compared = Compared { collections: Vec::new(), missing: Vec::new(), defects: Vec::new() };
    for info in &pinned.collections {
        match by_name.remove(&info.namespace) {
            None => {}
            Some((meta, pages)) => match defect(info, &meta, known) {
                Some(what) => compared.defects.push(what),
                None => {
                    let CollectionMeta { as_of, read_through, order, .. } = meta;
                    let info = info.clone();
                    compared.collections.push(CollectionRead { info, as_of, read_through, order, pages });
                    continue;
                }
            },
        }
        if info.kind.has_documents() {
            compared.missing.push(info.clone());
        } else {
            compared.collections.push(CollectionRead::empty(info.clone(), at));
        }
    }
    let left = by_name.keys().map(|namespace| format!("{namespace} comes of the fold and is not listed"));
    compared.defects.extend(left);
    compared
}

/// Why collections are not folded.
fn reasons(aside: &[Unfoldable], defects: &[String]) -> String {
    let mut named: Vec<String> =
        aside.iter().map(ToString::to_string).chain(defects.iter().cloned()).collect();
    let more = named.len().saturating_sub(DEFECTS_NAMED_MAX);
    named.truncate(DEFECTS_NAMED_MAX);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join("; ")
}

/// Why what comes of the fold does not count.
fn defect(info: &CollectionInfo, meta: &CollectionMeta, known: &[Defect]) -> Option<String> {
    if let Some(what) = difference(info, meta) {
        return Some(format!("{} has {what} listed than come of the fold", info.namespace));
    }
    let found = known.iter().find(|known| Some(known.collection.0) == info.uuid)?;
    Some(format!("{}, as a live check found at {}: {}", info.namespace, found.found, found.what))
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
