//! What is served, told to programs and to people: an OpenAPI document and a table of what is there of the Atlas API. Both are
//! made of the table of operations, so they cannot tell of one that is not served, or leave one out.

mod coverage;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use coverage::Coverage;

use crate::{
    ops::{self, Operation},
    router::{ATLAS, OWN},
    version::Version,
};
use coverage::{Described, GROUPS};

/// The version of OpenAPI that the document keeps to.
const OPENAPI: &str = "3.0.3";
/// Parameters of queries that every operation of Atlas takes.
const OF_ALL: [&str; 2] = ["envelope", "pretty"];

/// An operation with what is said of it.
struct Told {
    tag: &'static str,
    described: &'static Described,
    operation: &'static Operation,
    prefix: &'static str,
}

/// All of them, by group.
fn told() -> impl Iterator<Item = Told> {
    GROUPS.iter().flat_map(|group| {
        group.operations.iter().filter_map(|described| {
            let found = |mut all: Box<dyn Iterator<Item = &'static Operation>>| {
                all.find(|operation| operation.id == described.id)
            };
            let of_atlas = found(Box::new(ops::atlas())).map(|operation| (operation, ATLAS[0].0));
            let (operation, prefix) =
                of_atlas.or_else(|| found(Box::new(ops::own())).map(|operation| (operation, OWN)))?;
            Some(Told { tag: group.tag, described, operation, prefix })
        })
    })
}

/// The document: every operation under its current prefix, with its parameters, its resource versions, the statuses of its
/// successes, and how much of it is there. Bodies of the Atlas API are described by its documentation, and answers by ours; here
/// they are objects.
pub fn document(version: &str) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for told in told() {
        let path = format!("{}{}", told.prefix, told.operation.path);
        let method = told.operation.method.as_str().to_ascii_lowercase();
        paths.entry(path).or_default().insert(method, operation(&told));
    }
    for (path, summary) in [
        ("/api/oauth/token", "Get an access token of a service account"),
        ("/api/oauth/revoke", "Revoke one"),
    ] {
        paths.entry(path.to_owned()).or_default().insert("post".to_owned(), of_oauth(path, summary));
    }
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Ebbtide",
            "version": version,
            "description": "Backup and restore for MongoDB. What is below /api/atlas/v2 is of the Atlas Administration API; the \
                            resource version is the date in the Accept header.",
        },
        "tags": GROUPS.iter().map(|group| json!({ "name": group.tag })).collect::<Vec<_>>(),
        "security": [{ "DigestAuth": [] }, { "ServiceAccounts": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "DigestAuth": { "type": "http", "scheme": "digest" },
                "ServiceAccountSecret": { "type": "http", "scheme": "basic" },
                "ServiceAccounts": {
                    "type": "oauth2",
                    "flows": { "clientCredentials": { "tokenUrl": "/api/oauth/token", "scopes": {} } },
                },
            },
            "parameters": {
                "envelope": flag("envelope", "Whether the answer is put into an envelope with its status."),
                "pretty": flag("pretty", "Whether the answer is laid out for people."),
            },
            "schemas": {
                "ApiError": {
                    "type": "object",
                    "required": ["error", "errorCode"],
                    "properties": {
                        "detail": { "type": "string" },
                        "error": { "type": "integer" },
                        "errorCode": { "type": "string" },
                        "parameters": { "type": "array", "items": {} },
                        "reason": { "type": "string" },
                    },
                },
                "OAuthError": {
                    "type": "object",
                    "required": ["error", "error_description"],
                    "properties": {
                        "error": { "type": "string" },
                        "error_description": { "type": "string" },
                    },
                },
                "Envelope": {
                    "type": "object",
                    "required": ["status", "content"],
                    "properties": {
                        "content": { "$ref": "#/components/schemas/ApiError" },
                        "status": { "type": "integer" },
                    },
                },
            },
            "responses": {
                "error": {
                    "description": "What is wrong, and what to do.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "anyOf": [
                                    { "$ref": "#/components/schemas/ApiError" },
                                    { "$ref": "#/components/schemas/Envelope" },
                                ],
                            },
                        },
                    },
                },
                "oauthError": {
                    "description": "What is wrong, as RFC 6749 has it.",
                    "content": {
                        "application/json": { "schema": { "$ref": "#/components/schemas/OAuthError" } },
                    },
                },
            },
        },
    })
}

