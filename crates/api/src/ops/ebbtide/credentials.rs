//! API keys and service accounts of a project, managed by its owners. A secret is shown once, when it is made.

use catalog::{Credential, CredentialFilter, CredentialKind, Grant};
use http::Method;
use model::{
    network::AddressBlock,
    role::{Action, Role},
};
use serde_json::{Value, json};

use super::UNVERSIONED;
use crate::{
    access::Scope,
    auth::issue::NewAccount,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{
        Operation, access_lists, audit,
        groups::catalog_page,
        issued::{self, Wanted},
        root,
    },
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

const DESCRIPTION_CHARACTERS_MAX: usize = 250;
const OWNERS: Scope = Scope::Project(&[Action::Own]);

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListCredentials",
        method: Method::GET,
        path: "/groups/{groupId}/credentials",
        versions: UNVERSIONED,
        scope: OWNERS,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideCreateCredential",
        method: Method::POST,
        path: "/groups/{groupId}/credentials",
        versions: UNVERSIONED,
        scope: OWNERS,
        limit: Set::Clusters,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "ebbtideUpdateCredential",
        method: Method::PATCH,
        path: "/groups/{groupId}/credentials/{credentialId}",
        versions: UNVERSIONED,
        scope: OWNERS,
        limit: Set::Clusters,
        run: |call| Box::pin(update(call)),
    },
    Operation {
        id: "ebbtideDeleteCredential",
        method: Method::DELETE,
        path: "/groups/{groupId}/credentials/{credentialId}",
        versions: UNVERSIONED,
        scope: OWNERS,
        limit: Set::Clusters,
        run: |call| Box::pin(delete(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let credentials = call.server.state.catalog.credentials();
    let listing = credentials.list(CredentialFilter::of(call.project_id()?), catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list credentials", e))?;
    let results = listing.items.iter().map(|credential| view(&call, credential)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn create(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["description", "kind", "roles"])?;
    let description = fields.text("description")?.unwrap_or_default();
    if description.chars().count() > DESCRIPTION_CHARACTERS_MAX {
        return Err(invalid("description"));
    }
    let kind = match fields.text("kind")?.as_deref() {
        None | Some("apiKey") => CredentialKind::ApiKey,
        Some("serviceAccount") => CredentialKind::ServiceAccount,
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            return Err(Problem::new(Code::InvalidEnumValue).with(shown));
        }
    };
    let names = fields.texts("roles")?.filter(|roles| !roles.is_empty()).ok_or_else(|| missing("roles"))?;
    let mut grants = names.iter().map(|name| project_grant(name, project)).collect::<Answer<Vec<Grant>>>()?;
    grants.sort_unstable_by_key(|grant| grant.role);
    grants.dedup();
    let wanted = match kind {
        CredentialKind::ApiKey => Wanted::ApiKey { description, grants },
        // One that works until another one is made, by the calls of Atlas.
        CredentialKind::ServiceAccount => {
            Wanted::ServiceAccount(NewAccount { name: description.clone(), description, grants, hours: None })
        }
    };
    let (credential, secret) = issued::make(&call, wanted).await?;
    let detail = json!({"publicName": credential.public_name, "roles": names});
    audit::record(&call, "credential.create", credential.id, detail);
    let mut object = view(&call, &credential);
    let secret_name = match kind {
        CredentialKind::ApiKey => "privateKey",
        CredentialKind::ServiceAccount => "clientSecret",
    };
    object[secret_name] = secret.into();
    Ok(Reply::created(object))
}

/// An owner of a project gives away roles in that project, and nothing beyond it.
fn project_grant(name: &str, project: model::id::ProjectId) -> Answer<Grant> {
    let unknown = || Problem::new(Code::InvalidEnumValue).with(name.chars().take(64).collect::<String>());
    let role: Role = name.parse().map_err(|_| unknown())?;
    if role.is_organization_wide() {
        return Err(Problem::new(Code::AccessForbidden));
    }
    Ok(Grant { role, project: Some(project) })
}

/// Says from where a credential may be used, all at once: an empty list lifts every restriction.
async fn update(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let text = call.params.get("credentialId").unwrap_or_default();
    let unknown = || Problem::new(Code::KeyNotFound).with(text);
    let id = text.parse().map_err(|_| unknown())?;
    let found = call.server.state.catalog.credentials().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a credential", e))?;
    let credential = found.and_then(|found| access_lists::if_own(found, project)).ok_or_else(unknown)??;
    let mut fields = Fields::parse(&call.headers, &call.body, &["accessList"])?;
    let wanted = fields.texts("accessList")?.ok_or_else(|| missing("accessList"))?;
    let parsed = wanted.iter().map(|text| text.parse().map_err(|_| invalid("accessList")));
    let wanted = parsed.collect::<Answer<Vec<AddressBlock>>>()?;
    let before = credential.access.entries().iter().map(|entry| entry.block);
    let gone: Vec<AddressBlock> = before.filter(|block| !wanted.contains(block)).collect();
    let after = access_lists::change(&call, &credential, &gone, &wanted).await?;
    Ok(Reply::object(view(&call, &after)))
}

async fn delete(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let text = call.params.get("credentialId").unwrap_or_default();
    let unknown = || Problem::new(Code::KeyNotFound).with(text);
    let id = text.parse().map_err(|_| unknown())?;
    let credentials = call.server.state.catalog.credentials();
    let fault = |e| call.server.catalog_problem("delete a credential", e);
    let credential = credentials.get(id).await.map_err(fault)?.ok_or_else(unknown)?;
    if !credentials.remove_from(id, project).await.map_err(fault)? {
        return Err(unknown());
    }
    call.server.forget_credentials();
    audit::record(&call, "credential.delete", id, json!({"publicName": credential.public_name}));
    Ok(Reply::no_content())
}

/// With what counts in the project of the path: what a credential may do elsewhere, and from where, is for others to know.
fn view(call: &Call, credential: &Credential) -> Value {
    let here = call.project.as_ref().map(|project| project.id);
    let is_own = credential.grants.iter().all(|grant| grant.project == here);
    let mut shown = credential.clone();
    shown.grants.retain(|grant| grant.project.is_none() || grant.project == here);
    let (kind, name) = match credential.kind() {
        CredentialKind::ApiKey => ("apiKey", "publicKey"),
        CredentialKind::ServiceAccount => ("serviceAccount", "clientId"),
    };
    let entries = credential.access.entries().iter().filter(|_| is_own);
    let access: Vec<String> = entries.map(|entry| entry.block.to_string()).collect();
    let mut object = json!({
        "accessList": access,
        "createdAt": credential.created_at.to_rfc3339(),
        "description": credential.description,
        "id": credential.id.to_string(),
        "kind": kind,
        "roles": root::roles(&shown, &call.server.state.settings.organization.id),
    });
    object[name] = credential.public_name.as_str().into();
    object
}
