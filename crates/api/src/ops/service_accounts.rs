//! Service accounts of the organization, their roles in projects and their secrets, by the calls of Atlas. A secret is shown once, when
//! it is made.
//!
//! Owners of the organization make, change and delete accounts; owners of a project make accounts for it, give and take roles in it,
//! and have the secrets of those accounts in hand that have roles nowhere else.

use catalog::{Credential, CredentialChange, CredentialFilter, CredentialKind, Grant};
use http::Method;
use model::{
    account::{AccountSecret, SecretHours},
    id::{AccountSecretId, ProjectId},
    role::Role,
};
use serde_json::{Value, json};

use super::{
    Operation, access_lists, audit,
    credential_input::{OWNERS, SINCE_ACCOUNTS, described, names, operation, place, roles},
    groups::catalog_page,
    issued::{self, Wanted},
};
use crate::{
    access::Scope,
    auth::issue::{NewAccount, account_secret},
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    reply::Reply,
};

const OF_ORGANIZATION: &str = "/orgs/{orgId}/serviceAccounts";
const OF_ORGANIZATION_ONE: &str = "/orgs/{orgId}/serviceAccounts/{clientId}";
const GROUPS: &str = "/orgs/{orgId}/serviceAccounts/{clientId}/groups";
const SECRETS: &str = "/orgs/{orgId}/serviceAccounts/{clientId}/secrets";
const SECRETS_ONE: &str = "/orgs/{orgId}/serviceAccounts/{clientId}/secrets/{secretId}";
const OF_PROJECT: &str = "/groups/{groupId}/serviceAccounts";
const OF_PROJECT_ONE: &str = "/groups/{groupId}/serviceAccounts/{clientId}";
const INVITE: &str = "/groups/{groupId}/serviceAccounts/{clientId}:invite";
const GROUP_SECRETS: &str = "/groups/{groupId}/serviceAccounts/{clientId}/secrets";
const GROUP_SECRETS_ONE: &str = "/groups/{groupId}/serviceAccounts/{clientId}/secrets/{secretId}";

const ALL_OWNERS: Scope = Scope::OrganizationOwner;
/// What is told of a secret that works until another one is made: the schema wants a time.
const NEVER: &str = "9999-12-31T23:59:59Z";
/// What is shown in place of a secret, before its last characters.
const MASK: &str = "************";

