//! How the server is.

use http::Method;
use serde_json::{Value, json};

use super::UNVERSIONED;
use crate::{
    access::{self, Scope},
    error::Answer,
    gate::Call,
    ops::Operation,
    rate::Set,
    reply::Reply,
};

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "ebbtideStatus",
    method: Method::GET,
    path: "/status",
    versions: UNVERSIONED,
    scope: Scope::Known,
    limit: Set::Clusters,
    run: |call| Box::pin(status(call)),
}];

/// What everybody who is let in may know of a reconciler: that it runs. What it did, and what stood in its way, names
/// jobs, hosts and namespaces of every project.
const SHOWN_TO_ALL: [&str; 4] = ["name", "lastRunAt", "runs", "failures"];

async fn status(call: Call) -> Answer<Reply> {
    let settings = &call.server.state.settings;
    let engine = (call.server.state.engine_status)();
    let engine = match access::own_organization(&call.credential) {
        Ok(()) => engine,
        Err(_) => shown_to_all(&engine),
    };
    Ok(Reply::object(json!({
        "engine": engine,
        "gitHash": settings.git_hash,
        "time": call.server.now().to_rfc3339(),
        "version": settings.server_version,
    })))
}

/// The part of the engine's status that tells nothing of anybody's project.
fn shown_to_all(engine: &Value) -> Value {
    let reconcilers = engine["reconcilers"].as_array().into_iter().flatten();
    let shown = reconcilers.filter_map(Value::as_object).map(|reconciler| {
        let fields = reconciler.iter().filter(|(name, _)| SHOWN_TO_ALL.contains(&name.as_str()));
        Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    });
    json!({ "reconcilers": shown.collect::<Vec<Value>>() })
}
