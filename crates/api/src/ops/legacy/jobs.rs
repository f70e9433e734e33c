//! Restore jobs in their legacy shape. A legacy restore is a restore job: both lists show it.

use catalog::{Deployment, RestoreJob};
use model::{id::RestoreJobId, restore::RestoreResource};
use serde_json::json;

use super::{
    Shown,
    job_input::{self, State, Target, Wanted},
    job_view::{Times, view},
    require_everything, shown,
};
use crate::{
    access,
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{
        clusters::cluster,
        restore_create,
        restore_input::{self, TargetName},
        restore_jobs,
    },
    page::{Location, PageRequest, page},
    reply::Reply,
};

/// Where restore jobs are shown today.
const INSTEAD: &str = "/backup/restoreJobs";

pub(super) async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let batch = call.query.get("batchId");
    if batch.is_some_and(|id| id.parse::<RestoreJobId>().is_err()) {
        return Err(Problem::new(Code::InvalidQueryParameter).with("batchId"));
    }
    let deployment = cluster(&call).await?;
    // Only the jobs of a sharded cluster come in batches, and a replica set is none.
    let (jobs, total) = match (shown(&call, &deployment, INSTEAD)?, batch) {
        (Shown::Nothing, _) | (_, Some(_)) => (vec![], 0),
        (Shown::Everything, None) => {
            restore_jobs::listed(&call, &deployment, restore_jobs::RESOURCE, asked).await?
        }
    };
    page_of(&call, &deployment, asked, &jobs, total).await
}

async fn page_of(
    call: &Call,
    deployment: &Deployment,
    asked: PageRequest,
    jobs: &[RestoreJob],
    total: u64,
) -> Answer<Reply> {
    let times = cluster_times(call, jobs).await?;
    let results = jobs.iter().map(|job| view(call, deployment, job, &times)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

pub(super) async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    if shown(&call, &deployment, INSTEAD)? == Shown::Nothing {
        return Err(restore_jobs::unknown(&call, &deployment));
    }
    let job = restore_jobs::one(&call, &deployment).await?;
    let times = cluster_times(&call, std::slice::from_ref(&job)).await?;
    Ok(Reply::object(view(&call, &deployment, &job, &times)))
}

/// Answers a list, as there is one job for each shard: here, one.
pub(super) async fn create(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    require_everything(&call, &deployment, INSTEAD)?;
    let wanted = match job_input::parse(&call.headers, &call.body)? {
        Wanted::Download { snapshot, terms } => restore_input::Wanted::Download { snapshot, terms },
        Wanted::Load { state, target } => {
            let target = found(&call, &deployment, target).await?;
            match state {
                State::Snapshot(snapshot) => restore_input::Wanted::Automated { snapshot, target },
                State::PointInTime(at) => restore_input::Wanted::PointInTime { target, at },
            }
        }
    };
    let job =
        restore_create::create(&call, &deployment, &wanted, RestoreResource::RestoreJob, json!({})).await?;
    page_of(&call, &deployment, PageRequest::FIRST, &[job], 1).await
}

/// A target that may be told by its id.
async fn found(call: &Call, source: &Deployment, target: Target) -> Answer<TargetName> {
    let Target { project, name, id } = target;
    let Some(id) = id else {
        let cluster = name.ok_or_else(|| crate::body::missing("delivery.targetClusterName"))?;
        return Ok(TargetName { project, cluster });
    };
    // Strangers to a project learn nothing of what is in it.
    if project != source.project_id {
        access::require_target(&call.credential, project)?;
    }
    let unknown = || Problem::new(Code::ClusterNotFound).with(id.to_string()).with(project.to_string());
    let found = call.server.state.catalog.deployments().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a deployment", e))?;
    let found = found.filter(|found| found.project_id == project && found.removed_at.is_none());
    let cluster = found.ok_or_else(unknown)?.name;
    if name.is_some_and(|name| name != cluster) {
        let why = "delivery.targetClusterName and delivery.targetClusterId are of two clusters";
        return Err(Problem::new(Code::ValidationError).with(why));
    }
    Ok(TargetName { project, cluster })
}

/// The times of the data that the jobs restore.
async fn cluster_times(call: &Call, jobs: &[RestoreJob]) -> Answer<Times> {
    let ids: Vec<_> = jobs.iter().map(|job| job.snapshot_id).collect();
    let times = call.server.state.catalog.snapshots().cluster_times(&ids).await;
    times.map_err(|e| call.server.catalog_problem("read the times of snapshots", e))
}