pub(super) static OPERATIONS: &[Operation] = &[
    operation("listOrgServiceAccounts", Method::GET, OF_ORGANIZATION, SINCE_ACCOUNTS, ALL_OWNERS, |call| {
        Box::pin(list(call))
    }),
    operation("createOrgServiceAccount", Method::POST, OF_ORGANIZATION, SINCE_ACCOUNTS, ALL_OWNERS, |call| {
        Box::pin(create(call))
    }),
    operation("getOrgServiceAccount", Method::GET, OF_ORGANIZATION_ONE, SINCE_ACCOUNTS, ALL_OWNERS, |call| {
        Box::pin(get(call))
    }),
    operation(
        "updateOrgServiceAccount",
        Method::PATCH,
        OF_ORGANIZATION_ONE,
        SINCE_ACCOUNTS,
        ALL_OWNERS,
        |call| Box::pin(update(call)),
    ),
    operation(
        "deleteOrgServiceAccount",
        Method::DELETE,
        OF_ORGANIZATION_ONE,
        SINCE_ACCOUNTS,
        ALL_OWNERS,
        |call| Box::pin(delete(call)),
    ),
    operation("listOrgServiceAccountGroups", Method::GET, GROUPS, SINCE_ACCOUNTS, ALL_OWNERS, |call| {
        Box::pin(projects(call))
    }),
    operation("createOrgServiceAccountSecret", Method::POST, SECRETS, SINCE_ACCOUNTS, ALL_OWNERS, |call| {
        Box::pin(add_secret(call))
    }),
    operation(
        "deleteOrgServiceAccountSecret",
        Method::DELETE,
        SECRETS_ONE,
        SINCE_ACCOUNTS,
        ALL_OWNERS,
        |call| Box::pin(remove_secret(call)),
    ),
    operation("listGroupServiceAccounts", Method::GET, OF_PROJECT, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(list(call))
    }),
    operation("createGroupServiceAccount", Method::POST, OF_PROJECT, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(create(call))
    }),
    operation("getGroupServiceAccount", Method::GET, OF_PROJECT_ONE, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(get(call))
    }),
    operation("updateGroupServiceAccount", Method::PATCH, OF_PROJECT_ONE, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(update(call))
    }),
    operation("deleteGroupServiceAccount", Method::DELETE, OF_PROJECT_ONE, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(remove(call))
    }),
    operation("inviteGroupServiceAccount", Method::POST, INVITE, SINCE_ACCOUNTS, OWNERS, |call| {
        Box::pin(invite(call))
    }),
    operation(
        "createGroupServiceAccountSecret",
        Method::POST,
        GROUP_SECRETS,
        SINCE_ACCOUNTS,
        OWNERS,
        |call| Box::pin(add_secret(call)),
    ),
    operation(
        "deleteGroupServiceAccountSecret",
        Method::DELETE,
        GROUP_SECRETS_ONE,
        SINCE_ACCOUNTS,
        OWNERS,
        |call| Box::pin(remove_secret(call)),
    ),
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let project = place(&call)?;
    let filter = CredentialFilter { kind: Some(CredentialKind::ServiceAccount), project };
    let listing = call.server.state.catalog.credentials().list(filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list service accounts", e))?;
    let results = listing.items.iter().map(|account| view(account, project)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn create(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    let known = ["description", "name", "roles", "secretExpiresAfterHours"];
    let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
    let name = described(&mut fields, "name")?.ok_or_else(|| missing("name"))?;
    let description = described(&mut fields, "description")?.ok_or_else(|| missing("description"))?;
    let roles = roles(&mut fields, project)?.ok_or_else(|| missing("roles"))?;
    let hours = Some(hours(&mut fields)?);
    let grants = roles.iter().map(|role| Grant { role: *role, project }).collect();
    let new = NewAccount { name, description, grants, hours };
    let (account, secret) = issued::make(&call, Wanted::ServiceAccount(new)).await?;
    let detail = json!({"publicName": account.public_name, "roles": names(&roles)});
    audit::record(&call, "credential.create", account.id, detail);
    let mut object = view(&account, project);
    object["secrets"][0]["secret"] = secret.into();
    let at = call.link(&format!("{}/{}", collection(&call, project), account.public_name));
    Ok(Reply::created_at(at, object))
}

/// Where the accounts of a place are listed.
fn collection(call: &Call, project: Option<ProjectId>) -> String {
    match project {
        Some(project) => format!("/groups/{project}/serviceAccounts"),
        None => format!("/orgs/{}/serviceAccounts", call.server.state.settings.organization.id),
    }
}

async fn get(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    Ok(Reply::object(view(&account_of(&call, project).await?, project)))
}

/// Changes what an account is called, and its roles in the place of the path.
async fn update(call: Call) -> Answer<Reply> {
    let project = place(&call)?;
    let account = account_of(&call, project).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["description", "name", "roles"])?;
    let (name, description) = (described(&mut fields, "name")?, described(&mut fields, "description")?);
    let roles = roles(&mut fields, project)?;
    let is_described = name.is_some() || description.is_some();
    if let (Some(project), true) = (project, is_described) {
        // What is called so elsewhere too is called by others.
        access_lists::if_own(account.clone(), project).ok_or_else(|| unknown(&call))??;
    }
    let change = CredentialChange {
        name: name.as_deref(),
        description: description.as_deref(),
        roles: roles.as_deref().map(|roles| (project, roles)),
    };
    let done = call.server.state.catalog.credentials().change(account.id, change).await;
    done.map_err(|e| changed(&call, e))?;
    let mut detail = json!({"publicName": account.public_name});
    for (field, text) in [("name", name), ("description", description)] {
        if let Some(text) = text {
            detail[field] = text.into();
        }
    }
    if let Some(roles) = roles {
        detail["roles"] = names(&roles).into();
    }
    after(&call, &account, project, detail).await
}

/// Gives an account of the organization roles in a project, beside those that it has there.
async fn invite(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let account = account(&call).await?;
    // An account that is of another project alone is not for owners of this one to find, or to have a hand in.
    let is_shared = account.grants.iter().any(|grant| grant.project.is_none_or(|there| there == project));
    if !is_shared && !call.credential.grants.iter().any(|grant| grant.role == Role::OrgOwner) {
        return Err(unknown(&call));
    }
    let mut fields = Fields::parse(&call.headers, &call.body, &["roles"])?;
    let given = roles(&mut fields, Some(project))?.ok_or_else(|| missing("roles"))?;
    let grants: Vec<Grant> = given.iter().map(|role| Grant { role: *role, project: Some(project) }).collect();
    let done = call.server.state.catalog.credentials().give(account.id, &grants).await;
    done.map_err(|e| changed(&call, e))?;
    let detail = json!({"publicName": account.public_name, "roles": names(&given)});
    after(&call, &account, Some(project), detail).await
}

/// Takes all roles in a project from an account, which stays an account of the organization.
async fn remove(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let account = account_of(&call, Some(project)).await?;
    let none = CredentialChange { roles: Some((Some(project), &[])), ..CredentialChange::default() };
    let done = call.server.state.catalog.credentials().change(account.id, none).await;
    done.map_err(|e| changed(&call, e))?;
    call.server.forget_credentials();
    let detail = json!({"publicName": account.public_name, "roles": []});
    audit::record(&call, "credential.update", account.id, detail);
    Ok(Reply::no_content())
}

async fn delete(call: Call) -> Answer<Reply> {
    place(&call)?;
    let account = account(&call).await?;
    let deleted = call.server.state.catalog.credentials().delete(account.id).await;
    deleted.map_err(|e| changed(&call, e))?;
    call.server.forget_credentials();
    audit::record(&call, "credential.delete", account.id, json!({"publicName": account.public_name}));
    Ok(Reply::no_content())
}

/// The projects that an account has roles of its own in.
async fn projects(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    place(&call)?;
    let account = account(&call).await?;
    let mut projects: Vec<ProjectId> = account.grants.iter().filter_map(|grant| grant.project).collect();
    projects.sort_unstable();
    projects.dedup();
    let listed = asked.slice(projects.iter().map(|id| json!({"groupId": id.to_string()})).collect());
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, listed.items, listed.total)))
}

