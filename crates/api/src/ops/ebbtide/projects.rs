//! Making projects.

use http::Method;
use serde_json::json;

use super::UNVERSIONED;
use crate::{
    access::Scope,
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{Operation, audit, groups},
    rate::Set,
    reply::Reply,
};

/// Atlas's limit on project names.
const NAME_CHARACTERS_MAX: usize = 64;

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "ebbtideCreateProject",
    method: Method::POST,
    path: "/groups",
    versions: UNVERSIONED,
    scope: Scope::OrganizationOwner,
    limit: Set::Clusters,
    run: |call| Box::pin(create(call)),
}];

async fn create(call: Call) -> Answer<Reply> {
    let mut fields = Fields::parse(&call.headers, &call.body, &["name"])?;
    let name = fields.required_text("name")?;
    let allowed = |c: char| c.is_alphanumeric() || " -_.(),:&@+'".contains(c);
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARACTERS_MAX || name.trim() != name || !name.chars().all(allowed) {
        return Err(invalid("name"));
    }
    let project = call.server.state.catalog.projects().create(&name, call.server.now()).await;
    let project = project.map_err(|e| match e {
        catalog::Error::AlreadyExists { .. } => Problem::new(Code::GroupAlreadyExists).with(name.as_str()),
        other => call.server.catalog_problem("make a project", other),
    })?;
    audit::record_in(&call, project.id, "project.create", json!({"name": name}));
    Ok(Reply::created(groups::view(&call, &project).await?))
}
