//! Projects, which Atlas calls groups. A caller sees those that it has a role in.

use catalog::{Page, Project};
use http::{Method, StatusCode};
use model::{id::ProjectId, role::Action};
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, group_changes, links};
use crate::{
    access::{self, Scope},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Listed, Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroups",
        method: Method::GET,
        path: "/groups",
        versions: SINCE_2023,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getGroup",
        method: Method::GET,
        path: "/groups/{groupId}",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "getGroupByName",
        method: Method::GET,
        path: "/groups/byName/{groupName}",
        versions: SINCE_2023,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(by_name(call)),
    },
    Operation {
        id: "createGroup",
        method: Method::POST,
        path: "/groups",
        versions: SINCE_2023,
        scope: Scope::OrganizationOwner,
        limit: Set::Clusters,
        run: |call| Box::pin(group_changes::create(call)),
    },
    Operation {
        id: "updateGroup",
        method: Method::PATCH,
        path: "/groups/{groupId}",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Clusters,
        run: |call| Box::pin(group_changes::update(call)),
    },
    Operation {
        id: "deleteGroup",
        method: Method::DELETE,
        path: "/groups/{groupId}",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Clusters,
        run: |call| Box::pin(group_changes::delete(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let listed = visible(&call, asked).await?;
    let mut results = Vec::with_capacity(listed.items.len());
    for project in &listed.items {
        results.push(view(&call, project).await?);
    }
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listed.total)))
}

/// The page of projects that the caller may see.
pub(super) async fn visible(call: &Call, asked: PageRequest) -> Answer<Listed<Project>> {
    if call.credential.reaches_all_projects() {
        let listing = call.server.state.catalog.projects().list(catalog_page(asked)).await;
        let listing = listing.map_err(|e| call.server.catalog_problem("list projects", e))?;
        return Ok(Listed { total: listing.total.unwrap_or_default(), items: listing.items });
    }
    let mut ids: Vec<ProjectId> = call.credential.grants.iter().filter_map(|grant| grant.project).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut projects = Vec::with_capacity(ids.len());
    for id in ids {
        match call.server.project(id).await {
            Ok(project) => projects.push(Project::clone(&project)),
            // Deleted a moment ago.
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(asked.slice(projects))
}

/// The catalog's idea of a page.
pub(super) fn catalog_page(asked: PageRequest) -> Page {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Page::new(narrow(asked.number), narrow(asked.items))
}

async fn get(call: Call) -> Answer<Reply> {
    let project = call.server.project(call.project_id()?).await?;
    Ok(Reply::object(view(&call, &project).await?))
}

async fn by_name(call: Call) -> Answer<Reply> {
    let name = call.params.get("groupName").unwrap_or_default();
    let found = call.server.state.catalog.projects().by_name(name).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a project", e))?;
    let shown = || name.chars().take(64).collect::<String>();
    let project = found.ok_or_else(|| Problem::new(Code::GroupNameNotFound).with(shown()))?;
    access::require(&call.credential, project.id, &[Action::Read])?;
    Ok(Reply::object(view(&call, &project).await?))
}

/// A project as Atlas shows it.
pub(super) async fn view(call: &Call, project: &Project) -> Answer<Value> {
    let deployments = call.server.state.catalog.deployments().list(project.id, None, Page::new(1, 1)).await;
    let deployments = deployments.map_err(|e| call.server.catalog_problem("count deployments", e))?;
    Ok(json!({
        "clusterCount": deployments.total.unwrap_or_default(),
        "created": project.created_at.to_rfc3339(),
        "id": project.id.to_string(),
        "links": [links::own(call.link(&links::group_path(project.id)))],
        "name": project.name,
        "orgId": call.server.state.settings.organization.id,
        "tags": [],
        "withDefaultAlertsSettings": true,
    }))
}
