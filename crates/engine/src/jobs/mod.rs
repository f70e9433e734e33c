//! What a worker can do: one module per kind of [`Work`].

pub mod download;
pub mod export;
pub mod restore;
pub mod snapshot;

use catalog::Obligation;
use model::job::Work;
use mongo::Permit;

use crate::{
    engine::Services,
    lease::{JobContext, JobError, Outcome},
};

/// Runs one claimed work item to its end.
///
/// # Errors
/// [`JobError`] says what the worker records: a failure, a cancel acknowledged, or nothing at all because the
/// lease is no longer ours.
pub async fn run(ctx: &JobContext, work: Work) -> Result<Outcome, JobError> {
    match work {
        Work::Snapshot { snapshot_id } => snapshot::run(ctx, snapshot_id).await,
        Work::Restore { restore_job_id } => restore::run(ctx, restore_job_id).await,
        Work::Download { restore_job_id } => download::run(ctx, restore_job_id).await,
        Work::Export { export_job_id } => export::run(ctx, export_job_id).await,
    }
}

/// Undoes one thing that a job did to a deployment and did not undo itself: a raised history window, a write block,
/// staging collections. Called for a job that ended without having cleaned up, by its worker or by the reaper, maybe
/// in another process and long after. Idempotent; rests on nothing but the obligation's detail. The caller settles
/// the obligation afterwards. Nothing is sent to the deployment once `permit` is withdrawn.
///
/// # Errors
/// [`JobError`] when it could not be undone now; it is tried again.
pub async fn discharge(services: &Services, obligation: &Obligation, permit: Permit) -> Result<(), JobError> {
    match obligation.kind.as_str() {
        snapshot::HISTORY_WINDOW => snapshot::discharge(services, obligation, permit).await,
        _ => restore::discharge(services, obligation, permit).await,
    }
}

/// Undoes and settles everything that a running job has left on deployments.
///
/// # Errors
/// The first hindrance; what is left stays recorded and is the reaper's. [`JobError::Lost`] as soon as somebody else
/// may have the job.
pub async fn discharge_all(ctx: &JobContext) -> Result<(), JobError> {
    let (services, job) = (ctx.services(), ctx.lease().job_id);
    for obligation in services.catalog.obligations().of_job(job).await? {
        discharge(services, &obligation, ctx.permit()).await?;
        if !ctx.holds_lease() {
            return Err(JobError::Lost);
        }
        services.catalog.obligations().settle(job, obligation.deployment_id, &obligation.kind).await?;
    }
    Ok(())
}
