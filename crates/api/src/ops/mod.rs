//! The operations: what each is called, where it lives, which versions it has, what it asks of its caller,
//! and the function that answers it. A table, so that no operation can forget a step of the gate.

mod access_lists;
mod api_keys;
mod audit;
mod checkup;
mod cluster_details;
mod clusters;
mod collection_restore_input;
mod collection_restore_view;
mod collection_restores;
mod compliance;
mod contents;
mod copy_settings;
mod credential_input;
mod ebbtide;
mod export_buckets;
mod exports;
mod flex;
mod flex_view;
mod group_changes;
mod groups;
mod issued;
mod legacy;
mod links;
mod orgs;
mod point_in_time;
mod private_endpoints;
mod rate_limits;
mod restore_create;
mod restore_input;
mod restore_jobs;
mod restore_view;
mod root;
mod schedule;
mod schedule_input;
mod schedule_view;
mod serverless;
mod service_accounts;
mod snapshot_view;
mod snapshots;
mod tenants;

use futures::future::BoxFuture;
use http::Method;

use crate::{access::Scope, error::Answer, gate::Call, rate::Set, reply::Reply, version::Version};

/// One operation.
pub(crate) struct Operation {
    /// Its name in the specification.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// Its path after the prefix.
    pub(crate) path: &'static str,
    /// Its resource versions; none for Ebbtide's own paths.
    pub(crate) versions: &'static [Version],
    pub(crate) scope: Scope,
    pub(crate) limit: Set,
    pub(crate) run: fn(Call) -> BoxFuture<'static, Answer<Reply>>,
}

/// The version that almost everything has had since versions began.
const SINCE_2023: &[Version] = &[Version::current(2023, 1, 1)];
/// That of what deals with parts of snapshots.
const SINCE_MARCH_2025: &[Version] = &[Version::current(2025, 3, 12)];

/// Operations of the Atlas API.
pub(crate) fn atlas() -> impl Iterator<Item = &'static Operation> {
    [
        root::OPERATIONS,
        rate_limits::OPERATIONS,
        orgs::OPERATIONS,
        api_keys::OPERATIONS,
        service_accounts::OPERATIONS,
        access_lists::OPERATIONS,
        groups::OPERATIONS,
        clusters::OPERATIONS,
        cluster_details::OPERATIONS,
        flex::OPERATIONS,
        snapshots::OPERATIONS,
        contents::OPERATIONS,
        schedule::OPERATIONS,
        compliance::OPERATIONS,
        export_buckets::OPERATIONS,
        exports::OPERATIONS,
        private_endpoints::OPERATIONS,
        restore_jobs::OPERATIONS,
        collection_restores::OPERATIONS,
        legacy::OPERATIONS,
        serverless::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

/// Ebbtide's own operations.
pub(crate) fn own() -> impl Iterator<Item = &'static Operation> {
    ebbtide::operations()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_atlas_operation_is_versioned_and_every_own_one_is_not() {
        assert!(atlas().all(|operation| !operation.versions.is_empty()));
        assert!(own().all(|operation| operation.versions.is_empty()));
    }

    #[test]
    fn names_and_places_are_unique() {
        let names: HashSet<_> = atlas().chain(own()).map(|operation| operation.id).collect();
        assert_eq!(names.len(), atlas().count() + own().count());
        let places: HashSet<_> =
            atlas().map(|operation| (operation.method.clone(), operation.path)).collect();
        assert_eq!(places.len(), atlas().count());
    }

    #[test]
    fn the_five_seed_operations_have_their_roles() {
        use model::role::Role;
        let allowed = |id: &str, role: Role| {
            let operation = atlas().find(|operation| operation.id == id);
            operation.is_some_and(|operation| match operation.scope {
                Scope::Project(actions) => actions.iter().any(|action| role.allows(*action)),
                Scope::Known | Scope::OrganizationOwner => false,
            })
        };
        for (id, role, others) in [
            ("cancelGroupClusterBackupRestoreJob", Role::GroupBackupManager, Role::GroupBackupCreator),
            ("getGroupClusterBackupRestoreJob", Role::GroupBackupManager, Role::GroupReadOnly),
            ("createGroupClusterBackupRestoreJob", Role::GroupBackupManager, Role::GroupReadOnly),
            ("listGroupClusterRestoreJobs", Role::GroupReadOnly, Role::OrgMember),
            ("listGroupServerlessBackupRestoreJobs", Role::GroupOwner, Role::GroupBackupManager),
        ] {
            assert!(allowed(id, role), "{id} refuses {role:?}");
            assert!(!allowed(id, others), "{id} lets {others:?} in");
        }
    }
}
