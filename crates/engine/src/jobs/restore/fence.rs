//! Keeping other writers out during the cut-over, and putting things back as they were.
//!
//! The write block survives the restart of everything, so it stands among the catalog's obligations before it is
//! raised, and is settled after it was lifted. One that was on before is somebody else's and stays.

use std::time::Duration;

use catalog::Obligation;
use model::ClusterTime;
use mongo::{
    Deployment,
    fence::{BlockState, FenceOutcome, WriteBlock},
    time,
};
use serde_json::{Value, json};

use super::{FenceMode, WRITE_BLOCK, errors::job_error, source::Restore, standing};
use crate::{
    connect::to_model,
    crash,
    lease::{JobContext, JobError},
};

/// The server ends transactions after a minute by default; this is a little longer.
const TRANSACTIONS_WAIT_MAX: Duration = Duration::from_secs(90);
/// How often lifting is tried before the job gives it to the next attempt.
const LIFT_TRIES_MAX: u32 = 5;
const LIFT_RETRY_WAIT: Duration = Duration::from_secs(1);

/// What keeps others out now.
#[derive(Debug, Clone)]
pub(crate) enum Fence {
    /// Our own block; ours to lift.
    Ours,
    /// Somebody else's block.
    Foreign,
    /// Nothing.
    None {
        /// Why.
        reason: String,
    },
}

impl Fence {
    /// As the receipt tells it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Ours => json!({"state": "raised"}),
            Self::Foreign => {
                json!({"state": "alreadyOn", "reason": "it was on before the restore, and stays on"})
            }
            Self::None { reason } => json!({"state": "none", "reason": reason}),
        }
    }
}

/// Raises the block where that helps, or finds it raised by an earlier attempt. Tells since when writes of others
/// count as foreign.
///
/// # Errors
/// [`JobError`]; nothing is raised then.
pub(crate) async fn raise(ctx: &JobContext, job: &Restore) -> Result<(Fence, ClusterTime), JobError> {
    let fail = |e| job_error("blocking other writers on", &job.target.name, e);
    let none = |reason: String| Fence::None { reason };
    ctx.check()?;
    let fence = match before(ctx, job).await? {
        Before::NotWanted(why) => none(why.to_owned()),
        Before::Unavailable(reason) => none(reason),
        Before::Foreign => Fence::Foreign,
        Before::Off => {
            record(ctx, job).await?;
            crash::point("restore.cutover.after-fence-recorded");
            match WriteBlock::raise(&job.deployment, TRANSACTIONS_WAIT_MAX).await {
                Ok(FenceOutcome::Raised { fenced_at }) => {
                    crash::point("restore.cutover.after-fence");
                    return Ok((Fence::Ours, to_model(fenced_at)));
                }
                // Between our look and our command somebody else was quicker.
                Ok(FenceOutcome::AlreadyOn { fenced_at }) => {
                    settle(ctx, job).await?;
                    return Ok((Fence::Foreign, to_model(fenced_at)));
                }
                Ok(FenceOutcome::Unavailable { reason }) => {
                    settle(ctx, job).await?;
                    none(reason)
                }
                Err(error) => {
                    lift(ctx, job).await?;
                    return Err(fail(error));
                }
            }
        }
        Before::Ours => match WriteBlock::raise(&job.deployment, TRANSACTIONS_WAIT_MAX).await {
            Ok(FenceOutcome::Raised { fenced_at } | FenceOutcome::AlreadyOn { fenced_at }) => {
                return Ok((Fence::Ours, to_model(fenced_at)));
            }
            Ok(FenceOutcome::Unavailable { reason }) => none(reason),
            Err(error) => {
                lift(ctx, job).await?;
                return Err(fail(error));
            }
        },
    };
    let now = time::majority_now(&job.deployment).await.map_err(fail)?;
    Ok((fence, to_model(now)))
}

