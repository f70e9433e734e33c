//! How the server is, and what was changed by whom.

use http::Method;
use serde_json::json;

use super::UNVERSIONED;
use crate::{
    access::Scope,
    error::Answer,
    gate::Call,
    json,
    ops::{Operation, groups::catalog_page},
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideStatus",
        method: Method::GET,
        path: "/status",
        versions: UNVERSIONED,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(status(call)),
    },
    Operation {
        id: "ebbtideListAudit",
        method: Method::GET,
        path: "/audit",
        versions: UNVERSIONED,
        scope: Scope::OrganizationOwner,
        limit: Set::Clusters,
        run: |call| Box::pin(audit(call)),
    },
];

async fn status(call: Call) -> Answer<Reply> {
    let settings = &call.server.state.settings;
    Ok(Reply::object(json!({
        "engine": (call.server.state.engine_status)(),
        "gitHash": settings.git_hash,
        "time": call.server.now().to_rfc3339(),
        "version": settings.server_version,
    })))
}

async fn audit(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let listing = call.server.state.catalog.audit().list(catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("read the audit log", e))?;
    let view = |entry: &catalog::AuditEntry| {
        json!({
            "action": entry.action,
            "at": entry.at.to_rfc3339(),
            "detail": json::without_nulls(&entry.detail),
            "outcome": entry.outcome,
            "subject": entry.subject,
            "who": entry.who,
        })
    };
    let results = listing.items.iter().map(view).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}
