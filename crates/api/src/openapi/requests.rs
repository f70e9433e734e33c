//! What requests carry beside their path, and with which statuses they succeed. Bodies of the Atlas API are described by its own
//! documentation, those of Ebbtide's own operations here.

use http::Method;
use model::{
    DeploymentKind, RestoreWindowDays, Retention, account::SecretHours,
    deployment::DEPLOYMENT_NAME_CHARACTERS_MAX, network::AccessList, restore::DeliveryType, role::Role,
};
use serde_json::{Value, json};

use crate::{
    ops::Operation,
    page::{ITEMS_PER_PAGE_DEFAULT, ITEMS_PER_PAGE_MAX, PAGE_NUM_MAX},
};

/// Lists without pages, as at Atlas, and one with a mark to go on from.
const WITHOUT_PAGES: [&str; 3] = [
    "listGroupClusterBackupSnapshotShardedClusters",
    "listGroupBackupPrivateEndpoints",
    "ebbtideListDocumentVersions",
];
/// What makes something and says so, and when it says instead what would be made.
static MAKING: [(&str, &[u16]); 10] = [
    ("createGroupClusterCollectionRestoreJob", &[201]),
    ("createOrgServiceAccount", &[201]),
    ("createOrgServiceAccountSecret", &[201]),
    ("createGroupServiceAccount", &[201]),
    ("createGroupServiceAccountSecret", &[201]),
    ("ebbtideCreateProject", &[201]),
    ("ebbtideCreateCredential", &[201]),
    ("ebbtideTakeSnapshot", &[201]),
    ("ebbtideAddCluster", &[200, 201]),
    ("ebbtideCreateRestoreJob", &[200, 201]),
];
/// The one DELETE that answers with what is left.
const SHOWS_WHAT_IS_LEFT: &str = "deleteGroupClusterBackupSchedule";

/// The statuses of its successes.
pub(super) fn successes(operation: &Operation) -> &'static [u16] {
    match MAKING.iter().find(|(id, _)| *id == operation.id) {
        Some((_, statuses)) => statuses,
        None if operation.method == Method::DELETE && operation.id != SHOWS_WHAT_IS_LEFT => &[204],
        None => &[200],
    }
}

/// The parameters of its query, but for those that all operations have.
pub(super) fn parameters(operation: &Operation) -> Vec<Value> {
    let is_list = ["list", "ebbtideList"].iter().any(|word| operation.id.starts_with(word));
    let mut all = Vec::new();
    if is_list && !WITHOUT_PAGES.contains(&operation.id) {
        all.extend([
            number("pageNum", "Which page of the list.", PAGE_NUM_MAX, 1),
            number(
                "itemsPerPage",
                "How many items are on a page.",
                ITEMS_PER_PAGE_MAX,
                ITEMS_PER_PAGE_DEFAULT,
            ),
            flag("includeCount", "Whether the answer tells how many items there are in all.", true),
        ]);
    }
    all.extend(own_parameters(operation.id));
    all
}

fn own_parameters(id: &str) -> Vec<Value> {
    const AT: &str = "A point in time: an RFC 3339 date, seconds, or SECONDS,INCREMENT.";
    const MOST: &str = "The most that is shown.";
    let relaxed = || flag("relaxed", "Whether documents are written as relaxed Extended JSON.", false);
    let namespace = || text("namespace", true, "DATABASE.COLLECTION, as it was called then.");
    let document = || text("id", true, "The _id of the document, as Extended JSON.");
    let limit = || number("limit", MOST, 1_000, 100);
    match id {
        "ebbtideGetDocument" => vec![
            namespace(),
            document(),
            text("at", true, AT),
            relaxed(),
            flag("bson", "Whether the document comes as BSON as well, in base64.", false),
        ],
        "ebbtideListDocumentVersions" => vec![
            namespace(),
            document(),
            text("from", false, AT),
            text("to", false, AT),
            limit(),
            flag("documents", "Whether each version comes with the whole document.", false),
            relaxed(),
        ],
        "ebbtideCompareCollection" => {
            vec![namespace(), text("from", true, AT), text("to", true, AT), limit(), relaxed()]
        }
        "ebbtideRemoveCluster" => {
            vec![flag("force", "Whether what jobs have left in the deployment is let be.", false)]
        }
        _ => vec![],
    }
}

