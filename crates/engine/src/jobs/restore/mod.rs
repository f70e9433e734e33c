//! An automated restore: a snapshot becomes the content of a deployment.
//!
//! | phase | what it does to the target | a crash in it |
//! |---|---|---|
//! | [`plan`] | nothing; refuses what cannot end well | begins again |
//! | [`stage`] | loads each collection under a staging name, proves it, builds its indexes | goes on with the next collection |
//! | [`cutover`] | keeps other writers out, renames, drops what the snapshot lacks, loads what cannot be renamed | is finished by the next attempt |
//! | [`prove`] | reads everything back; others write again, and nothing of theirs is touched | begins again |
//!
//! Up to the cut-over a cancel or a failure sweeps the staging names, and the target is as it was. Cancel and
//! cut-over are decided by one conditional update in the catalog; from there on there is only forward.

mod ahead;
pub(crate) mod beside;
mod checkpoint;
mod collections;
mod cutover;
mod errors;
mod fence;
mod load;
mod options;
mod order;
mod own;
mod pace;
mod plan;
mod point_in_time;
mod preflight;
mod prove;
mod receipt;
mod rewind;
pub(crate) mod segments;
mod selected;
mod source;
mod specs;
mod stage;
mod standing;
mod torn;
mod unparked;
mod users;

use std::{collections::BTreeSet, sync::Arc};

use catalog::Obligation;
use model::{ClusterTime, WallTime, id::RestoreJobId, restore::RestoreState};
use mongo::{Permit, principals, time, write::staging};
use serde_json::json;

use crate::{
    connect::{connect, to_model},
    crash,
    engine::Services,
    fold::changed::Memory,
    lease::{JobContext, JobError, Outcome},
};

pub use options::{CommitQuorum, FenceMode, RestoreOptions, RewindMode};

pub(crate) use source::open_manifest;

use checkpoint::{Checkpoint, Switched};
use errors::job_error;
use fence::Fence;
use rewind::Known;
use source::Restore;

/// Obligation: a write block that we raised has to be lifted.
pub const WRITE_BLOCK: &str = "writeBlock";
/// Obligation: collections under the job's staging names have to be dropped.
pub const STAGING: &str = "staging";

/// Runs a restore job to its end, or goes on with it.
///
/// # Errors
/// [`JobError`]. After [`JobError::Cancelled`] the target is as it was before the job.
pub async fn run(ctx: &JobContext, id: RestoreJobId) -> Result<Outcome, JobError> {
    let result = match ctx.lease().restore_state {
        // An earlier attempt died while it cleaned up after a cancel.
        Some(RestoreState::Cancelling) => Err(JobError::Cancelled),
        _ => restore(ctx, id).await,
    };
    if let Err(JobError::Cancelled) = result {
        crash::point("restore.cancel.before-sweep");
        super::discharge_all(ctx).await?;
        crash::point("restore.cancel.after-sweep");
    }
    result
}

async fn restore(ctx: &JobContext, id: RestoreJobId) -> Result<Outcome, JobError> {
    ctx.progress().phase("plan");
    let mut state = ctx.last_checkpoint::<Checkpoint>()?.unwrap_or_default();
    let now = ctx.now().0;
    state.began_ms.get_or_insert(now);
    if ctx.lease().restore_state == Some(RestoreState::CutOver) {
        ctx.must_finish(WallTime(*state.decided_ms.get_or_insert(now)));
    }
    let mut job = Restore::open(ctx, id, &mut state).await?;
    rewind::decide(ctx, &mut job, &mut state).await?;
    if job.options.plan_only {
        ctx.or_stop(preflight::check(ctx, &job)).await??;
        let plan = rewind::plan_only(ctx, &job, &state).await?;
        return end(ctx, catalog::Outcome::RestorePlanned { plan }).await;
    }
    beside::attach(ctx, &job.manifest, &mut job.items).await?;
    let job = Arc::new(job);
    preflight::count(ctx, &job);

    let mut known = Known::default();
    if job.row.state != RestoreState::CutOver {
        ctx.or_stop(preflight::check(ctx, &job)).await??;
        crash::point("restore.after-preflight");
        ctx.catalog()
            .obligations()
            .record(ctx.lease(), job.target.id, STAGING, &json!({"job": ctx.lease().job_id}), ctx.now())
            .await?;
        ctx.checkpoint(&state).await?;
        crash::point("restore.after-staging-recorded");
        if !job.options.in_place {
            stage::stage_all(ctx, &job, &mut state).await?;
            order::prove_staged(ctx, &job, &mut state).await?;
        }
        ahead::read(ctx, &job, &state).await?;
        job.pace.pass_with_room(ctx).await?;
        known = rewind::look_ahead(ctx, &job, &state).await?;
        crash::point("restore.after-stage");
        ctx.services().probe("restore.staged", &job.job).await;
        ctx.check()?;
        if !ctx.catalog().restores().begin_cut_over(ctx.lease(), ctx.now()).await? {
            return Err(JobError::Cancelled);
        }
        ctx.must_finish(ctx.now());
        crash::point("restore.cutover.begun");
    }
    if state.switched.is_none() {
        if state.cut_over_since.is_none() {
            state.decided_ms.get_or_insert(ctx.now().0);
            ctx.checkpoint(&state).await?;
        }
        if let Err(error) = switch(ctx, &job, &mut state, &known).await {
            return Err(unparked::told(&job, &state, error).await);
        }
    }
    // Of this attempt, or of one that died before it could.
    fence::lift(ctx, &job).await?;
    job.told.all_in_place(&job.items, &state);
    job.told.tell(ctx).await?;
    state.cut_over_ended_ms.get_or_insert(ctx.now().0);
    ctx.services().probe("restore.lifted", &job.job).await;
    let proof = prove::prove(ctx, &job, &mut state).await?;
    staging::sweep_staging(&job.deployment, &job.job).await?;
    ctx.check()?;
    ctx.catalog().obligations().settle(ctx.lease().job_id, job.target.id, STAGING).await?;
    rewind::settle_lifetimes(ctx, &job).await?;
    let receipt = receipt::write(ctx, &job, &state, &proof);
    crash::point("restore.after-prove");
    end(ctx, catalog::Outcome::RestoreFinished { receipt }).await
}

