//! Private endpoints between Atlas and the object storage of a cloud. A server of one's own has no such network to build
//! them in: how it reaches its vault and its export places is the matter of whoever runs it.

use http::Method;
use model::role::Action;

use super::Operation;
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    rate::Set,
    reply::Reply,
    version::Version,
};

const VERSIONS: &[Version] = &[Version::current(2024, 11, 13)];
/// The one provider that the specification has.
const PROVIDER: &str = "AWS";

macro_rules! unsupported {
    ($id:literal, $method:ident, $path:literal) => {
        Operation {
            id: $id,
            method: Method::$method,
            path: concat!("/groups/{groupId}/backup/{cloudProvider}/privateEndpoints", $path),
            versions: VERSIONS,
            scope: Scope::Project(&[Action::Own]),
            limit: Set::Backups,
            run: |call| Box::pin(refuse(call)),
        }
    };
}

pub(super) static OPERATIONS: &[Operation] = &[
    unsupported!("listGroupBackupPrivateEndpoints", GET, ""),
    unsupported!("createGroupBackupPrivateEndpoint", POST, ""),
    unsupported!("getGroupBackupPrivateEndpoint", GET, "/{endpointId}"),
    unsupported!("deleteGroupBackupPrivateEndpoint", DELETE, "/{endpointId}"),
];

async fn refuse(call: Call) -> Answer<Reply> {
    let provider = call.params.get("cloudProvider").unwrap_or_default();
    if provider != PROVIDER {
        let shown: String = call.uri.path().chars().take(256).collect();
        return Err(Problem::new(Code::ResourceNotFound).with(shown));
    }
    Err(Problem::new(Code::UnsupportedForCurrentConfig).because(
        "There are no private endpoints here: the server reaches its vault and the places for exports over the addresses \
         in its configuration. Make these private in your own network.",
    ))
}
