//! Who may do what: the roles of the model against the operation at hand.

use std::net::IpAddr;

use catalog::Credential;
use model::{
    id::ProjectId,
    role::{Action, Role},
};

use crate::error::{Answer, Code, Problem};

/// What an operation asks of its caller, as far as the path tells.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// Any valid credential; the handler shows each its own.
    Known,
    /// An owner of the organization.
    OrganizationOwner,
    /// A role in the project of the path that allows at least one of these.
    Project(&'static [Action]),
}

/// Refuses strangers to the project with 401, members without the right with 403, as Atlas does.
pub(crate) fn require(credential: &Credential, project: ProjectId, any_of: &[Action]) -> Answer<()> {
    if !credential.is_member_of(project) {
        return Err(Problem::new(Code::UserCannotAccessGroup));
    }
    if any_of.iter().any(|action| credential.allows(project, *action)) {
        return Ok(());
    }
    Err(Problem::new(Code::AccessForbidden))
}

/// Refuses a credential that is used from elsewhere than its access list says. The address is that of whoever has connected: of a
/// proxy, where one is between.
pub(crate) fn require_address(
    credential: &Credential,
    peer: Option<IpAddr>,
    is_list_required: bool,
) -> Answer<()> {
    let list = &credential.access;
    match peer {
        _ if list.is_empty() && is_list_required => Err(Problem::new(Code::ResourceRequiresAccessList)),
        _ if list.is_empty() => Ok(()),
        Some(address) if list.contains(address) => Ok(()),
        peer => {
            let shown =
                peer.map_or_else(|| "unknown".to_owned(), |address| address.to_canonical().to_string());
            Err(Problem::new(Code::IpAddressNotOnAccessList).with(shown))
        }
    }
}

/// The right to load data into a project: asked again for the target of a restore.
pub(crate) fn require_target(credential: &Credential, project: ProjectId) -> Answer<()> {
    if credential.allows(project, Action::Restore) {
        return Ok(());
    }
    Err(Problem::new(Code::CannotRestoreToTarget))
}

/// Whether the caller owns the organization.
pub(crate) fn own_organization(credential: &Credential) -> Answer<()> {
    let owns = credential.grants.iter().any(|grant| grant.project.is_none() && grant.role == Role::OrgOwner);
    if owns { Ok(()) } else { Err(Problem::new(Code::AccessForbidden)) }
}
