//! From which addresses API keys and service accounts may be used.
//!
//! Owners of the organization say it of every credential. Owners of a project say it of service accounts, and by Ebbtide's own
//! paths of API keys, that have roles nowhere else: what they shut out elsewhere would not be theirs to shut out.

use catalog::{Credential, CredentialKind};
use http::Method;
use model::{
    id::ProjectId,
    network::{AccessEntry, AddressBlock},
};
use serde_json::{Value, json};

use super::{
    Operation, SINCE_2023, audit,
    credential_input::{OWNERS, SINCE_ACCOUNTS, operation},
    links,
};
use crate::{
    access::Scope,
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    reply::Reply,
};

const KEYS: &str = "/orgs/{orgId}/apiKeys/{apiUserId}/accessList";
const KEYS_ONE: &str = "/orgs/{orgId}/apiKeys/{apiUserId}/accessList/{ipAddress}";
const ACCOUNTS: &str = "/orgs/{orgId}/serviceAccounts/{clientId}/accessList";
const ACCOUNTS_ONE: &str = "/orgs/{orgId}/serviceAccounts/{clientId}/accessList/{ipAddress}";
const GROUP_ACCOUNTS: &str = "/groups/{groupId}/serviceAccounts/{clientId}/accessList";
const GROUP_ACCOUNTS_ONE: &str = "/groups/{groupId}/serviceAccounts/{clientId}/accessList/{ipAddress}";

pub(super) static OPERATIONS: &[Operation] = &[
    operation(
        "listOrgApiKeyAccessListEntries",
        Method::GET,
        KEYS,
        SINCE_2023,
        Scope::OrganizationOwner,
        |call| Box::pin(list(call)),
    ),
    operation(
        "createOrgApiKeyAccessListEntry",
        Method::POST,
        KEYS,
        SINCE_2023,
        Scope::OrganizationOwner,
        |call| Box::pin(add(call)),
    ),
    operation(
        "getOrgApiKeyAccessListEntry",
        Method::GET,
        KEYS_ONE,
        SINCE_2023,
        Scope::OrganizationOwner,
        |call| Box::pin(get(call)),
    ),
    operation(
        "deleteOrgApiKeyAccessListEntry",
        Method::DELETE,
        KEYS_ONE,
        SINCE_2023,
        Scope::OrganizationOwner,
        |call| Box::pin(remove(call)),
    ),
    operation(
        "listOrgServiceAccountAccessList",
        Method::GET,
        ACCOUNTS,
        SINCE_ACCOUNTS,
        Scope::OrganizationOwner,
        |call| Box::pin(list(call)),
    ),
    operation(
        "createOrgServiceAccountAccessList",
        Method::POST,
        ACCOUNTS,
        SINCE_ACCOUNTS,
        Scope::OrganizationOwner,
        |call| Box::pin(add(call)),
    ),
    operation(
        "deleteOrgServiceAccountAccessEntry",
        Method::DELETE,
        ACCOUNTS_ONE,
        SINCE_ACCOUNTS,
        Scope::OrganizationOwner,
        |call| Box::pin(remove(call)),
    ),
    operation(
        "listGroupServiceAccountAccessList",
        Method::GET,
        GROUP_ACCOUNTS,
        SINCE_ACCOUNTS,
        OWNERS,
        |call| Box::pin(list(call)),
    ),
    operation(
        "createGroupServiceAccountAccessList",
        Method::POST,
        GROUP_ACCOUNTS,
        SINCE_ACCOUNTS,
        OWNERS,
        |call| Box::pin(add(call)),
    ),
    operation(
        "deleteGroupServiceAccountAccessEntry",
        Method::DELETE,
        GROUP_ACCOUNTS_ONE,
        SINCE_ACCOUNTS,
        OWNERS,
        |call| Box::pin(remove(call)),
    ),
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let credential = credential(&call).await?;
    Ok(shown(&call, &credential, credential.access.entries(), asked))
}

async fn get(call: Call) -> Answer<Reply> {
    let credential = credential(&call).await?;
    let block = named(&call)?;
    let entry = credential.access.entry(block).ok_or_else(|| unknown(&call))?;
    Ok(Reply::object(view(&call, &credential, entry)))
}

/// Answers with the whole list, as Atlas does.
async fn add(call: Call) -> Answer<Reply> {
    let credential = credential(&call).await?;
    let mut blocks = Vec::new();
    for mut item in Fields::parse_list(&call.headers, &call.body, &["cidrBlock", "ipAddress"])? {
        let (field, text) = match (item.text("cidrBlock")?, item.text("ipAddress")?) {
            (Some(cidr), None) => ("cidrBlock", cidr),
            (None, Some(address)) => ("ipAddress", address),
            _ => return Err(Problem::new(Code::MissingOneOfAttributes).with("cidrBlock").with("ipAddress")),
        };
        let block: AddressBlock = text.parse().map_err(|_| invalid(field))?;
        if field == "ipAddress" && text.contains('/') {
            return Err(invalid(field));
        }
        blocks.push(block);
    }
    let after = change(&call, &credential, &[], &blocks).await?;
    Ok(shown(&call, &after, after.access.entries(), PageRequest::FIRST))
}

