//! What serverless instances and flex clusters have in common: deployments with pages of their own.

use catalog::Deployment;
use model::DeploymentKind;
use serde_json::{Value, json};

use super::{groups::catalog_page, links};
use crate::{
    error::Answer,
    gate::Call,
    page::{Location, PageRequest, page},
    reply::Reply,
};

/// The fields that both have. The specification wants a cloud provider; the words stand for nothing here.
pub(super) fn view(call: &Call, deployment: &Deployment, provider: &str) -> Value {
    let path = links::deployment_path(deployment);
    let mut object = json!({
        "connectionStrings": {},
        "createDate": deployment.created_at.to_rfc3339(),
        "groupId": deployment.project_id.to_string(),
        "id": deployment.id.to_string(),
        "links": [
            links::own(call.link(&path)),
            links::other("backupRestoreJobs", call.link(&format!("{path}/backup/restoreJobs"))),
            links::other("snapshots", call.link(&format!("{path}/backup/snapshots"))),
        ],
        "name": deployment.name.as_str(),
        "providerSettings": {"backingProviderName": "AWS", "providerName": provider, "regionName": "SELF_HOSTED"},
        "stateName": "IDLE",
        "tags": [],
        "terminationProtectionEnabled": false,
    });
    if let Some(version) = &deployment.facts.mongodb_version {
        object["mongoDBVersion"] = version.as_str().into();
    }
    object
}

/// A page of the deployments of one kind in the project of the path, and how many there are.
pub(super) async fn listed(
    call: &Call,
    kind: DeploymentKind,
    asked: PageRequest,
    view: impl Fn(&Call, &Deployment) -> Value,
) -> Answer<(Vec<Value>, u64)> {
    let deployments = call.server.state.catalog.deployments();
    let listing = deployments.list(call.project_id()?, Some(kind), catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list deployments", e))?;
    let results = listing.items.iter().map(|deployment| view(call, deployment)).collect();
    Ok((results, listing.total.unwrap_or_default()))
}

/// An answer of one page.
pub(super) fn paged(call: &Call, asked: PageRequest, results: Vec<Value>, total: u64) -> Reply {
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Reply::page(page(&at, asked, results, total))
}
