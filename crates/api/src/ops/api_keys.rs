//! API keys of the organization, and their roles in projects, by the calls of Atlas. A private key is shown once, when it is made.
//!
//! Owners of the organization make, change and delete keys; owners of a project make keys for it, and give and take roles in it.
//! What a key may do elsewhere is not theirs to say, and is not shown to them.

use catalog::{Credential, CredentialChange, CredentialFilter, CredentialKind, Grant};
use http::Method;
use model::{id::ProjectId, role::Role};
use serde_json::{Value, json};

use super::{
    Operation, SINCE_2023, access_lists, audit,
    credential_input::{OWNERS, described, names, operation, place, roles},
    groups::catalog_page,
    issued::{self, Wanted},
    links, root,
};
use crate::{
    access::Scope,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    reply::Reply,
};

const OF_ORGANIZATION: &str = "/orgs/{orgId}/apiKeys";
const OF_ORGANIZATION_ONE: &str = "/orgs/{orgId}/apiKeys/{apiUserId}";
const OF_PROJECT: &str = "/groups/{groupId}/apiKeys";
const OF_PROJECT_ONE: &str = "/groups/{groupId}/apiKeys/{apiUserId}";
/// What is shown in place of a private key, which nobody has any more.
const REDACTED: &str = "********-****-****-************";

const ALL_OWNERS: Scope = Scope::OrganizationOwner;

