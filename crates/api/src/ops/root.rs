//! `GET /api/atlas/v2`: who am I, and is anybody there.

use catalog::{Credential, CredentialKind};
use http::Method;
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, links};
use crate::{access::Scope, error::Answer, gate::Call, rate::Set, reply::Reply};

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "getSystemStatus",
    method: Method::GET,
    path: "",
    versions: SINCE_2023,
    scope: Scope::Known,
    limit: Set::Clusters,
    run: |call| Box::pin(status(call)),
}];

async fn status(call: Call) -> Answer<Reply> {
    Ok(Reply::object(json!({
        "apiKey": api_key(&call.credential, &call.server.state.settings.organization.id),
        "appName": "MongoDB Atlas",
        "build": call.server.state.settings.git_hash,
        "links": [links::own(call.link("")), links::other("orgs", call.link("/orgs")), links::other("groups", call.link("/groups"))],
        "throttling": false,
    })))
}

fn api_key(credential: &Credential, organization: &str) -> Value {
    // A public key has eight characters in the schema; the id of a service account is longer.
    let name = match credential.kind() {
        CredentialKind::ApiKey => credential.public_name.as_str(),
        CredentialKind::ServiceAccount => {
            let from = credential.public_name.len().saturating_sub(8);
            credential.public_name.get(from..).unwrap_or_default()
        }
    };
    let from = credential.access.entries().iter().map(
        |entry| json!({ "cidrBlock": entry.block.cidr_in_full(), "ipAddress": entry.block.single_in_full() }),
    );
    json!({
        "accessList": from.collect::<Vec<_>>(),
        "id": credential.id.to_string(),
        "publicKey": name,
        "roles": roles(credential, organization),
    })
}

/// The roles of a credential, each with where it holds.
pub(super) fn roles(credential: &Credential, organization: &str) -> Vec<Value> {
    let role = |grant: &catalog::Grant| match grant.project {
        Some(project) => json!({"groupId": project.to_string(), "roleName": grant.role.as_str()}),
        None => json!({"orgId": organization, "roleName": grant.role.as_str()}),
    };
    credential.grants.iter().map(role).collect()
}
