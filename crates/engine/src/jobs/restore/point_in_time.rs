//! The state at a point in time, made of a snapshot and the record of operations before anything touches the target.
//!
//! It is a manifest like that of a snapshot, whose root stays in the job's checkpoint: its segments and pages are in the
//! vault and pinned for the job, and are garbage when the job has ended.

use std::time::Instant;

use catalog::RestoreJob;
use model::ClusterTime;
use vault::Manifest;

use super::{
    RestoreOptions,
    checkpoint::{Checkpoint, FoldTold},
    source::open_manifest,
};
use crate::{
    crash,
    fold::{Folded, FoldedCollection, Hindered, Only, Sparse, Wish, fold_manifest},
    lease::{JobContext, JobError},
    pipeline::SegmentStore,
    timeline,
};

/// The state at `at`, or what is selected of it: folded, or found in the checkpoint of an earlier attempt. What little has changed
/// is kept beside segments, for [`segments`](super::segments) to apply.
///
/// # Errors
/// [`JobError`]: why the state cannot be had, and what to do.
pub(super) async fn manifest(
    ctx: &JobContext,
    row: &RestoreJob,
    options: &RestoreOptions,
    at: ClusterTime,
    state: &mut Checkpoint,
) -> Result<Manifest, JobError> {
    if let Some(folded) = &state.folded {
        return Ok(Manifest::attach(ctx.vault(), folded)?);
    }
    let base = open_manifest(ctx, row.snapshot_id).await?;
    ctx.progress().phase("capture");
    let snapshot = ctx.catalog().snapshots().get(row.snapshot_id).await?;
    let snapshot =
        snapshot.ok_or_else(|| JobError::failed(format!("the snapshot {} is gone", row.snapshot_id)))?;
    let timeline = timeline_of(ctx, row, at).await?;
    require_on(ctx, &snapshot, &timeline).await?;
    ctx.progress().phase("fold");
    let began = Instant::now();
    let store = SegmentStore::new(ctx);
    let record = timeline::record(ctx.services(), &timeline, &snapshot).await?;
    let only = options.selection.as_ref().map_or(Only::Everything, Only::Selected);
    let wish = Wish { only, hindered: Hindered::Fail, sparse: Sparse::Keep };
    let folded = fold_manifest(&store, &base, record, at, base.header().clone(), wish).await?;
    let Folded { mut manifest, pinner, collections, principals, kept, counters, .. } = folded;
    tracing::info!(job.id = %ctx.lease().job_id, entries = counters.entries, writes = counters.writes, segments_kept = counters.segments_kept, segments_new = counters.segments_new, "the state at {at} is folded");
    for FoldedCollection { meta, pages } in collections {
        ctx.check()?;
        if meta.as_of > at {
            // Of a base like that the API makes no restore to this time.
            return Err(JobError::failed(format!(
                "the snapshot {} has {}.{} only as of {}, after the {at} that was asked for; choose a later time",
                row.snapshot_id, meta.db, meta.name, meta.as_of
            )));
        }
        manifest.push_collection(meta, pages).await?;
    }
    if let Some(principals) = &principals {
        manifest.set_principals(principals).await?;
    }
    kept.put(&mut manifest)?;
    let detached = manifest.finish_detached(ctx.now()).await?;
    pinner.record().await?;
    crash::point("fold.restore-folded");
    let manifest = Manifest::attach(ctx.vault(), &detached)?;
    state.folded = Some(detached);
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    state.fold = Some(FoldTold { entries: counters.entries, writes: counters.writes, duration_ms });
    ctx.checkpoint(state).await?;
    ctx.progress().restart();
    Ok(manifest)
}

/// Cluster times of two histories may overlap: what was recorded of one says nothing of a snapshot of the other.
async fn require_on(
    ctx: &JobContext,
    snapshot: &catalog::Snapshot,
    timeline: &catalog::Timeline,
) -> Result<(), JobError> {
    let complete_at = snapshot.last_as_of.or(snapshot.cluster_time).unwrap_or_default();
    let found = ctx.catalog().timelines().base_for(snapshot.deployment_id, complete_at).await?;
    if found.is_some_and(|(of, _)| of.id == timeline.id) {
        return Ok(());
    }
    Err(JobError::failed(format!(
        "the snapshot {} is not on the timeline {}, which has begun since the restore was asked for; ask for it again",
        snapshot.id, timeline.id
    )))
}

/// The timeline that has the time, once it has it.
async fn timeline_of(
    ctx: &JobContext,
    row: &RestoreJob,
    at: ClusterTime,
) -> Result<catalog::Timeline, JobError> {
    let timelines = ctx.catalog().timelines();
    if let Some(current) = timelines.current(row.deployment_id).await?
        && current.start.time <= at
    {
        timeline::reach(ctx, &current, at)
            .await?
            .map_err(|reason| JobError::failed(format!("the state at {at} cannot be had: {reason}")))?;
    }
    let found = timelines.base_for(row.deployment_id, at).await?;
    let (timeline, _) = found.ok_or_else(|| {
        JobError::failed(format!(
            "no timeline of {} has the operations up to {at}; `ebbtide timeline show {}` tells which times can be restored",
            row.deployment_name, row.deployment_name
        ))
    })?;
    Ok(timeline)
}
