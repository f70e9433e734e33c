//! Cloud Backup restore jobs of replica sets: three of the five pages that this server began with, and the list.

use catalog::{Deployment, RestoreFilter, RestoreJob};
use http::Method;
use model::{
    restore::{CancelRefusal, DeliveryType, RestoreResource, RestoreState},
    role::Action,
};
use serde_json::json;

use super::{
    Operation, SINCE_2023, audit,
    clusters::cluster,
    groups::catalog_page,
    restore_create, restore_input,
    restore_view::{self, Shown},
};
use crate::{
    access::{self, Scope},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

/// Those of Atlas are restore jobs alone: collection restore jobs have lists of their own.
pub(super) const RESOURCE: Option<RestoreResource> = Some(RestoreResource::RestoreJob);
const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs/{restoreJobId}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterBackupRestoreJobs",
        method: Method::GET,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "createGroupClusterBackupRestoreJob",
        method: Method::POST,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Restore, Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "getGroupClusterBackupRestoreJob",
        method: Method::GET,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "cancelGroupClusterBackupRestoreJob",
        method: Method::DELETE,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Restore, Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(cancel(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = cluster(&call).await?;
    let (jobs, total) = listed(&call, &deployment, RESOURCE, asked).await?;
    let results = jobs.iter().map(|job| restore_view::atlas(&call, &deployment, job)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

/// A page of a deployment's restore jobs and how many there are.
pub(super) async fn listed(
    call: &Call,
    deployment: &Deployment,
    resource: Option<RestoreResource>,
    asked: PageRequest,
) -> Answer<(Vec<RestoreJob>, u64)> {
    let filter = RestoreFilter { deployment_id: deployment.id, resource };
    let listing = call.server.state.catalog.restores().list(filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list restore jobs", e))?;
    Ok((listing.items, listing.total.unwrap_or_default()))
}

async fn create(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let wanted = restore_input::parse(&call.headers, &call.body)?;
    let job =
        restore_create::create(&call, &deployment, &wanted, RestoreResource::RestoreJob, json!({})).await?;
    Ok(Reply::object(restore_view::atlas(&call, &deployment, &job)))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let job = one(&call, &deployment).await?;
    Ok(Reply::object(restore_view::atlas(&call, &deployment, &job)))
}

/// The restore job of the path, if it is this deployment's.
pub(super) async fn one(call: &Call, deployment: &Deployment) -> Answer<RestoreJob> {
    one_of(call, deployment, RestoreResource::RestoreJob).await
}

/// The same, of that kind alone.
pub(super) async fn one_of(
    call: &Call,
    deployment: &Deployment,
    resource: RestoreResource,
) -> Answer<RestoreJob> {
    let job = of_any_kind(call, deployment).await?;
    if job.resource == resource { Ok(job) } else { Err(unknown(call, deployment)) }
}

/// No restore job of the deployment has the id of the path.
pub(super) fn unknown(call: &Call, deployment: &Deployment) -> Problem {
    let id = call.params.get("restoreJobId").unwrap_or_default();
    Problem::new(Code::RestoreJobNotFound).with(id).with(deployment.name.as_str())
}

/// The same, of whatever kind it is.
pub(super) async fn of_any_kind(call: &Call, deployment: &Deployment) -> Answer<RestoreJob> {
    let id = call.params.restore_job()?;
    let found = call.server.state.catalog.restores().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a restore job", e))?;
    let found = found.filter(|job| job.deployment_id == deployment.id);
    found.ok_or_else(|| unknown(call, deployment))
}

async fn cancel(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let job = one(&call, &deployment).await?;
    withdraw(&call, &deployment, &job).await
}

/// Cancels a restore job, if it is not too late. Unlike Atlas, a job that loads into a deployment can be
/// cancelled too, until its cut-over begins: here that is safe.
pub(super) async fn withdraw(call: &Call, deployment: &Deployment, job: &RestoreJob) -> Answer<Reply> {
    let needed = match job.delivery {
        DeliveryType::Automated | DeliveryType::PointInTime => Action::Restore,
        DeliveryType::Download => Action::Download,
    };
    access::require(&call.credential, deployment.project_id, &[needed])?;
    // What was fetched completely is known here before it is written down, and may never be.
    if Shown::of(call, job).state == RestoreState::Expired {
        return Err(expired());
    }
    let outcome = call.server.state.catalog.restores().request_cancel(job.id, call.server.now()).await;
    let outcome = outcome.map_err(|e| call.server.catalog_problem("cancel a restore job", e))?;
    let state = outcome.map_err(|refusal| match (refusal, job.delivery) {
        (CancelRefusal::TooLate, DeliveryType::Automated | DeliveryType::PointInTime) => {
            Problem::new(Code::CannotCancelAutomatedRestore)
        }
        (CancelRefusal::TooLate, DeliveryType::Download) => Problem::new(Code::AlreadyExpired)
            .because("The archive was never made, since the job failed: there is nothing left to cancel."),
        (CancelRefusal::Expired, _) => expired(),
    })?;
    call.server.state.poke.notify_one();
    audit::record(call, "restore.cancel", job.id, json!({"state": state.as_str()}));
    Ok(Reply::no_content())
}

/// Nothing is left of a download.
fn expired() -> Problem {
    Problem::new(Code::AlreadyExpired).because(
        "The archive was fetched or its time was over, so it is gone: there is nothing left to cancel.",
    )
}