pub(super) static OPERATIONS: &[Operation] = &[
    operation("listOrgApiKeys", Method::GET, OF_ORGANIZATION, SINCE_2023, ALL_OWNERS, |call| {
        Box::pin(list(call))
    }),
    operation("createOrgApiKey", Method::POST, OF_ORGANIZATION, SINCE_2023, ALL_OWNERS, |call| {
        Box::pin(create(call))
    }),
    operation("getOrgApiKey", Method::GET, OF_ORGANIZATION_ONE, SINCE_2023, ALL_OWNERS, |call| {
        Box::pin(get(call))
    }),
    operation("updateOrgApiKey", Method::PATCH, OF_ORGANIZATION_ONE, SINCE_2023, ALL_OWNERS, |call| {
        Box::pin(update(call))
    }),
    operation("deleteOrgApiKey", Method::DELETE, OF_ORGANIZATION_ONE, SINCE_2023, ALL_OWNERS, |call| {
        Box::pin(delete(call))
    }),
    operation("listGroupApiKeys", Method::GET, OF_PROJECT, SINCE_2023, OWNERS, |call| Box::pin(list(call))),
    operation("createGroupApiKey", Method::POST, OF_PROJECT, SINCE_2023, OWNERS, |call| {
        Box::pin(create(call))
    }),
    operation("addGroupApiKey", Method::POST, OF_PROJECT_ONE, SINCE_2023, OWNERS, |call| Box::pin(add(call))),
    operation("updateGroupApiKeyRoles", Method::PATCH, OF_PROJECT_ONE, SINCE_2023, OWNERS, |call| {
        Box::pin(update(call))
    }),
    operation("removeGroupApiKey", Method::DELETE, OF_PROJECT_ONE, SINCE_2023, OWNERS, |call| {
        Box::pin(remove(call))
    }),
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let project = place(&call)?;
    let filter = CredentialFilter { kind: Some(CredentialKind::ApiKey), project };
    let listing = call.server.state.catalog.credentials().list(filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list API keys", e))?;
    let results = listing.items.into_iter().map(|key| view(&call, key, project)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn create(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["desc", "roles"])?;
    let description = described(&mut fields, "desc")?.ok_or_else(|| missing("desc"))?;
    let roles = roles(&mut fields, project)?.ok_or_else(|| missing("roles"))?;
    let grants = roles.iter().map(|role| Grant { role: *role, project }).collect();
    let (key, secret) = issued::make(&call, Wanted::ApiKey { description, grants }).await?;
    let detail = json!({"publicName": key.public_name, "roles": names(&roles)});
    audit::record(&call, "credential.create", key.id, detail);
    let mut object = view(&call, key, project);
    object["privateKey"] = secret.into();
    Ok(Reply::object(object))
}

async fn get(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    Ok(Reply::object(view(&call, key(&call).await?, project)))
}

/// Changes what a key is called, and its roles in the place of the path.
async fn update(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    let key = key(&call).await?;
    let key = match project {
        None => key,
        Some(project) if key.grants.iter().any(|grant| grant.project == Some(project)) => key,
        Some(_) => return Err(unknown(&call)),
    };
    let mut fields = Fields::parse(&call.headers, &call.body, &["desc", "roles"])?;
    let (description, roles) = (described(&mut fields, "desc")?, roles(&mut fields, project)?);
    if let (Some(project), Some(_)) = (project, &description) {
        // What is called so elsewhere too is called by others.
        access_lists::if_own(key.clone(), project).ok_or_else(|| unknown(&call))??;
    }
    let change = CredentialChange {
        description: description.as_deref(),
        roles: roles.as_deref().map(|roles| (project, roles)),
        ..CredentialChange::default()
    };
    let done = call.server.state.catalog.credentials().change(key.id, change).await;
    done.map_err(|e| changed(&call, e))?;
    let mut detail = json!({"publicName": key.public_name});
    if let Some(description) = description {
        detail["description"] = description.into();
    }
    if let Some(roles) = roles {
        detail["roles"] = names(&roles).into();
    }
    Ok(Reply::object(after(&call, &key, project, detail).await?))
}

/// Gives a key of the organization roles in a project, beside those that it has there.
async fn add(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let key = key(&call).await?;
    // A key that is of another project alone is not for owners of this one to find, or to have a hand in.
    let is_shared = key.grants.iter().any(|grant| grant.project.is_none_or(|there| there == project));
    if !is_shared && !call.credential.grants.iter().any(|grant| grant.role == Role::OrgOwner) {
        return Err(unknown(&call));
    }
    let mut given = vec![];
    for mut item in Fields::parse_list(&call.headers, &call.body, &["apiUserId", "roles"])? {
        if item.text("apiUserId")?.is_some_and(|id| id != key.id.to_string()) {
            return Err(invalid("apiUserId"));
        }
        given.extend(roles(&mut item, Some(project))?.ok_or_else(|| missing("roles"))?);
    }
    if given.is_empty() {
        return Err(missing("roles"));
    }
    let grants: Vec<Grant> = given.iter().map(|role| Grant { role: *role, project: Some(project) }).collect();
    let done = call.server.state.catalog.credentials().give(key.id, &grants).await;
    done.map_err(|e| changed(&call, e))?;
    let detail = json!({"publicName": key.public_name, "roles": names(&given)});
    Ok(Reply::object(after(&call, &key, Some(project), detail).await?))
}

/// Takes all roles in a project from a key, which stays a key of the organization.
async fn remove(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let key = key(&call).await?;
    if key.grants.iter().all(|grant| grant.project != Some(project)) {
        return Err(unknown(&call));
    }
    let none = CredentialChange { roles: Some((Some(project), &[])), ..CredentialChange::default() };
    let done = call.server.state.catalog.credentials().change(key.id, none).await;
    done.map_err(|e| changed(&call, e))?;
    call.server.forget_credentials();
    let detail = json!({"publicName": key.public_name, "roles": []});
    audit::record(&call, "credential.update", key.id, detail);
    Ok(Reply::no_content())
}

async fn delete(call: Call) -> Answer<Reply> {
    place(&call)?;
    let key = key(&call).await?;
    let deleted = call.server.state.catalog.credentials().delete(key.id).await;
    deleted.map_err(|e| call.server.catalog_problem("delete an API key", e))?;
    call.server.forget_credentials();
    audit::record(&call, "credential.delete", key.id, json!({"publicName": key.public_name}));
    Ok(Reply::no_content())
}

/// Says what was changed, and shows the key as it is then.
async fn after(call: &Call, key: &Credential, project: Option<ProjectId>, detail: Value) -> Answer<Value> {
    call.server.forget_credentials();
    audit::record(call, "credential.update", key.id, detail);
    let found = call.server.state.catalog.credentials().get(key.id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read an API key", e))?;
    Ok(view(call, found.ok_or_else(|| unknown(call))?, project))
}

/// The key of the path.
async fn key(call: &Call) -> Answer<Credential> {
    let id = call.params.get("apiUserId").unwrap_or_default().parse().map_err(|_| unknown(call))?;
    let found = call.server.state.catalog.credentials().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read an API key", e))?;
    found.filter(|found| found.kind() == CredentialKind::ApiKey).ok_or_else(|| unknown(call))
}

fn unknown(call: &Call) -> Problem {
    let text: String = call.params.get("apiUserId").unwrap_or_default().chars().take(64).collect();
    Problem::new(Code::KeyNotFound).with(text)
}

fn changed(call: &Call, error: catalog::Error) -> Problem {
    match error {
        catalog::Error::NotFound { .. } => unknown(call),
        other => call.server.catalog_problem("change an API key", other),
    }
}

/// `ApiKeyUserDetails`. Whoever asks in a project is shown the roles that count there.
fn view(call: &Call, mut key: Credential, project: Option<ProjectId>) -> Value {
    if project.is_some() {
        key.grants.retain(|grant| grant.project.is_none() || grant.project == project);
    }
    let organization = &call.server.state.settings.organization.id;
    json!({
        "desc": key.description,
        "id": key.id.to_string(),
        "links": [links::own(call.link(&format!("/orgs/{organization}/apiKeys/{}", key.id)))],
        "privateKey": REDACTED,
        "publicKey": key.public_name,
        "roles": root::roles(&key, organization),
    })
}
