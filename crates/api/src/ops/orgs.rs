//! The organization: a server has one, and every credential belongs to it.

use http::Method;
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, links};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listOrgs",
        method: Method::GET,
        path: "/orgs",
        versions: SINCE_2023,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "getOrg",
        method: Method::GET,
        path: "/orgs/{orgId}",
        versions: SINCE_2023,
        scope: Scope::Known,
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let wanted = call.query.get("name").unwrap_or_default();
    let fits = call.server.state.settings.organization.name.starts_with(wanted);
    let listed = asked.slice(if fits { vec![view(&call)] } else { vec![] });
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, listed.items, listed.total)))
}

async fn get(call: Call) -> Answer<Reply> {
    let id = call.params.get("orgId").unwrap_or_default();
    if id != call.server.state.settings.organization.id {
        return Err(Problem::new(Code::OrgNotFound).with(id));
    }
    Ok(Reply::object(view(&call)))
}

fn view(call: &Call) -> Value {
    let organization = &call.server.state.settings.organization;
    json!({
        "id": organization.id,
        "isDeleted": false,
        "links": [links::own(call.link(&format!("/orgs/{}", organization.id)))],
        "name": organization.name,
    })
}
