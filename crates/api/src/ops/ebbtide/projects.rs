//! Making projects.

use http::Method;

use super::UNVERSIONED;
use crate::{
    access::Scope,
    body::Fields,
    error::Answer,
    gate::Call,
    ops::{Operation, group_changes},
    rate::Set,
    reply::Reply,
};

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
    let name = group_changes::name(fields.required_text("name")?)?;
    Ok(Reply::created(group_changes::made(&call, &name).await?))
}