/// Makes another secret; the one that is there works for a week at most from then on.
async fn add_secret(call: Call) -> Answer<Reply> {
    let account = account_in_hand(&call).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["secretExpiresAfterHours"])?;
    let (new, secret) = account_secret(Some(hours(&mut fields)?));
    let made = call.server.state.catalog.credentials().add_secret(account.id, new, call.server.now()).await;
    let made = made.map_err(|e| changed(&call, e))?;
    let mut object = secret_view(&made);
    let detail = json!({
        "publicName": account.public_name, "secretId": object["id"], "expiresAt": object["expiresAt"],
    });
    audit::record(&call, "credential.secret.create", account.id, detail);
    object["secret"] = secret.expose_text().unwrap_or_default().into();
    Ok(Reply::created(object))
}

/// Deletes a secret, and the tokens that were made with it.
async fn remove_secret(call: Call) -> Answer<Reply> {
    let account = account_in_hand(&call).await?;
    let text: String = call.params.get("secretId").unwrap_or_default().chars().take(64).collect();
    let missing = || Problem::new(Code::ServiceAccountSecretNotFound).with(text.as_str());
    let id: AccountSecretId = text.parse().map_err(|_| missing())?;
    let removed = call.server.state.catalog.credentials().remove_secret(account.id, id).await;
    if !removed.map_err(|e| changed(&call, e))? {
        return Err(missing());
    }
    call.server.forget_credentials();
    let detail = json!({"publicName": account.public_name, "secretId": id.to_string()});
    audit::record(&call, "credential.secret.delete", account.id, detail);
    Ok(Reply::no_content())
}