fn in_query(name: &str, is_required: bool, description: &str, schema: Value) -> Value {
    json!({
        "name": name, "in": "query", "required": is_required, "description": description, "schema": schema,
    })
}

/// A flag in a query.
fn flag(name: &str, description: &str, default: bool) -> Value {
    in_query(name, false, description, json!({ "type": "boolean", "default": default }))
}

fn text(name: &str, is_required: bool, description: &str) -> Value {
    in_query(name, is_required, description, json!({ "type": "string", "minLength": 1 }))
}

fn number(name: &str, description: &str, max: u64, default: u64) -> Value {
    let schema = json!({ "type": "integer", "minimum": 1, "maximum": max, "default": default });
    in_query(name, false, description, schema)
}

/// The body that it takes, if it takes one.
pub(super) fn body(operation: &Operation) -> Option<Value> {
    let takes_one = [Method::POST, Method::PATCH, Method::PUT].contains(&operation.method);
    takes_one.then(|| {
        let schema = own_body(operation.id).unwrap_or_else(|| json!({ "type": "object" }));
        json!({ "required": true, "content": { "application/json": { "schema": schema } } })
    })
}

/// Bodies are read strictly: what is not named is refused.
fn closed(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Roles in the organization, or in a project; at least one.
fn roles_of(organization: bool) -> Value {
    let roles = Role::ALL.iter().filter(|role| role.is_organization_wide() == organization);
    let roles: Vec<_> = roles.map(|role| role.as_str()).collect();
    json!({ "type": "array", "minItems": 1, "items": { "type": "string", "enum": roles } })
}

fn described() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 250 })
}

fn secret_hours() -> Value {
    json!({ "type": "integer", "minimum": SecretHours::MIN, "maximum": SecretHours::MAX })
}

fn own_body(id: &str) -> Option<Value> {
    let kinds = [DeploymentKind::ReplicaSet, DeploymentKind::Serverless, DeploymentKind::Flex];
    let kinds = kinds.map(DeploymentKind::as_str);
    let continuous = || {
        closed(
            &[],
            json!({
                "pitEnabled": { "type": "boolean" },
                "restoreWindowDays": { "type": "integer", "minimum": 1, "maximum": RestoreWindowDays::MAX.days() },
            }),
        )
    };
    let uri = || json!({ "type": "string", "description": "A connection string; it is kept sealed." });
    let schema = match id {
        "ebbtideCreateProject" => {
            closed(&["name"], json!({ "name": { "type": "string", "minLength": 1, "maxLength": 64 } }))
        }
        "ebbtideCreateCredential" => closed(
            &["roles"],
            json!({
                "description": { "type": "string", "maxLength": 250 },
                "kind": { "type": "string", "enum": ["apiKey", "serviceAccount"], "default": "apiKey" },
                "roles": roles_of(false),
            }),
        ),
        "ebbtideUpdateCredential" => closed(
            &["accessList"],
            json!({ "accessList": { "type": "array", "maxItems": AccessList::ENTRIES_MAX, "items": { "type": "string" } } }),
        ),
        "createOrgApiKey" | "updateOrgApiKey" | "createGroupApiKey" | "updateGroupApiKeyRoles" => {
            let is_new = id.starts_with("create");
            let of_organization = id.contains("Org");
            let required: &[&str] = if is_new { &["desc", "roles"] } else { &[] };
            closed(required, json!({ "desc": described(), "roles": roles_of(of_organization) }))
        }
        "addGroupApiKey" => {
            let id = json!({ "type": "string", "pattern": "^[0-9a-f]{24}$" });
            let entry = closed(&["roles"], json!({ "apiUserId": id, "roles": roles_of(false) }));
            json!({ "type": "array", "minItems": 1, "maxItems": 100, "items": entry })
        }
        "createOrgServiceAccount" | "createGroupServiceAccount" => closed(
            &["description", "name", "roles", "secretExpiresAfterHours"],
            json!({
                "description": described(),
                "name": described(),
                "roles": roles_of(id.contains("Org")),
                "secretExpiresAfterHours": secret_hours(),
            }),
        ),
        "updateOrgServiceAccount" | "updateGroupServiceAccount" => {
            let roles = roles_of(id.contains("Org"));
            closed(&[], json!({ "description": described(), "name": described(), "roles": roles }))
        }
        "inviteGroupServiceAccount" => closed(&["roles"], json!({ "roles": roles_of(false) })),
        "createOrgServiceAccountSecret" | "createGroupServiceAccountSecret" => {
            closed(&["secretExpiresAfterHours"], json!({ "secretExpiresAfterHours": secret_hours() }))
        }
        "createOrgApiKeyAccessListEntry"
        | "createOrgServiceAccountAccessList"
        | "createGroupServiceAccountAccessList" => {
            let address = || json!({ "type": "string" });
            let entry = closed(&[], json!({ "cidrBlock": address(), "ipAddress": address() }));
            json!({ "type": "array", "maxItems": AccessList::ENTRIES_MAX, "items": entry })
        }
        "ebbtideAddCluster" => closed(
            &["name", "uri"],
            json!({
                "allowUntestedVersion": { "type": "boolean", "default": false },
                "continuousBackup": continuous(),
                "dryRun": { "type": "boolean", "default": false },
                "kind": {
                    "type": "string",
                    "enum": kinds,
                },
                "name": { "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9-]*$", "maxLength": DEPLOYMENT_NAME_CHARACTERS_MAX },
                "uri": uri(),
            }),
        ),
        "ebbtideUpdateCluster" => closed(&[], json!({ "continuousBackup": continuous(), "uri": uri() })),
        "ebbtideTakeSnapshot" => closed(
            &[],
            json!({
                "description": { "type": "string", "maxLength": 1_024 },
                "links": { "type": "array", "items": {} },
                "retentionInDays": { "type": "integer", "minimum": 1, "maximum": Retention::DAYS_MAX },
            }),
        ),
        "ebbtideCreateRestoreJob" => restore_job(),
        _ => return None,
    };
    Some(schema)
}

