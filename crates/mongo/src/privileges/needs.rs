//! What each purpose needs, as tables.
//!
//! Every line was found by taking it away on 5.0.4 and 6.0.5 with authentication on; a test does so again for the
//! backup's.

use super::{Purpose, Resource};

/// One action that an account needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) resource: Resource,
    pub(super) action: &'static str,
    pub(super) why: &'static str,
    pub(super) optional: bool,
}

type Line = (Resource, &'static [&'static str], &'static str);

/// What every purpose needs: to look, to know the time, to read.
const READ: &[Line] = &[
    (Resource::Cluster, &["appendOplogNote"], "to mark a cluster time"),
    (
        Resource::Cluster,
        &["getParameter"],
        "to know the feature compatibility version and the history window",
    ),
    (Resource::Cluster, &["listDatabases"], "to list databases"),
    (Resource::Cluster, &["replSetGetConfig", "replSetGetStatus"], "to know the members of the set"),
    (Resource::Cluster, &["serverStatus"], "to know the size of the cache and the state of the write block"),
    (Resource::AnyCollection, &["find"], "to read documents"),
    (Resource::AnyCollection, &["listCollections", "listIndexes"], "to list collections and indexes"),
    (Resource::AnyCollection, &["collStats"], "to know sizes"),
    (Resource::AnyBuckets, &["find", "listIndexes", "collStats"], "to read time-series collections"),
    (Resource::AnySystemJs, &["find", "listIndexes", "collStats"], "to read stored functions"),
    (Resource::Oplog, &["find", "collStats"], "to find changes of collections and indexes in the oplog"),
];

const BACKUP: &[Line] =
    &[(Resource::Users, &["find"], "to keep users"), (Resource::Roles, &["find"], "to keep roles")];

const BACKUP_OPTIONAL: &[Line] = &[
    (
        Resource::Cluster,
        &["setParameter"],
        "to lengthen the history window for a snapshot that takes longer to read",
    ),
    (
        Resource::Transactions,
        &["find"],
        "to begin a continuous backup where it cuts no open transaction; without it none begins",
    ),
    // Even `root` may not; the definition of each view is listed without it.
    (
        Resource::AnySystemViews,
        &["find", "collStats"],
        "to keep view definitions as the server stores them, too",
    ),
];

const RESTORE: &[Line] = &[
    (Resource::AnyCollection, &["dbStats"], "to know how much disk space is free"),
    (
        Resource::AnyCollection,
        &["insert", "update", "remove", "bypassDocumentValidation"],
        "to write documents",
    ),
    (
        Resource::AnyCollection,
        // The server asks for convertToCapped whenever a capped collection is created.
        &["createCollection", "convertToCapped", "dropCollection", "collMod", "renameCollectionSameDB"],
        "to put collections in place",
    ),
    (Resource::AnyCollection, &["createIndex", "dropIndex"], "to build indexes"),
    (Resource::AnyCollection, &["dropDatabase"], "to remove databases that the snapshot does not have"),
    (
        Resource::AnyBuckets,
        &["insert", "update", "remove", "bypassDocumentValidation"],
        "to write time-series collections",
    ),
    (
        Resource::AnyBuckets,
        &["createCollection", "dropCollection", "collMod", "createIndex", "dropIndex"],
        "to put time-series collections in place",
    ),
    (
        Resource::AnySystemJs,
        &["insert", "update", "remove", "bypassDocumentValidation", "createCollection"],
        "to write stored functions",
    ),
    (Resource::Cluster, &["inprog"], "to watch index builds"),
];

/// Known to 6.0 and later only.
const RESTORE_FENCE: &[Line] = &[(
    Resource::Cluster,
    &["setUserWriteBlockMode", "bypassWriteBlockingMode"],
    "to keep other writers out during a restore",
)];

const RESTORE_USERS: &[Line] = &[
    (Resource::Users, &["find"], "to see which users there are"),
    (Resource::Roles, &["find"], "to see which roles there are"),
    (
        Resource::AnyCollection,
        &["createUser", "createRole", "grantRole", "revokeRole", "dropUser", "dropRole"],
        "to restore users and roles (the server's _mergeAuthzCollections asks for all of these)",
    ),
];

/// Everything that `purpose` needs on `version`.
pub(super) fn needs(purpose: Purpose, version: (u32, u32, u32)) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut add = |lines: &[Line], optional: bool| {
        for (resource, actions, why) in lines {
            needs.extend(actions.iter().map(|action| Need { resource: *resource, action, why, optional }));
        }
    };
    add(READ, false);
    if purpose == Purpose::Backup {
        add(BACKUP, false);
        add(BACKUP_OPTIONAL, true);
        return needs;
    }
    add(RESTORE, false);
    if version >= (6, 0, 0) {
        add(RESTORE_FENCE, true);
    }
    if purpose == Purpose::RestoreUsers {
        add(RESTORE_USERS, false);
    }
    needs
}
