//! Keeping other writers out during the cut-over, and putting things back as they were.
//!
//! The write block survives the restart of everything, so it stands among the catalog's obligations before it is
//! raised, and is settled after it was lifted. One that was on before is somebody else's and stays.

use std::time::Duration;

use model::ClusterTime;
use mongo::{
    Deployment,
    fence::{BlockState, FenceOutcome, WriteBlock},
    time,
};
use serde_json::{Value, json};

use super::{FenceMode, WRITE_BLOCK, errors::job_error, source::Restore};
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
    let fence = match before(ctx, job).await? {
        None => none("switched off by the option fence".to_owned()),
        Some(BlockState::Unavailable { reason }) => none(reason),
        Some(BlockState::On) => Fence::Foreign,
        Some(BlockState::Off) => {
            let before = json!({"before": "off"});
            ctx.catalog()
                .obligations()
                .record(ctx.lease(), job.target.id, WRITE_BLOCK, &before, ctx.now())
                .await?;
            crash::point("restore.cutover.after-fence-recorded");
            match WriteBlock::raise(&job.deployment, TRANSACTIONS_WAIT_MAX).await {
                Ok(FenceOutcome::Raised { fenced_at } | FenceOutcome::AlreadyOn { fenced_at }) => {
                    crash::point("restore.cutover.after-fence");
                    return Ok((Fence::Ours, to_model(fenced_at)));
                }
                Ok(FenceOutcome::Unavailable { reason }) => {
                    settle(ctx, job).await?;
                    none(reason)
                }
                Err(error) => {
                    lift(ctx, job, &Fence::Ours).await?;
                    return Err(fail(error));
                }
            }
        }
    };
    let now = time::majority_now(&job.deployment).await.map_err(fail)?;
    Ok((fence, to_model(now)))
}

/// What was there before this job; `None` when nobody is to be kept out.
async fn before(ctx: &JobContext, job: &Restore) -> Result<Option<BlockState>, JobError> {
    if job.options.fence == FenceMode::Off {
        return Ok(None);
    }
    // A job taken over must not take its own block for somebody else's.
    let recorded = ctx.catalog().obligations().of_job(ctx.lease().job_id).await?;
    if recorded.iter().any(|obligation| obligation.kind == WRITE_BLOCK) {
        return Ok(Some(BlockState::Off));
    }
    let state = WriteBlock::state(&job.deployment).await;
    state.map(Some).map_err(|e| job_error("looking at the write block of", &job.target.name, e))
}

/// Lifts the block if it is ours.
///
/// # Errors
/// [`JobError`]; the obligation stays, and the next attempt or the reaper lifts.
pub(crate) async fn lift(ctx: &JobContext, job: &Restore, fence: &Fence) -> Result<(), JobError> {
    if !matches!(fence, Fence::Ours) {
        return Ok(());
    }
    for attempt in 1.. {
        match put_back(&job.deployment).await {
            Ok(()) => break,
            Err(error) if attempt >= LIFT_TRIES_MAX => return Err(error),
            Err(_) => tokio::time::sleep(LIFT_RETRY_WAIT).await,
        }
    }
    crash::point("restore.cutover.after-lift");
    settle(ctx, job).await
}

async fn settle(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
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
