//! Replica sets, as Atlas describes clusters. What is not ours to know (hardware, regions) is left out.

use std::sync::Arc;

use catalog::Deployment;
use http::Method;
use model::{DeploymentKind, role::Action};
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, groups::catalog_page, links};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
    version::{Date, Version},
};

const SUNSET: Option<&str> = Some("Thu, 1 Jul 2027 00:00:00 GMT");
const VERSIONS: &[Version] = &[
    Version::current(2023, 1, 1).deprecated("Wed, 1 Feb 2023 00:00:00 GMT", SUNSET),
    Version::current(2023, 2, 1).deprecated("Mon, 5 Aug 2024 00:00:00 GMT", SUNSET),
    Version::current(2024, 8, 5),
];
const PROCESS_ARGS_VERSIONS: &[Version] = &[
    Version::current(2023, 1, 1).deprecated("Mon, 5 Aug 2024 00:00:00 GMT", SUNSET),
    Version::current(2024, 8, 5),
];
/// The version whose description is the legacy one.
const LEGACY: Date = Date::new(2023, 1, 1);

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusters",
        method: Method::GET,
        path: "/groups/{groupId}/clusters",
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getGroupCluster",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}",
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "getGroupClusterStatus",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/status",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(status(call)),
    },
    Operation {
        id: "getGroupClusterProcessArgs",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/processArgs",
        versions: PROCESS_ARGS_VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(process_args(call)),
    },
];

/// Nothing is known of the server's parameters: every member of the schema is optional, and all are absent.
async fn process_args(call: Call) -> Answer<Reply> {
    cluster(&call).await?;
    Ok(Reply::object(json!({})))
}

/// The replica set of the path, or the error that says what is wrong with it.
pub(super) async fn cluster(call: &Call) -> Answer<Arc<Deployment>> {
    let name = call.params.cluster();
    let found = any(call, name).await?;
    match found.kind {
        DeploymentKind::ReplicaSet => Ok(found),
        DeploymentKind::Serverless => {
            Err(Problem::new(Code::CannotUseServerlessInstanceInClusterApi).with(name))
        }
        DeploymentKind::Flex => Err(Problem::new(Code::CannotUseFlexClusterInClusterApi).with(name)),
    }
}

/// The deployment of that name, whatever its kind.
pub(super) async fn any(call: &Call, name: &str) -> Answer<Arc<Deployment>> {
    let project = call.project_id()?;
    let found = call.server.deployment(project, name).await?;
    found.ok_or_else(|| Problem::new(Code::ClusterNotFound).with(name).with(project.to_string()))
}

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    call.query.flag("includeDeletedWithRetainedBackups", false)?;
    let deployments = call.server.state.catalog.deployments();
    let kind = Some(DeploymentKind::ReplicaSet);
    let listing = deployments.list(call.project_id()?, kind, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list deployments", e))?;
    let results = listing.items.iter().map(|deployment| view(&call, deployment)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    Ok(Reply::object(view(&call, &deployment)))
}

async fn status(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let path = links::deployment_path(&deployment);
    Ok(Reply::object(json!({
        "changeStatus": "APPLIED",
        "links": [links::own(call.link(&format!("{path}/status")))],
    })))
}

fn view(call: &Call, deployment: &Deployment) -> Value {
    let path = links::deployment_path(deployment);
    let mut object = json!({
        "backupEnabled": true,
        "clusterType": "REPLICASET",
        "connectionStrings": {},
        "createDate": deployment.created_at.to_rfc3339(),
        "encryptionAtRestProvider": "NONE",
        "groupId": deployment.project_id.to_string(),
        "id": deployment.id.to_string(),
        "labels": [],
        "links": [
            links::own(call.link(&path)),
            links::other("restoreJobs", call.link(&format!("{path}/backup/restoreJobs"))),
            links::other("snapshots", call.link(&format!("{path}/backup/snapshots"))),
        ],
        "name": deployment.name.as_str(),
        "paused": false,
        "pitEnabled": deployment.continuous.pit_enabled,
        "replicationSpecs": [],
        "rootCertType": "ISRGROOTX1",
        "stateName": "IDLE",
        "tags": [],
        "terminationProtectionEnabled": false,
        "versionReleaseSystem": "LTS",
    });
    if let Some(version) = &deployment.facts.mongodb_version {
        let major: Vec<&str> = version.split('.').take(2).collect();
        object["mongoDBMajorVersion"] = major.join(".").into();
        object["mongoDBVersion"] = version.as_str().into();
    }
    if call.selected.date() == LEGACY {
        // A Cloud Backup cluster has its legacy backup off and its provider backup on.
        object["backupEnabled"] = false.into();
        object["providerBackupEnabled"] = true.into();
        object["numShards"] = 1.into();
        object["replicationFactor"] = 3.into();
    }
    object
}
