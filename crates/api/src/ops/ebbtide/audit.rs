//! Who changed what. A project's part of it may be read by whoever may read the project, as the events of a project at Atlas;
//! all of it by owners of the organization.

use catalog::{AuditEntry, AuditFilter};
use http::Method;
use model::{WallTime, id::ProjectId, role::Action};
use serde_json::{Value, json};

use super::UNVERSIONED;
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    json::without_nulls,
    ops::{self, Operation, groups::catalog_page},
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

/// What the operations of the command line on the data directory begin with.
const COMMANDS: &str = "admin ";
/// So much of a wrong value is shown back.
const SHOWN_CHARACTERS: usize = 64;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListAudit",
        method: Method::GET,
        path: "/audit",
        versions: UNVERSIONED,
        scope: Scope::OrganizationOwner,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideListGroupAudit",
        method: Method::GET,
        path: "/groups/{groupId}/audit",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let filter = filter(&call)?;
    let listing = call.server.state.catalog.audit().list(&filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("read the audit log", e))?;
    let results = listing.items.iter().map(view).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

/// What the query asks for, within the project of the path.
fn filter(call: &Call) -> Answer<AuditFilter> {
    let operation = call.query.get("operation");
    let known = |name: &str| {
        name.starts_with(COMMANDS) || ops::atlas().chain(ops::own()).any(|operation| operation.id == name)
    };
    if let Some(name) = operation.filter(|name| !known(name)) {
        return Err(Problem::new(Code::InvalidEnumValue).with(shown(name)));
    }
    Ok(AuditFilter {
        project: call.project.as_ref().map(|project| project.id),
        operation: operation.map(str::to_owned),
        from: time(call, "minDate")?,
        // Lines show whole seconds: the one that is named belongs to what is asked for.
        until: time(call, "maxDate")?.map(|time| time.plus_ms(if time.0 % 1000 == 0 { 1000 } else { 1 })),
    })
}

fn time(call: &Call, name: &'static str) -> Answer<Option<WallTime>> {
    let Some(text) = call.query.get(name) else { return Ok(None) };
    let read = WallTime::parse_rfc3339(text);
    read.map(Some).ok_or_else(|| Problem::new(Code::InvalidDateFormat).with(shown(text)))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

fn view(entry: &AuditEntry) -> Value {
    let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    without_nulls(&json!({
        "action": said(&entry.action),
        "at": entry.at.to_rfc3339(),
        "detail": entry.detail,
        "errorCode": entry.error_code,
        "from": said(&entry.origin),
        "id": entry.id.to_string(),
        "operation": said(&entry.operation),
        "outcome": entry.outcome.as_str(),
        "projectId": entry.project.as_ref().map(ProjectId::to_string),
        "resource": said(&entry.resource),
        "status": entry.status,
        "subject": said(&entry.subject),
        "who": entry.who,
    }))
}
