//! Flex clusters: deployments that are registered as such. The same engine behind paths of their own, with words of their
//! own.
//!
//! The Atlas CLI asks these paths first, whatever the cluster is, and goes on to the others only after
//! `CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API` (D7). So that is said before anything else about the deployment of the path.

use std::sync::Arc;

use catalog::{Deployment, RestoreJob, Snapshot, SnapshotFilter};
use http::Method;
use model::{
    DeploymentKind, LinkTerms,
    id::{ProjectId, SnapshotId},
    restore::RestoreResource,
    role::Action,
    snapshot::SnapshotState,
};
use serde_json::json;

use super::{
    Operation, clusters, flex_view, restore_create,
    restore_input::{TargetName, Wanted},
    restore_jobs, snapshots, tenants,
};
use crate::{
    access::Scope,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    page::PageRequest,
    rate::Set,
    reply::Reply,
    version::Version,
};

const VERSIONS: &[Version] = &[Version::current(2024, 11, 13)];
const READ: Scope = Scope::Project(&[Action::Read]);

macro_rules! flex {
    ($id:literal, $method:ident, $path:literal, $scope:expr, $limit:ident, $run:expr) => {
        Operation {
            id: $id,
            method: Method::$method,
            path: concat!("/groups/{groupId}/flexClusters", $path),
            versions: VERSIONS,
            scope: $scope,
            limit: Set::$limit,
            run: |call| Box::pin($run(call)),
        }
    };
}

pub(super) static OPERATIONS: &[Operation] = &[
    flex!("listGroupFlexClusters", GET, "", READ, Clusters, list),
    flex!("getGroupFlexCluster", GET, "/{clusterName}", READ, Clusters, get),
    flex!(
        "downloadGroupFlexClusterBackup",
        POST,
        "/{clusterName}/backup/download",
        Scope::Project(&[Action::Download]),
        Backups,
        download
    ),
    flex!(
        "listGroupFlexClusterBackupSnapshots",
        GET,
        "/{clusterName}/backup/snapshots",
        READ,
        Backups,
        list_snapshots
    ),
    flex!(
        "getGroupFlexClusterBackupSnapshot",
        GET,
        "/{clusterName}/backup/snapshots/{snapshotId}",
        READ,
        Backups,
        get_snapshot
    ),
    flex!(
        "listGroupFlexClusterBackupRestoreJobs",
        GET,
        "/{clusterName}/backup/restoreJobs",
        READ,
        Backups,
        list_jobs
    ),
    flex!(
        "createGroupFlexClusterBackupRestoreJob",
        POST,
        "/{clusterName}/backup/restoreJobs",
        Scope::Project(&[Action::Restore]),
        Backups,
        create_job
    ),
    flex!(
        "getGroupFlexClusterBackupRestoreJob",
        GET,
        "/{clusterName}/backup/restoreJobs/{restoreJobId}",
        READ,
        Backups,
        get_job
    ),
];

/// Fields of `FlexBackupRestoreJobCreate20241113`, read-only ones included.
const RESTORE: &[&str] = &[
    "deliveryType",
    "expirationDate",
    "id",
    "instanceName",
    "links",
    "projectId",
    "restoreFinishedDate",
    "restoreScheduledDate",
    "snapshotFinishedDate",
    "snapshotId",
    "snapshotUrl",
    "status",
    "targetDeploymentItemName",
    "targetProjectId",
];

/// The flex cluster of the path, or the error that says what is wrong with it.
async fn flex(call: &Call) -> Answer<Arc<Deployment>> {
    let name = call.params.cluster();
    let found = clusters::any(call, name).await?;
    match found.kind {
        DeploymentKind::Flex => Ok(found),
        DeploymentKind::ReplicaSet | DeploymentKind::Serverless => {
            Err(Problem::new(Code::CannotUseNonFlexClusterInFlexApi).with(name))
        }
    }
}

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let (results, total) = tenants::listed(&call, DeploymentKind::Flex, asked, flex_view::cluster).await?;
    Ok(tenants::paged(&call, asked, results, total))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = flex(&call).await?;
    Ok(Reply::object(flex_view::cluster(&call, &deployment)))
}