/// What was there before this job.
enum Before {
    /// Nobody is to be kept out, and why.
    NotWanted(&'static str),
    /// The block cannot be used.
    Unavailable(String),
    /// No block.
    Off,
    /// A block that an earlier attempt has raised or was about to, or a dead job whose successor we are.
    Ours,
    /// Somebody else's block.
    Foreign,
}

async fn before(ctx: &JobContext, job: &Restore) -> Result<Before, JobError> {
    if job.options.fence == FenceMode::Off {
        return Ok(Before::NotWanted("switched off by the option fence"));
    }
    // The block keeps everybody out of everything, and here nobody has anything to lose.
    if standing::replaces_nothing(job) {
        return Ok(Before::NotWanted(
            "everything was restored beside what is there, and nothing was replaced",
        ));
    }
    // A job taken over must not take its own block for somebody else's.
    if is_recorded(ctx).await? {
        return Ok(Before::Ours);
    }
    let state = WriteBlock::state(&job.deployment).await;
    match state.map_err(|e| job_error("looking at the write block of", &job.target.name, e))? {
        BlockState::Unavailable { reason } => Ok(Before::Unavailable(reason)),
        BlockState::Off => Ok(Before::Off),
        BlockState::On if inherit(ctx, job).await? => Ok(Before::Ours),
        BlockState::On => Ok(Before::Foreign),
    }
}

/// Whether the block on the target is one that a dead job left and the reaper has not come to: then it is ours from now
/// on, or the reaper would lift it in the middle of our cut-over.
async fn inherit(ctx: &JobContext, job: &Restore) -> Result<bool, JobError> {
    let obligations = ctx.catalog().obligations();
    let left = obligations.of_deployment(job.target.id).await?;
    // Recorded under this very name: what a set with the same id tells may be of other servers, started from a copy of
    // these ones' files, and then the block here is somebody else's.
    let ours = |left: &Obligation| left.kind == WRITE_BLOCK && left.deployment_id == job.target.id;
    let left: Vec<_> = left.into_iter().filter(ours).collect();
    if left.is_empty() {
        return Ok(false);
    }
    record(ctx, job).await?;
    for obligation in left {
        obligations.settle(obligation.job_id, job.target.id, WRITE_BLOCK).await?;
    }
    Ok(true)
}

/// Before it is raised.
async fn record(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let before = json!({"before": "off"});
    let obligations = ctx.catalog().obligations();
    obligations.record(ctx.lease(), job.target.id, WRITE_BLOCK, &before, ctx.now()).await?;
    Ok(())
}

async fn is_recorded(ctx: &JobContext) -> Result<bool, JobError> {
    let recorded = ctx.catalog().obligations().of_job(ctx.lease().job_id).await?;
    Ok(recorded.iter().any(|obligation| obligation.kind == WRITE_BLOCK))
}

/// Lifts the block if it is ours, of this attempt or of an earlier one.
///
/// # Errors
/// [`JobError`]; the obligation stays, and the next attempt or the reaper lifts.
pub(crate) async fn lift(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    ctx.check_lease()?;
    if !is_recorded(ctx).await? {
        return Ok(());
    }
    for attempt in 1.. {
        match put_back(&job.deployment).await {
            Ok(()) => break,
            Err(error) if attempt >= LIFT_TRIES_MAX => return Err(error),
            Err(JobError::Lost) => return Err(JobError::Lost),
            Err(_) => tokio::time::sleep(LIFT_RETRY_WAIT).await,
        }
    }
    crash::point("restore.cutover.after-lift");
    settle(ctx, job).await
}

async fn settle(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    ctx.check_lease()?;
    Ok(ctx.catalog().obligations().settle(ctx.lease().job_id, job.target.id, WRITE_BLOCK).await?)
}

/// Lifts a block that was recorded as ours.
///
/// # Errors
/// [`JobError`] when the target cannot be reached or refuses.
pub(crate) async fn put_back(deployment: &Deployment) -> Result<(), JobError> {
    WriteBlock::lift(deployment, &BlockState::Off)
        .await
        .map_err(|e| job_error("lifting the write block of", &deployment.identity().replica_set_name, e))
}
