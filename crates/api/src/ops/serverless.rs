//! Serverless instances: deployments registered as logical tenants. The same engine behind paths of their own;
//! sunset at Atlas, served here (D14).

use std::sync::Arc;

use catalog::{Deployment, SnapshotFilter};
use http::Method;
use model::{DeploymentKind, restore::RestoreResource, role::Action};
use serde_json::{Value, json};

use super::{
    Operation, restore_create, restore_input, restore_jobs, restore_view, snapshot_view, snapshots, tenants,
};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    page::PageRequest,
    rate::Set,
    reply::Reply,
    version::Version,
};

const SINCE: &str = "Wed, 22 Jan 2025 00:00:00 GMT";
const BACKUP: &[Version] =
    &[Version::current(2023, 1, 1).deprecated(SINCE, Some("Thu, 22 Jan 2026 00:00:00 GMT"))];
const INSTANCE: &[Version] =
    &[Version::current(2023, 1, 1).deprecated(SINCE, Some("Mon, 18 Jan 2027 00:00:00 GMT"))];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupServerlessInstances",
        method: Method::GET,
        path: "/groups/{groupId}/serverless",
        versions: INSTANCE,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getGroupServerlessInstance",
        method: Method::GET,
        path: "/groups/{groupId}/serverless/{clusterName}",
        versions: INSTANCE,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "listGroupServerlessBackupRestoreJobs",
        method: Method::GET,
        path: "/groups/{groupId}/serverless/{clusterName}/backup/restoreJobs",
        versions: BACKUP,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(list_jobs(call)),
    },
    Operation {
        id: "createGroupServerlessBackupRestoreJob",
        method: Method::POST,
        path: "/groups/{groupId}/serverless/{clusterName}/backup/restoreJobs",
        versions: BACKUP,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(create_job(call)),
    },
    Operation {
        id: "getGroupServerlessBackupRestoreJob",
        method: Method::GET,
        path: "/groups/{groupId}/serverless/{clusterName}/backup/restoreJobs/{restoreJobId}",
        versions: BACKUP,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(get_job(call)),
    },
    Operation {
        id: "listGroupServerlessBackupSnapshots",
        method: Method::GET,
        path: "/groups/{groupId}/serverless/{clusterName}/backup/snapshots",
        versions: BACKUP,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list_snapshots(call)),
    },
    Operation {
        id: "getGroupServerlessBackupSnapshot",
        method: Method::GET,
        path: "/groups/{groupId}/serverless/{clusterName}/backup/snapshots/{snapshotId}",
        versions: BACKUP,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get_snapshot(call)),
    },
];

/// The serverless instance of the path, or the error that says what is wrong with it.
async fn instance(call: &Call) -> Answer<Arc<Deployment>> {
    of_kinds(call, &[DeploymentKind::Serverless]).await
}

/// The same, or a flex cluster: Atlas made these of serverless instances, and whoever asked for the backups of one as that goes on
/// doing so.
async fn tenant(call: &Call) -> Answer<Arc<Deployment>> {
    of_kinds(call, &[DeploymentKind::Serverless, DeploymentKind::Flex]).await
}

async fn of_kinds(call: &Call, kinds: &[DeploymentKind]) -> Answer<Arc<Deployment>> {
    let (project, name) = (call.project_id()?, call.params.cluster());
    let found = call.server.deployment(project, name).await?;
    let unknown = || Problem::new(Code::ServerlessInstanceNotFound).with(name).with(project.to_string());
    let found = found.ok_or_else(unknown)?;
    if kinds.contains(&found.kind) {
        Ok(found)
    } else {
        Err(Problem::new(Code::CannotUseClusterInServerlessInstanceApi).with(name))
    }
}

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let (results, total) = tenants::listed(&call, DeploymentKind::Serverless, asked, view).await?;
    Ok(tenants::paged(&call, asked, results, total))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = instance(&call).await?;
    Ok(Reply::object(view(&call, &deployment)))
}

async fn list_jobs(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = tenant(&call).await?;
    let (jobs, total) = restore_jobs::listed(&call, &deployment, restore_jobs::RESOURCE, asked).await?;
    let results = jobs.iter().map(|job| restore_view::serverless(&call, &deployment, job)).collect();
    Ok(tenants::paged(&call, asked, results, total))
}

async fn create_job(call: Call) -> Answer<Reply> {
    let deployment = tenant(&call).await?;
    let wanted = restore_input::parse(&call.headers, &call.body)?;
    let job =
        restore_create::create(&call, &deployment, &wanted, RestoreResource::RestoreJob, json!({})).await?;
    Ok(Reply::object(restore_view::serverless(&call, &deployment, &job)))
}

async fn get_job(call: Call) -> Answer<Reply> {
    let deployment = tenant(&call).await?;
    let job = restore_jobs::one(&call, &deployment).await?;
    Ok(Reply::object(restore_view::serverless(&call, &deployment, &job)))
}

async fn list_snapshots(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = tenant(&call).await?;
    let (items, total) = snapshots::listed(&call, SnapshotFilter::of(deployment.id), asked).await?;
    let results =
        items.iter().map(|snapshot| snapshot_view::serverless(&call, &deployment, snapshot)).collect();
    Ok(tenants::paged(&call, asked, results, total))
}

async fn get_snapshot(call: Call) -> Answer<Reply> {
    let deployment = tenant(&call).await?;
    let snapshot = snapshots::one(&call, &deployment).await?;
    Ok(Reply::object(snapshot_view::serverless(&call, &deployment, &snapshot)))
}

/// `ServerlessInstanceDescription`.
fn view(call: &Call, deployment: &Deployment) -> Value {
    let mut object = tenants::view(call, deployment, "SERVERLESS");
    object["serverlessBackupOptions"] =
        json!({"serverlessContinuousBackupEnabled": deployment.continuous.pit_enabled});
    object
}
