//! Rate limits, as they are configured. Each set of operations has a bucket of tokens per project, of the same size in all
//! of them.

use http::Method;
use model::{id::ProjectId, role::Action};
use serde_json::{Value, json};

use super::Operation;
use crate::{
    access::{self, Scope},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::{Bucket, RateLimits, Set},
    reply::Reply,
    version::Version,
};

const VERSIONS: &[Version] = &[Version::current(2025, 3, 12)];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listRateLimits",
        method: Method::GET,
        path: "/rateLimits",
        versions: VERSIONS,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getRateLimit",
        method: Method::GET,
        path: "/rateLimits/{endpointSetId}",
        versions: VERSIONS,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
];

/// A set of operations that share a bucket.
struct EndpointSet {
    id: &'static str,
    name: &'static str,
    set: Set,
    bucket: fn(&RateLimits) -> Bucket,
}

/// Requests for tokens have a limit too, but are no endpoints of this API.
const SETS: [EndpointSet; 2] = [
    EndpointSet { id: "cloudBackups_group", name: "Cloud Backups", set: Set::Backups, bucket: |l| l.backups },
    EndpointSet { id: "clusters_group", name: "Clusters", set: Set::Clusters, bucket: |l| l.clusters },
];
/// Longest list of endpoints that the schema allows.
const ENDPOINTS_MAX: usize = 100;

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let in_scope = is_about_a_project(&call).await?;
    let names = call.query.all("name");
    let paths = call.query.all("endpointPath");
    let fits = |set: &&EndpointSet| {
        (names.is_empty() || names.contains(&set.name))
            && (paths.is_empty() || endpoints(set.set).any(|(_, path)| paths.contains(&path.as_str())))
    };
    let found = match &call.server.state.settings.rate_limits {
        Some(limits) if in_scope => SETS.iter().filter(fits).map(|set| view(set, limits)).collect(),
        _ => vec![],
    };
    let listed = asked.slice(found);
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, listed.items, listed.total)))
}

async fn get(call: Call) -> Answer<Reply> {
    is_about_a_project(&call).await?;
    let id = call.params.get("endpointSetId").unwrap_or_default();
    let set = SETS.iter().find(|set| set.id == id);
    let found = set.zip(call.server.state.settings.rate_limits.as_ref());
    let (set, limits) = found.ok_or_else(|| {
        let shown: String = id.chars().take(64).collect();
        Problem::new(Code::ResourceNotFound).with(shown)
    })?;
    Ok(Reply::object(view(set, limits)))
}

/// Whether sets of projects are asked for: all of ours are. Whoever asks about a project has to see it.
async fn is_about_a_project(call: &Call) -> Answer<bool> {
    if let Some(text) = call.query.get("groupId") {
        let wrong = |_| Problem::new(Code::InvalidQueryParameter).with("groupId");
        let id: ProjectId = text.parse().map_err(wrong)?;
        let project = call.server.project(id).await?;
        access::require(&call.credential, project.id, &[Action::Read])?;
    }
    Ok(!["orgId", "userId", "ipAddress"].iter().any(|name| call.query.get(name).is_some()))
}

/// `RateLimitEndpointSetResponse`.
fn view(set: &EndpointSet, limits: &RateLimits) -> Value {
    let (is, usual) = ((set.bucket)(limits), (set.bucket)(&RateLimits::default()));
    json!({
        "capacity": value(is.capacity, usual.capacity),
        "endpointSetId": set.id,
        "endpointSetName": set.name,
        "endpoints": endpoints(set.set)
            .take(ENDPOINTS_MAX)
            .map(|(method, path)| json!({"method": method.as_str(), "path": path}))
            .collect::<Vec<_>>(),
        "refillDurationSeconds": value(is.period_seconds, usual.period_seconds),
        "refillRate": value(is.refill, usual.refill),
        "scope": "GROUP",
    })
}

/// A value, and beside it the usual one where it is another.
fn value(is: u32, usual: u32) -> Value {
    if is == usual { json!({"value": is}) } else { json!({"defaultValue": usual, "value": is}) }
}

/// The operations of a set.
fn endpoints(set: Set) -> impl Iterator<Item = (&'static Method, String)> {
    let of_set = super::atlas().filter(move |operation| operation.limit == set);
    of_set.map(|operation| (&operation.method, format!("/api/atlas/v2{}", operation.path)))
}