async fn remove(call: Call) -> Answer<Reply> {
    let credential = credential(&call).await?;
    let block = named(&call)?;
    credential.access.entry(block).ok_or_else(|| unknown(&call))?;
    change(&call, &credential, &[block], &[]).await?;
    Ok(Reply::no_content())
}

/// Changes the list of a credential, says so, and gives the credential as it is then.
pub(super) async fn change(
    call: &Call,
    credential: &Credential,
    remove: &[AddressBlock],
    add: &[AddressBlock],
) -> Answer<Credential> {
    let credentials = call.server.state.catalog.credentials();
    let changed = credentials.change_access(credential.id, remove, add, call.server.now()).await;
    let access = changed.map_err(|e| match e {
        catalog::Error::NotFound { id, .. } => Problem::new(Code::KeyNotFound).with(id),
        catalog::Error::Conflict(full @ catalog::Conflict::AccessListFull) => {
            Problem::new(Code::ValidationError).with(full.to_string())
        }
        other => call.server.catalog_problem("change an access list", other),
    })?;
    call.server.forget_credentials();
    let blocks: Vec<String> = access.entries().iter().map(|entry| entry.block.to_string()).collect();
    let detail = json!({"publicName": credential.public_name, "accessList": blocks});
    audit::record(call, "credential.access", credential.id, detail);
    Ok(Credential { access, ..credential.clone() })
}

/// The credential of the path, if whoever asks may say from where it is used.
async fn credential(call: &Call) -> Answer<Credential> {
    let settings = &call.server.state.settings;
    if let Some(organization) = call.params.get("orgId")
        && organization != settings.organization.id
    {
        return Err(Problem::new(Code::OrgNotFound).with(organization));
    }
    let credentials = call.server.state.catalog.credentials();
    let fault = |e| call.server.catalog_problem("read a credential", e);
    if let Some(text) = call.params.get("apiUserId") {
        let missing = || Problem::new(Code::KeyNotFound).with(text);
        let id = text.parse().map_err(|_| missing())?;
        let found = credentials.get(id).await.map_err(fault)?;
        return found.filter(|found| found.kind() == CredentialKind::ApiKey).ok_or_else(missing);
    }
    let name = call.params.get("clientId").unwrap_or_default();
    let short: String = name.chars().take(64).collect();
    let missing = || Problem::new(Code::ServiceAccountNotFound).with(short.as_str());
    let found = credentials.by_public_name(CredentialKind::ServiceAccount, name).await.map_err(fault)?;
    let found = found.ok_or_else(missing)?;
    match &call.project {
        None => Ok(found),
        Some(project) => if_own(found, project.id).ok_or_else(missing)?,
    }
}

/// A credential of a project: none when it has no role there, an error when it has roles elsewhere too.
pub(super) fn if_own(credential: Credential, project: ProjectId) -> Option<Answer<Credential>> {
    let (here, elsewhere): (Vec<&catalog::Grant>, Vec<&catalog::Grant>) =
        credential.grants.iter().partition(|grant| grant.project == Some(project));
    if here.is_empty() {
        return None;
    }
    Some(if elsewhere.is_empty() { Ok(credential) } else { Err(Problem::new(Code::AccessForbidden)) })
}

/// The addresses that the path names.
fn named(call: &Call) -> Answer<AddressBlock> {
    let text = call.params.get("ipAddress").unwrap_or_default();
    text.parse().map_err(|_| unknown(call))
}

fn unknown(call: &Call) -> Problem {
    let text: String = call.params.get("ipAddress").unwrap_or_default().chars().take(64).collect();
    Problem::new(Code::AccessListEntryNotFound).with(text)
}

fn shown(call: &Call, credential: &Credential, entries: &[AccessEntry], asked: PageRequest) -> Reply {
    let listed = asked.slice(entries.iter().map(|entry| view(call, credential, entry)).collect());
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Reply::page(page(&at, asked, listed.items, listed.total))
}

/// `UserAccessListResponse`, `ServiceAccountIPAccessListEntry`. Nobody counts what is asked from where: the audit log and the log
/// tell it.
fn view(call: &Call, credential: &Credential, entry: &AccessEntry) -> Value {
    let (block, since) = (entry.block.cidr_in_full(), entry.created_at.to_rfc3339());
    let mut object = match credential.kind() {
        CredentialKind::ApiKey => {
            let organization = &call.server.state.settings.organization.id;
            let named = block.replace('/', "%2F");
            let path = format!("/orgs/{organization}/apiKeys/{}/accessList/{named}", credential.id);
            json!({ "cidrBlock": block, "created": since, "links": [links::own(call.link(&path))] })
        }
        // At Atlas, these have no links.
        CredentialKind::ServiceAccount => json!({ "cidrBlock": block, "createdAt": since }),
    };
    if let Some(address) = entry.block.single_in_full() {
        object["ipAddress"] = address.into();
    }
    object
}
