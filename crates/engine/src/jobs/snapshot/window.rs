//! Raises a deployment's history window for the time of a job, and puts it back whatever happens.

use catalog::Obligation;
use model::id::DeploymentId;
use mongo::{Deployment, Permit, window::Raised};

use crate::{
    connect,
    engine::Services,
    lease::{JobContext, JobError},
};

/// The kind of obligation that a raised window is.
pub const HISTORY_WINDOW: &str = "historyWindow";
/// The least that a window is raised to, in seconds.
const WINDOW_SECONDS_MIN: i64 = 3_600;
/// The most that a window is raised to, in seconds.
const WINDOW_SECONDS_MAX: i64 = 24 * 3_600;

/// Raises the window so far that a read of `seconds` fits. False when that is not possible: the account may not, or
/// the window is as wide already.
///
/// What it was before is recorded durably before it is changed, so that the reaper can put it back.
pub(super) async fn raise(
    ctx: &JobContext,
    id: DeploymentId,
    deployment: &Deployment,
    seconds: u64,
) -> Result<bool, JobError> {
    if !ctx.services().settings.raise_history_window {
        return Ok(false);
    }
    let wanted = i64::try_from(seconds).unwrap_or(i64::MAX).clamp(WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX);
    let planned = match mongo::window::plan(deployment, wanted).await {
        Ok(Some(planned)) => planned,
        Ok(None) | Err(mongo::Error::Privilege(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // A record holds one change. An earlier one of this job, or of the attempt before, is undone first.
    put_back(ctx, id, deployment).await?;
    let Some(planned) = mongo::window::plan(deployment, planned.raised_to_seconds).await? else {
        return Ok(false);
    };
    let detail = serde_json::to_value(&planned)
        .map_err(|e| JobError::failed_by("a raised window cannot be recorded", e))?;
    let obligations = ctx.catalog().obligations();
    obligations.record(ctx.lease(), id, HISTORY_WINDOW, &detail, ctx.now()).await?;
    crate::crash::point("snapshot.before-window");
    match mongo::window::raise(deployment, &planned).await {
        Ok(()) => {}
        Err(mongo::Error::Privilege(_)) => {
            obligations.settle(ctx.lease().job_id, id, HISTORY_WINDOW).await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    crate::crash::point("snapshot.after-window");
    let (before, after) = (planned.previous_seconds, planned.raised_to_seconds);
    tracing::info!(job.id = %ctx.lease().job_id, previous_seconds = before, raised_seconds = after, "raised the history window from {before} s to {after} s");
    Ok(true)
}

/// Puts back what the job raised, if it did.
pub(super) async fn put_back(
    ctx: &JobContext,
    id: DeploymentId,
    deployment: &Deployment,
) -> Result<(), JobError> {
    let job = ctx.lease().job_id;
    for obligation in ctx.catalog().obligations().of_job(job).await? {
        if obligation.kind == HISTORY_WINDOW {
            undo(deployment, &obligation).await?;
            ctx.catalog().obligations().settle(job, id, HISTORY_WINDOW).await?;
        }
    }
    Ok(())
}

/// Puts back what a dead job raised.
///
/// # Errors
/// When the deployment does not answer or the account may not any more.
pub async fn discharge(services: &Services, obligation: &Obligation, permit: Permit) -> Result<(), JobError> {
    let row = services.catalog.deployments().get(obligation.deployment_id).await?;
    if row.is_none_or(|row| row.removed_at.is_some()) {
        tracing::warn!(deployment.id = %obligation.deployment_id, detail = %obligation.detail, "deployment {} was removed; its history window stays raised", obligation.deployment_id);
        return Ok(());
    }
    let connected = connect::connect(services, obligation.deployment_id).await?;
    undo(&connected.deployment.with_permit(permit), obligation).await
}

async fn undo(deployment: &Deployment, obligation: &Obligation) -> Result<(), JobError> {
    let raised: Raised = serde_json::from_value(obligation.detail.clone())
        .map_err(|e| JobError::failed_by("the record of a raised history window cannot be read", e))?;
    mongo::window::put_back(deployment, &raised).await?;
    Ok(())
}
