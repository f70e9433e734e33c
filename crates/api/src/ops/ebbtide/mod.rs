//! What Atlas has no call for, under `/api/ebbtide/v1`: registering a deployment by its connection string and changing it,
//! watching a job, restoring with choices that Atlas does not have, what is recorded, documents as they
//! were, projects and credentials, the audit log, the state of the server.

mod audit;
mod cluster_update;
mod clusters;
mod credentials;
mod exports;
mod past;
mod projects;
mod restores;
mod snapshots;
mod status;
mod timeline;

use super::Operation;
use crate::version::Version;

/// Own paths have no versions by date.
const UNVERSIONED: &[Version] = &[];

/// All of them.
pub(super) fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        status::OPERATIONS,
        audit::OPERATIONS,
        projects::OPERATIONS,
        credentials::OPERATIONS,
        clusters::OPERATIONS,
        timeline::OPERATIONS,
        past::OPERATIONS,
        snapshots::OPERATIONS,
        restores::OPERATIONS,
        exports::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}