/// What Atlas has, and what it has not. Read-only fields of it are taken too, and not looked at.
fn restore_job() -> Value {
    let id = || json!({ "type": "string", "pattern": "^[a-f0-9]{24}$" });
    let choice = |default: bool| json!({ "type": "boolean", "default": default });
    let deliveries = [DeliveryType::Automated, DeliveryType::Download, DeliveryType::PointInTime];
    let deliveries = deliveries.map(DeliveryType::as_str);
    json!({
        "type": "object",
        "required": ["deliveryType"],
        "properties": {
            "deliveryType": { "type": "string", "enum": deliveries },
            "dryRun": choice(false),
            "fence": { "type": "string", "enum": ["auto", "off"] },
            "inPlace": choice(false),
            "indexCommitQuorum": {},
            "indexDeadlineSeconds": { "type": "integer", "minimum": 1, "maximum": 604_800 },
            "oplogInc": { "type": "integer", "minimum": 1 },
            "oplogTs": { "type": "integer", "minimum": 1_199_145_600 },
            "parkTtl": { "type": "boolean" },
            "planOnly": choice(false),
            "pointInTimeUTCSeconds": { "type": "integer", "minimum": 1_199_145_600 },
            "rewind": { "type": "string", "enum": ["auto", "only", "off"] },
            "selection": closed(
                &["namespaces"],
                json!({
                    "namespaces": { "type": "array", "minItems": 1, "items": { "type": "string" } },
                    "overwrite": choice(false),
                    "renames": {
                        "type": "array",
                        "items": closed(
                            &["from", "to"],
                            json!({ "from": { "type": "string" }, "to": { "type": "string" } }),
                        ),
                    },
                }),
            ),
            "snapshotId": id(),
            "targetClusterName": { "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9-]*$" },
            "targetGroupId": id(),
            "withUsers": choice(false),
        },
    })
}

/// The bodies of the token endpoint and of the one that revokes.
pub(super) fn form(path: &str) -> Value {
    let text = || json!({ "type": "string" });
    let mut properties = json!({ "client_id": text(), "client_secret": text() });
    let required = if path.ends_with("token") {
        properties["grant_type"] = json!({ "type": "string", "enum": ["client_credentials"] });
        "grant_type"
    } else {
        properties["token"] = text();
        "token"
    };
    json!({
        "required": true,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": { "type": "object", "required": [required], "properties": properties },
            },
        },
    })
}
