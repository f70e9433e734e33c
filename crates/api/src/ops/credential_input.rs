//! What the calls of Atlas for API keys, service accounts and their access lists have in common: who may make them, where roles count,
//! and which may be given there.

use http::Method;
use model::{
    id::ProjectId,
    role::{Action, Role},
};

use super::Operation;
use crate::{
    access::Scope,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    rate::Set,
    reply::Reply,
    version::Version,
};

/// Service accounts came with this version.
pub(super) const SINCE_ACCOUNTS: &[Version] = &[Version::current(2024, 8, 5)];
/// Owners of the project of the path.
pub(super) const OWNERS: Scope = Scope::Project(&[Action::Own]);

const DESCRIPTION_CHARACTERS_MAX: usize = 250;

/// An operation on credentials.
pub(super) const fn operation(
    id: &'static str,
    method: Method,
    path: &'static str,
    versions: &'static [Version],
    scope: Scope,
    run: fn(Call) -> futures::future::BoxFuture<'static, Answer<Reply>>,
) -> Operation {
    Operation { id, method, path, versions, scope, limit: Set::Clusters, run }
}

/// Where the roles of the path count: in its project, or in the whole organization.
pub(super) fn place(call: &Call) -> Answer<Option<ProjectId>> {
    match call.params.get("orgId") {
        Some(organization) if organization != call.server.state.settings.organization.id => {
            Err(Problem::new(Code::OrgNotFound).with(organization))
        }
        Some(_) => Ok(None),
        None => call.project_id().map(Some),
    }
}

/// A text that says what something is or is called.
pub(super) fn described(fields: &mut Fields, name: &'static str) -> Answer<Option<String>> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    if (1..=DESCRIPTION_CHARACTERS_MAX).contains(&text.chars().count()) {
        Ok(Some(text))
    } else {
        Err(invalid(name))
    }
}

/// Roles of the place: those of a project in a project, those of the organization in the organization. At least one.
pub(super) fn roles(fields: &mut Fields, project: Option<ProjectId>) -> Answer<Option<Vec<Role>>> {
    let Some(names) = fields.texts("roles")? else { return Ok(None) };
    if names.is_empty() {
        return Err(missing("roles"));
    }
    let role = |name: &String| {
        let found = name.parse::<Role>().ok().filter(|role| role.is_organization_wide() == project.is_none());
        found.ok_or_else(|| {
            Problem::new(Code::InvalidEnumValue).with(name.chars().take(64).collect::<String>())
        })
    };
    let mut roles = names.iter().map(role).collect::<Answer<Vec<Role>>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(Some(roles))
}

pub(super) fn names(roles: &[Role]) -> Vec<&'static str> {
    roles.iter().map(|role| role.as_str()).collect()
}
