//! Lifetimes of indexes that stay: put aside while documents are put back, and given back whatever becomes of the job.

use catalog::Obligation;
use mongo::{Deployment, Error, Namespace, write::ttl};
use serde::{Deserialize, Serialize};

use super::super::{checkpoint::Parked, errors::job_error, source::Restore};
use crate::lease::{JobContext, JobError};

/// Kinds of obligations begin with this; what follows tells which index.
pub(crate) const PARKED_TTL: &str = "parkedTtl";
const INDEX_NOT_FOUND: i32 = 27;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    namespace: String,
    parked: Parked,
}

/// Before it is put aside. What is recorded first stays, so an attempt that takes over does not take what is parked for
/// what was there.
pub(super) async fn record(ctx: &JobContext, job: &Restore, now: &ttl::ParkedTtl) -> Result<(), JobError> {
    let namespace = now.namespace.to_string();
    let kind = format!("{PARKED_TTL} {namespace} {}", now.index.as_deref().unwrap_or_default());
    let detail = Detail { namespace, parked: Parked::of(now.clone()) };
    let detail = serde_json::to_value(detail)
        .map_err(|e| JobError::failed_by("a bug in Ebbtide: a lifetime cannot be written down", e))?;
    ctx.catalog().obligations().record(ctx.lease(), job.target.id, &kind, &detail, ctx.now()).await?;
    Ok(())
}

/// All of them have their own lifetimes back, or the receipt tells of them.
pub(crate) async fn settle(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let obligations = ctx.catalog().obligations();
    for left in obligations.of_job(ctx.lease().job_id).await? {
        if left.kind.starts_with(PARKED_TTL) {
            ctx.check_lease()?;
            obligations.settle(ctx.lease().job_id, job.target.id, &left.kind).await?;
        }
    }
    Ok(())
}

/// Gives a lifetime back that a job put aside and did not settle.
pub(crate) async fn put_back(deployment: &Deployment, obligation: &Obligation) -> Result<(), JobError> {
    let detail = Detail::deserialize(&obligation.detail);
    let detail =
        detail.map_err(|e| JobError::failed_by("a lifetime was written down by another version", e))?;
    let Some(namespace) = Namespace::parse(&detail.namespace) else {
        return Err(JobError::failed(format!("{:?} names no collection", detail.namespace)));
    };
    match ttl::unpark(deployment, &detail.parked.at(&namespace)).await {
        // Its users have dropped it since, or the job has.
        Ok(()) | Err(Error::NamespaceNotFound(_) | Error::Server { code: INDEX_NOT_FOUND, .. }) => Ok(()),
        Err(error) => Err(job_error("giving the lifetime back to", &namespace, error)),
    }
}
