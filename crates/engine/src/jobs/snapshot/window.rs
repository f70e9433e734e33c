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
    let Some(planned) = record(ctx, id, deployment, planned.raised_to_seconds).await? else {
        return Ok(false);
    };
    let obligations = ctx.catalog().obligations();
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

/// Records what will be done, durably; `None` when the window is wide enough.
async fn record(
    ctx: &JobContext,
    id: DeploymentId,
    deployment: &Deployment,
    seconds: i64,
) -> Result<Option<Raised>, JobError> {
    loop {
        // A record holds one change. An earlier one of this job, or of the attempt before, is undone first.
        put_back(ctx, id, deployment).await?;
        let Some(planned) = mongo::window::plan(deployment, seconds).await? else { return Ok(None) };
        let obligations = ctx.catalog().obligations();
        obligations.record(ctx.lease(), id, HISTORY_WINDOW, &detail_of(&planned)?, ctx.now()).await?;
        // Another job that put the window back before it could see this record has made it wrong.
        if mongo::window::get(deployment).await? == planned.previous_seconds {
            return Ok(Some(planned));
        }
        ctx.check()?;
    }
}

fn detail_of(raised: &Raised) -> Result<serde_json::Value, JobError> {
    serde_json::to_value(raised).map_err(|e| JobError::failed_by("a raised window cannot be recorded", e))
}

fn read(obligation: &Obligation) -> Result<Raised, JobError> {
    serde_json::from_value(obligation.detail.clone())
        .map_err(|e| JobError::failed_by("the record of a raised history window cannot be read", e))
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
            undo(ctx.services(), deployment, &obligation).await?;
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
    undo(services, &connected.deployment.with_permit(permit), obligation).await
}

/// Puts the window back, unless another job has raised it further since. That one took what we made it for what it was
/// before; it is told what it really was, and will put that back.
///
/// Others do the same beside us. So they are told twice: before, for whoever puts back first what we had made it, and
/// after, for whoever has recorded it meanwhile. And we look whether we were told something ourselves.
async fn undo(services: &Services, deployment: &Deployment, obligation: &Obligation) -> Result<(), JobError> {
    let mut raised = read(obligation)?;
    let mut known = raised.previous_seconds;
    loop {
        hand_over(services, obligation, &raised).await?;
        mongo::window::put_back(deployment, &raised).await?;
        hand_over(services, obligation, &raised).await?;
        let standing = services.catalog.obligations().of_job(obligation.job_id).await?;
        let ours = |other: &&Obligation| {
            (other.deployment_id, &other.kind) == (obligation.deployment_id, &obligation.kind)
        };
        let Some(told) = standing.iter().find(ours).map(read).transpose()? else { return Ok(()) };
        if told.previous_seconds == known {
            return Ok(());
        }
        known = told.previous_seconds;
        raised = Raised { raised_to_seconds: raised.previous_seconds, ..told };
    }
}

/// Tells the jobs that found the window as `raised` had made it what it was before.
async fn hand_over(services: &Services, obligation: &Obligation, raised: &Raised) -> Result<(), JobError> {
    let standing = services.catalog.obligations();
    let told = standing.rewrite(obligation.deployment_id, HISTORY_WINDOW, |other| {
        let theirs = read(other).ok().filter(|theirs| {
            other.job_id != obligation.job_id
                && theirs.host == raised.host
                && theirs.previous_seconds == raised.raised_to_seconds
        })?;
        detail_of(&Raised { previous_seconds: raised.previous_seconds, ..theirs }).ok()
    });
    Ok(told.await?)
}