/// The cut-over. A block that it raised is lifted when it fails; when it succeeds, that is the caller's.
async fn switch(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
    known: &Known,
) -> Result<(), JobError> {
    ctx.progress().phase("cutOver");
    let memory = rewind::memory(ctx, state).await?;
    let (fence, since) = fence::raise(ctx, job).await?;
    let switched = switch_behind(ctx, job, state, &fence, since, memory, known).await;
    crash::point("restore.cutover.before-lift");
    // Not when the lease is lost: then the block is the business of whoever goes on.
    if switched.is_err() && ctx.holds_lease() {
        fence::lift(ctx, job).await?;
        // Nobody is kept out for it any longer, and why the switch failed is not lost over it.
        job.told.try_tell(ctx).await?;
    }
    switched
}

/// What happens while others are kept out.
async fn switch_behind(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
    fence: &Fence,
    since: ClusterTime,
    memory: Option<Memory>,
    known: &Known,
) -> Result<(), JobError> {
    if state.cut_over_since.is_none() {
        standing::refuse(job).await?;
        state.cut_over_since = Some(since.as_u64());
        state.made = Some(BTreeSet::new());
        state.cut_over_began_ms = Some(ctx.now().0);
        own::record_removals(job, state).await?;
        ctx.checkpoint(state).await?;
    }
    ctx.services().probe("restore.fenced", &job.job).await;
    rewind::undo(ctx, job, state, memory, known).await?;
    cutover::run(ctx, job, state).await?;
    ctx.services().probe("restore.switched", &job.job).await;
    ctx.check()?;
    let users = users::restore(job).await?;
    crash::point("restore.cutover.after-users");
    let at = time::majority_now(&job.deployment).await;
    let at = to_model(at.map_err(|e| job_error("finishing the cut-over on", &job.target.name, e))?);
    let others = own::writes_during(job, state, at).await?;
    rewind::look_for_others(job, state, at).await?;
    state.switched = Some(Switched {
        at: at.as_u64(),
        fence: fence.to_json(),
        users: users.map(receipt::users).unwrap_or_default(),
        foreign: others.to_json(),
        touched: others.writes.namespaces,
    });
    // Durable before anybody may write again: an attempt that takes over must not take what they write for a leftover.
    ctx.checkpoint(state).await
}

async fn end(ctx: &JobContext, outcome: catalog::Outcome) -> Result<Outcome, JobError> {
    ctx.catalog().jobs().finish(ctx.lease(), outcome, ctx.now()).await?;
    Ok(Outcome::Recorded)
}

/// Undoes on the target what a job left there and did not undo itself. Nothing is sent once `permit` is withdrawn.
///
/// # Errors
/// [`JobError`] when the target cannot be reached or refuses; it is tried again.
pub async fn discharge(services: &Services, obligation: &Obligation, permit: Permit) -> Result<(), JobError> {
    let deployment = connect(services, obligation.deployment_id).await?.deployment.with_permit(permit);
    // Looked at as late as possible: another process may have undone it, and since then somebody else done the same.
    let standing = services.catalog.obligations().of_deployment(obligation.deployment_id).await?;
    if !standing.contains(obligation) {
        return Ok(());
    }
    match obligation.kind.as_str() {
        WRITE_BLOCK => fence::put_back(&deployment).await,
        kind if kind.starts_with(rewind::PARKED_TTL) => {
            rewind::put_lifetime_back(&deployment, obligation).await
        }
        STAGING => {
            // A command that was under way when its job died may have made something again: until nothing is left.
            while !staging::sweep_staging(&deployment, &obligation.job_id.to_string()).await?.is_empty() {}
            // The names of these are not the job's own: another job may be about to merge what lies there.
            let others =
                standing.iter().any(|other| other.kind == STAGING && other.job_id != obligation.job_id);
            if !others {
                principals::sweep(&deployment).await?;
            }
            Ok(())
        }
        other => Err(JobError::failed(format!(
            "nobody knows how to undo {other:?}; it was recorded by another version of Ebbtide"
        ))),
    }
}