async fn list_snapshots(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = flex(&call).await?;
    let (items, total) = snapshots::listed(&call, SnapshotFilter::of(deployment.id), asked).await?;
    Ok(tenants::paged(&call, asked, items.iter().map(flex_view::snapshot).collect(), total))
}

async fn get_snapshot(call: Call) -> Answer<Reply> {
    let deployment = flex(&call).await?;
    let id = call.params.snapshot()?;
    Ok(Reply::object(flex_view::snapshot(&snapshot(&call, &deployment, id).await?)))
}

/// A snapshot of the deployment that is not deleted.
async fn snapshot(call: &Call, deployment: &Deployment, id: SnapshotId) -> Answer<Snapshot> {
    let found = call.server.state.catalog.snapshots().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a snapshot", e))?;
    let found =
        found.filter(|found| found.deployment_id == deployment.id && found.state != SnapshotState::Deleted);
    found.ok_or_else(|| unknown_snapshot(deployment, id))
}

/// One that can be restored: what is not complete is not there yet.
async fn complete_snapshot(call: &Call, deployment: &Deployment, id: SnapshotId) -> Answer<SnapshotId> {
    let found = snapshot(call, deployment, id).await?;
    match found.state {
        SnapshotState::Completed => Ok(id),
        SnapshotState::Queued
        | SnapshotState::InProgress
        | SnapshotState::Failed
        | SnapshotState::Deleted => Err(unknown_snapshot(deployment, id).because("It is not complete.")),
    }
}

fn unknown_snapshot(deployment: &Deployment, id: SnapshotId) -> Problem {
    Problem::new(Code::TenantSnapshotNotFound).with(id.to_string()).with(deployment.name.as_str())
}

async fn list_jobs(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = flex(&call).await?;
    let (jobs, total) = restore_jobs::listed(&call, &deployment, restore_jobs::RESOURCE, asked).await?;
    let results = jobs.iter().map(|job| flex_view::restore_job(&call, job)).collect();
    Ok(tenants::paged(&call, asked, results, total))
}

async fn get_job(call: Call) -> Answer<Reply> {
    let deployment = flex(&call).await?;
    let job = restore_jobs::one(&call, &deployment).await.map_err(|problem| match problem.code() {
        Code::RestoreJobNotFound => {
            let id = call.params.get("restoreJobId").unwrap_or_default();
            Problem::new(Code::TenantRestoreNotFound).with(id).with(deployment.name.as_str())
        }
        _ => problem,
    })?;
    Ok(Reply::object(flex_view::restore_job(&call, &job)))
}

async fn create_job(call: Call) -> Answer<Reply> {
    let deployment = flex(&call).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, RESTORE)?;
    let id = snapshot_id(&mut fields)?;
    let name = fields.required_text("targetDeploymentItemName")?;
    let shown: String = name.chars().take(64).collect();
    let project: Option<ProjectId> = match fields.text("targetProjectId")? {
        Some(id) => Some(id.parse().map_err(|_| invalid("targetProjectId"))?),
        None => None,
    };
    let target = TargetName {
        project: project.unwrap_or(deployment.project_id),
        cluster: name.parse().map_err(|_| Problem::new(Code::ClusterNameInvalid).with(shown))?,
    };
    let snapshot = complete_snapshot(&call, &deployment, id).await?;
    begin(&call, &deployment, Wanted::Automated { snapshot, target }).await
}

/// A link for four hours. Atlas limits its time and not how often it is used.
async fn download(call: Call) -> Answer<Reply> {
    let deployment = flex(&call).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["links", "snapshotId"])?;
    let id = snapshot_id(&mut fields)?;
    let snapshot = complete_snapshot(&call, &deployment, id).await?;
    begin(&call, &deployment, Wanted::Download { snapshot, terms: LinkTerms::FOUR_HOURS }).await
}

async fn begin(call: &Call, deployment: &Deployment, wanted: Wanted) -> Answer<Reply> {
    let job: RestoreJob =
        restore_create::create(call, deployment, &wanted, RestoreResource::RestoreJob, json!({})).await?;
    Ok(Reply::object(flex_view::restore_job(call, &job)))
}

fn snapshot_id(fields: &mut Fields) -> Answer<SnapshotId> {
    let text = fields.text("snapshotId")?.ok_or_else(|| missing("snapshotId"))?;
    text.parse().map_err(|_| invalid("snapshotId"))
}