fn operation(told: &Told) -> Value {
    let Told { tag, described, operation, prefix } = told;
    let mut parameters: Vec<Value> = names_in(operation.path).map(in_path).collect();
    if *prefix != OWN {
        parameters.extend(OF_ALL.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })));
    }
    parameters.extend(requests::parameters(operation));
    let mut responses = Map::new();
    for status in requests::successes(operation) {
        let schema = if *status == 204 { json!({}) } else { object() };
        let media: Map<String, Value> = match operation.versions {
            [] => std::iter::once(("application/json".to_owned(), schema)).collect(),
            versions => versions.iter().map(|version| content(version, &schema)).collect(),
        };
        responses.insert(status.to_string(), json!({ "description": "Done.", "content": media }));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/error" }));
    let mut told = json!({
        "operationId": operation.id,
        "tags": [tag],
        "summary": described.summary,
        "parameters": parameters,
        "responses": responses,
        "x-ebbtide-coverage": described.coverage.word(),
    });
    if let Some(body) = requests::body(operation) {
        told["requestBody"] = body;
    }
    if let Some(why) = described.coverage.why() {
        told["x-ebbtide-coverage-detail"] = why.into();
    }
    if !operation.versions.is_empty() && operation.versions.iter().all(|v| v.deprecation.is_some()) {
        told["deprecated"] = true.into();
    }
    told
}

fn of_oauth(path: &str, summary: &str) -> Value {
    // What is revoked leaves nothing to tell.
    let mut done = json!({ "description": "Done." });
    if path.ends_with("token") {
        done["content"] = json!({ "application/json": object() });
    }
    json!({
        "operationId": if path.ends_with("token") { "createOAuthToken" } else { "revokeOAuthToken" },
        "tags": ["OAuth"],
        "summary": summary,
        // Or the id and the secret in the body.
        "security": [{ "ServiceAccountSecret": [] }, {}],
        "requestBody": requests::form(path),
        "responses": {
            "200": done,
            "default": { "$ref": "#/components/responses/oauthError" },
        },
    })
}

/// The names of parameters in a path.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn flag(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": { "type": "boolean", "default": false },
    })
}

fn object() -> Value {
    json!({ "schema": { "type": "object" } })
}

/// A resource version by its media type.
fn content(version: &Version, schema: &Value) -> (String, Value) {
    let mut content = schema.clone();
    if let Some(sunset) = version.sunset {
        content["x-sunset"] = sunset.into();
    }
    (format!("application/vnd.atlas.{}+json", version.date), content)
}

/// What is there of the Atlas API, operation by operation, as a page in Markdown.
pub fn coverage_page() -> String {
    let mut page = String::from(
        "# What is there of the Atlas API\n\n\
         Made by `ebbtide openapi --coverage` out of the operations that are served. `ebbtide openapi` prints them all as an OpenAPI\n\
         document.\n\n\
         real: it does what Atlas does, to a deployment of your own. partial: it does, but for what is said. refused: a server of\n\
         your own has no such thing, and the answer says so.\n",
    );
    for group in GROUPS {
        page.push_str(&format!(
            "\n## {}\n\n| operation | | there | what there is to know |\n|---|---|---|---|\n",
            group.tag
        ));
        for told in told().filter(|told| told.tag == group.tag) {
            let Told { described, operation, prefix, .. } = told;
            page.push_str(&format!(
                "| {}<br>`{} {prefix}{}` | `{}` | {} | {} |\n",
                described.summary,
                operation.method,
                operation.path,
                operation.id,
                described.coverage.word(),
                described.coverage.why().unwrap_or_default(),
            ));
        }
    }
    page
}
