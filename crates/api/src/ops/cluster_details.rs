//! `GET /api/atlas/v2/clusters`: the deployments of all projects that the caller may see, project by project.

use catalog::{Deployment, Page, Project};
use http::Method;
use model::DeploymentKind;
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, groups};
use crate::{
    access::Scope,
    error::Answer,
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

/// Deployments shown of one project; its own list has pages.
const PER_PROJECT_MAX: u32 = 500;

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "listClusterDetails",
    method: Method::GET,
    path: "/clusters",
    versions: SINCE_2023,
    scope: Scope::Known,
    limit: Set::Clusters,
    run: |call| Box::pin(list(call)),
}];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let listed = groups::visible(&call, asked).await?;
    let mut results = Vec::with_capacity(listed.items.len());
    for project in &listed.items {
        results.push(of_project(&call, project).await?);
    }
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listed.total)))
}

/// `OrgGroup`.
async fn of_project(call: &Call, project: &Project) -> Answer<Value> {
    let deployments = call.server.state.catalog.deployments();
    let kind = Some(DeploymentKind::ReplicaSet);
    let listing = deployments.list(project.id, kind, Page::new(1, PER_PROJECT_MAX)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list deployments", e))?;
    let organization = &call.server.state.settings.organization;
    Ok(json!({
        "clusters": listing.items.iter().map(view).collect::<Vec<_>>(),
        "groupId": project.id.to_string(),
        "groupName": project.name,
        "orgId": organization.id,
        "orgName": organization.name,
        "tags": [],
    }))
}

/// `CloudCluster`, as far as it is known without asking the deployment.
fn view(deployment: &Deployment) -> Value {
    json!({
        "backupEnabled": true,
        "clusterId": deployment.id.to_string(),
        "name": deployment.name.as_str(),
        "type": "REPLICA_SET",
        "versions": deployment.facts.mongodb_version.iter().collect::<Vec<_>>(),
    })
}