/// Says what was changed, and shows the account as it is then.
async fn after(
    call: &Call,
    account: &Credential,
    project: Option<ProjectId>,
    detail: Value,
) -> Answer<Reply> {
    call.server.forget_credentials();
    audit::record(call, "credential.update", account.id, detail);
    let found = call.server.state.catalog.credentials().get(account.id).await;
    let found = found.map_err(|e| changed(call, e))?.ok_or_else(|| unknown(call))?;
    Ok(Reply::object(view(&found, project)))
}

/// The account of the path, wherever it has roles.
async fn account(call: &Call) -> Answer<Credential> {
    let name = call.params.get("clientId").unwrap_or_default();
    let credentials = call.server.state.catalog.credentials();
    let found = credentials.by_public_name(CredentialKind::ServiceAccount, name).await;
    found.map_err(|e| changed(call, e))?.ok_or_else(|| unknown(call))
}

/// The account of the path, which in a project has roles of its own there.
async fn account_of(call: &Call, project: Option<ProjectId>) -> Answer<Credential> {
    let account = account(call).await?;
    let is_here = project.is_none() || account.grants.iter().any(|grant| grant.project == project);
    if is_here { Ok(account) } else { Err(unknown(call)) }
}

/// The account of the path, whose secrets are for whoever asks to change.
async fn account_in_hand(call: &Call) -> Answer<Credential> {
    match place(call)? {
        None => account(call).await,
        Some(project) => access_lists::if_own(account(call).await?, project).ok_or_else(|| unknown(call))?,
    }
}

fn unknown(call: &Call) -> Problem {
    let text: String = call.params.get("clientId").unwrap_or_default().chars().take(64).collect();
    Problem::new(Code::ServiceAccountNotFound).with(text)
}

fn changed(call: &Call, error: catalog::Error) -> Problem {
    match error {
        catalog::Error::NotFound { what: "project", id } => Problem::new(Code::GroupNotFound).with(id),
        catalog::Error::NotFound { .. } => unknown(call),
        catalog::Error::Conflict(full @ catalog::Conflict::SecretsFull(_)) => {
            Problem::new(Code::ValidationError).with(full.to_string())
        }
        other => call.server.catalog_problem("read or change a service account", other),
    }
}

fn hours(fields: &mut Fields) -> Answer<SecretHours> {
    const NAME: &str = "secretExpiresAfterHours";
    let hours = fields.int32(NAME)?.ok_or_else(|| missing(NAME))?;
    SecretHours::new(i64::from(hours)).ok_or_else(|| invalid(NAME))
}

/// `OrgServiceAccount` and `GroupServiceAccount`: with the roles that it has in the place.
fn view(account: &Credential, project: Option<ProjectId>) -> Value {
    let roles = account.grants.iter().filter(|grant| grant.project == project);
    let secrets = account.secrets().into_iter().flat_map(|secrets| secrets.all());
    json!({
        "clientId": account.public_name,
        "createdAt": account.created_at.to_rfc3339(),
        "description": account.description,
        "name": account.name,
        "roles": roles.map(|grant| grant.role.as_str()).collect::<Vec<_>>(),
        "secrets": secrets.map(secret_view).collect::<Vec<_>>(),
    })
}

/// `ServiceAccountSecret`.
fn secret_view(secret: &AccountSecret) -> Value {
    let expires_at = secret.expires_at.map_or_else(|| NEVER.to_owned(), |at| at.to_rfc3339());
    let mut object = json!({
        "createdAt": secret.created_at.to_rfc3339(),
        "expiresAt": expires_at,
        "id": secret.id.to_string(),
        "maskedSecretValue": format!("{MASK}{}", secret.ending),
    });
    if let Some(last) = secret.last_used_at {
        object["lastUsedAt"] = last.to_rfc3339().into();
    }
    object
}
