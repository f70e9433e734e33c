//! What is said of each operation. Tests hold it against the operations that are served, and against the official document where
//! that is at hand.

use Coverage::{Partial, Real, Refused};

/// How much of an operation is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// It does what Atlas does.
    Real,
    /// It does, but for this.
    Partial(&'static str),
    /// It answers with an error, for this reason.
    Refused(&'static str),
}

impl Coverage {
    /// In one word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Real => "real",
            Partial(_) => "partial",
            Refused(_) => "refused",
        }
    }

    /// What is missing, or why it is refused.
    pub(super) const fn why(self) -> Option<&'static str> {
        match self {
            Real => None,
            Partial(why) | Refused(why) => Some(why),
        }
    }
}

/// An operation by its name in the specification.
pub(super) struct Described {
    pub(super) id: &'static str,
    /// What it does.
    pub(super) summary: &'static str,
    pub(super) coverage: Coverage,
}

/// Operations that the specification puts together.
pub(super) struct Group {
    /// Their tag.
    pub(super) tag: &'static str,
    pub(super) operations: &'static [Described],
}

const fn of(id: &'static str, summary: &'static str, coverage: Coverage) -> Described {
    Described { id, summary, coverage }
}

const NO_SHARDS: Coverage = Refused("deployments are replica sets: it is as if no cluster were sharded");

const NOTHING_SHARDED: Coverage = Partial("always empty, since deployments are replica sets");
const NOT_COUNTED: Coverage = Partial("requests are not counted, and when it was used last is not told");
const NO_ENDPOINTS: Coverage =
    Refused("how the server reaches its vault and the places of exports is its network's affair");

/// All operations.
pub(super) const GROUPS: &[Group] = &[
    Group {
        tag: "Cloud Backups",
        operations: &[
            of("listGroupClusterBackupSnapshots", "List snapshots", Real),
            of("takeGroupClusterBackupSnapshots", "Take a snapshot", Real),
            of("getGroupClusterBackupSnapshot", "Get a snapshot", Real),
            of("updateGroupClusterBackupSnapshot", "Change when a snapshot expires", Real),
            of("deleteGroupClusterBackupSnapshot", "Delete a snapshot", Real),
            of(
                "listGroupClusterBackupSnapshotShardedClusters",
                "List snapshots of a sharded cluster",
                NOTHING_SHARDED,
            ),
            of(
                "getGroupClusterBackupSnapshotShardedCluster",
                "Get a snapshot of a sharded cluster",
                Partial("that of a replica set, without members, since deployments are replica sets"),
            ),
            of(
                "deleteGroupClusterBackupSnapshotShardedCluster",
                "Delete a snapshot of a sharded cluster",
                NO_SHARDS,
            ),
            of("listGroupClusterBackupSnapshotDatabases", "List the databases in a snapshot", Real),
            of("getGroupClusterBackupSnapshotDatabase", "Get a database in a snapshot", Real),
            of(
                "listGroupClusterBackupSnapshotDatabaseCollections",
                "List the collections in a snapshot",
                Real,
            ),
            of("getGroupClusterBackupSnapshotDatabaseCollection", "Get a collection in a snapshot", Real),
            of("getGroupClusterBackupSchedule", "Get the schedule of snapshots", Real),
            of(
                "updateGroupClusterBackupSchedule",
                "Change the schedule of snapshots",
                Partial(
                    "copies are kept as long as their snapshots, so no copyPolicyItems; no autoCopySettingsEnabled",
                ),
            ),
            of("deleteGroupClusterBackupSchedule", "Delete the schedule of snapshots", Real),
            of("listGroupClusterBackupRestoreJobs", "List restore jobs", Real),
            of(
                "createGroupClusterBackupRestoreJob",
                "Restore or download a snapshot or a point in time",
                Real,
            ),
            of("getGroupClusterBackupRestoreJob", "Get a restore job", Real),
            of("cancelGroupClusterBackupRestoreJob", "Cancel a restore job", Real),
            of("listGroupClusterCollectionRestoreJobs", "List restore jobs of collections", Real),
            of("createGroupClusterCollectionRestoreJob", "Restore databases and collections", Real),
            of("getGroupClusterCollectionRestoreJob", "Get a restore job of collections", Real),
            of("listGroupClusterCollectionRestoreJobCollections", "List how far its collections are", Real),
            of("getGroupClusterCollectionRestoreJobCollection", "Get how far one of them is", Real),
            of("listGroupBackupExportBuckets", "List export buckets", Real),
            of(
                "createGroupBackupExportBucket",
                "Add an export bucket",
                Partial(
                    "buckets that the configuration of the server names: directories and S3; no Azure, no Google Cloud",
                ),
            ),
            of("getGroupBackupExportBucket", "Get an export bucket", Real),
            of(
                "updateGroupBackupExportBucket",
                "Change the private networking of an export bucket",
                Refused("how the server reaches a bucket is its network's affair"),
            ),
            of("deleteGroupBackupExportBucket", "Remove an export bucket", Real),
            of("listGroupClusterBackupExports", "List exports", Real),
            of("createGroupClusterBackupExport", "Export a snapshot", Real),
            of("getGroupClusterBackupExport", "Get an export", Real),
            of("getGroupBackupCompliancePolicy", "Get the backup compliance policy", Real),
            of(
                "updateGroupBackupCompliancePolicy",
                "Set the backup compliance policy",
                Partial("continuous backup is switched on before"),
            ),
            of(
                "disableGroupBackupCompliancePolicy",
                "Lift the backup compliance policy",
                Partial(
                    "after whoever runs the server has released it, who stands in for the support of Atlas",
                ),
            ),
            of(
                "listGroupBackupPrivateEndpoints",
                "List private endpoints of a cloud's object storage",
                NO_ENDPOINTS,
            ),
            of("createGroupBackupPrivateEndpoint", "Make a private endpoint", NO_ENDPOINTS),
            of("getGroupBackupPrivateEndpoint", "Get a private endpoint", NO_ENDPOINTS),
            of("deleteGroupBackupPrivateEndpoint", "Delete a private endpoint", NO_ENDPOINTS),
            of("listGroupServerlessBackupSnapshots", "List snapshots of a serverless instance", Real),
            of("getGroupServerlessBackupSnapshot", "Get a snapshot of a serverless instance", Real),
            of("listGroupServerlessBackupRestoreJobs", "List restore jobs of a serverless instance", Real),
            of(
                "createGroupServerlessBackupRestoreJob",
                "Restore or download a snapshot of a serverless instance",
                Real,
            ),
            of("getGroupServerlessBackupRestoreJob", "Get a restore job of a serverless instance", Real),
        ],
    },
    Group {
        tag: "Legacy Backup",
        operations: &[
            of("listGroupClusterSnapshots", "List snapshots in the legacy shape", Real),
            of("getGroupClusterSnapshot", "Get a snapshot in the legacy shape", Real),
            of(
                "updateGroupClusterSnapshot",
                "Change when a snapshot expires, or whether it may be deleted",
                Real,
            ),
            of("deleteGroupClusterSnapshot", "Delete a snapshot", Real),
            of("getGroupClusterSnapshotSchedule", "Get the schedule in the legacy shape", Real),
            of(
                "updateGroupClusterSnapshotSchedule",
                "Change the schedule in the legacy shape",
                Partial("no other checkpoint interval than 15, whole days of point in time"),
            ),
            of("listGroupClusterBackupCheckpoints", "List checkpoints", NOTHING_SHARDED),
            of("getGroupClusterBackupCheckpoint", "Get a checkpoint", NO_SHARDS),
            of("listGroupClusterRestoreJobs", "List restore jobs in the legacy shape", Real),
            of(
                "createGroupClusterRestoreJob",
                "Restore or download in the legacy shape",
                Partial(
                    "no delivery by SCP, by query or as a copy for others, and no oplog for a client to replay; no checkpoints",
                ),
            ),
            of("getGroupClusterRestoreJob", "Get a restore job in the legacy shape", Real),
        ],
    },
    Group {
        tag: "Flex Snapshots",
        operations: &[
            of("listGroupFlexClusterBackupSnapshots", "List snapshots of a flex cluster", Real),
            of("getGroupFlexClusterBackupSnapshot", "Get a snapshot of a flex cluster", Real),
            of("downloadGroupFlexClusterBackup", "Download a snapshot of a flex cluster", Real),
        ],
    },
    Group {
        tag: "Flex Restore Jobs",
        operations: &[
            of("listGroupFlexClusterBackupRestoreJobs", "List restore jobs of a flex cluster", Real),
            of("createGroupFlexClusterBackupRestoreJob", "Restore a snapshot of a flex cluster", Real),
            of("getGroupFlexClusterBackupRestoreJob", "Get a restore job of a flex cluster", Real),
        ],
    },
    Group {
        tag: "Flex Clusters",
        operations: &[
            of("listGroupFlexClusters", "List flex clusters", Real),
            of("getGroupFlexCluster", "Get a flex cluster", Real),
        ],
    },
    Group {
        tag: "Clusters",
        operations: &[
            of(
                "listGroupClusters",
                "List the deployments of a project",
                Partial("without paging by tags or state; the fields that a deployment of your own has"),
            ),
            of(
                "getGroupCluster",
                "Get a deployment",
                Partial("the fields that a deployment of your own has"),
            ),
            of("getGroupClusterStatus", "Get whether changes are applied", Real),
            of(
                "getGroupClusterProcessArgs",
                "Get advanced settings",
                Partial("an empty object: mongod is configured where it runs"),
            ),
            of("listClusterDetails", "List the deployments of all projects", Real),
        ],
    },
    Group {
        tag: "Serverless Instances",
        operations: &[
            of("listGroupServerlessInstances", "List serverless instances", Real),
            of("getGroupServerlessInstance", "Get a serverless instance", Real),
        ],
    },
    Group {
        tag: "Projects",
        operations: &[
            of("listGroups", "List projects", Real),
            of("getGroup", "Get a project", Real),
            of("getGroupByName", "Get a project by its name", Real),
            of("createGroup", "Make a project", Partial("without tags and restricted regions")),
            of("updateGroup", "Rename a project", Partial("without tags")),
            of("deleteGroup", "Delete a project", Real),
        ],
    },
    Group {
        tag: "Organizations",
        operations: &[of("listOrgs", "List organizations", Real), of("getOrg", "Get an organization", Real)],
    },
    Group {
        tag: "Programmatic API Keys",
        operations: &[
            of("listOrgApiKeys", "List API keys", Real),
            of("createOrgApiKey", "Make an API key of the organization", Real),
            of("getOrgApiKey", "Get an API key", Real),
            of("updateOrgApiKey", "Change what an API key is called and its roles in the organization", Real),
            of("deleteOrgApiKey", "Delete an API key", Real),
            of("listGroupApiKeys", "List API keys with roles in a project", Real),
            of("createGroupApiKey", "Make an API key with roles in a project", Real),
            of("addGroupApiKey", "Give an API key roles in a project", Real),
            of("updateGroupApiKeyRoles", "Change the roles of an API key in a project", Real),
            of("removeGroupApiKey", "Take the roles in a project from an API key", Real),
            of("listOrgApiKeyAccessListEntries", "List from where an API key may be used", NOT_COUNTED),
            of("createOrgApiKeyAccessListEntry", "Let an API key be used from addresses", NOT_COUNTED),
            of("getOrgApiKeyAccessListEntry", "Get an entry of the access list of an API key", NOT_COUNTED),
            of("deleteOrgApiKeyAccessListEntry", "Let an API key not be used from addresses any more", Real),
        ],
    },
    Group {
        tag: "Service Accounts",
        operations: &[
            of("listOrgServiceAccounts", "List service accounts", Real),
            of("createOrgServiceAccount", "Make a service account of the organization", Real),
            of("getOrgServiceAccount", "Get a service account", Real),
            of(
                "updateOrgServiceAccount",
                "Change what a service account is called and its roles in the organization",
                Real,
            ),
            of("deleteOrgServiceAccount", "Delete a service account", Real),
            of("listOrgServiceAccountGroups", "List the projects that a service account has roles in", Real),
            of("createOrgServiceAccountSecret", "Make another secret of a service account", Real),
            of("deleteOrgServiceAccountSecret", "Delete a secret of a service account", Real),
            of("listGroupServiceAccounts", "List service accounts with roles in a project", Real),
            of("createGroupServiceAccount", "Make a service account with roles in a project", Real),
            of("getGroupServiceAccount", "Get a service account of a project", Real),
            of("updateGroupServiceAccount", "Change the roles of a service account in a project", Real),
            of("deleteGroupServiceAccount", "Take the roles in a project from a service account", Real),
            of("inviteGroupServiceAccount", "Give a service account roles in a project", Real),
            of(
                "createGroupServiceAccountSecret",
                "Make another secret of a service account of a project",
                Real,
            ),
            of("deleteGroupServiceAccountSecret", "Delete a secret of a service account of a project", Real),
            of(
                "listOrgServiceAccountAccessList",
                "List from where a service account may be used",
                NOT_COUNTED,
            ),
            of(
                "createOrgServiceAccountAccessList",
                "Let a service account be used from addresses",
                NOT_COUNTED,
            ),
            of(
                "deleteOrgServiceAccountAccessEntry",
                "Let a service account not be used from addresses any more",
                Real,
            ),
            of(
                "listGroupServiceAccountAccessList",
                "List from where a service account of a project may be used",
                NOT_COUNTED,
            ),
            of(
                "createGroupServiceAccountAccessList",
                "Let a service account of a project be used from addresses",
                NOT_COUNTED,
            ),
            of(
                "deleteGroupServiceAccountAccessEntry",
                "Let a service account of a project not be used from addresses any more",
                Real,
            ),
        ],
    },
    Group {
        tag: "Rate Limiting",
        operations: &[
            of("listRateLimits", "List the limits that requests have", Real),
            of("getRateLimit", "Get the limits of one set of operations", Real),
        ],
    },
    Group { tag: "Root", operations: &[of("getSystemStatus", "Get what the server is", Real)] },
    Group {
        tag: "Ebbtide",
        operations: &[
            of("ebbtideStatus", "Get how the server is", Real),
            of("ebbtideListAudit", "List who changed what, in all projects", Real),
            of("ebbtideListGroupAudit", "List who changed what in a project", Real),
            of("ebbtideCreateProject", "Make a project", Real),
            of("ebbtideListCredentials", "List the credentials of a project", Real),
            of("ebbtideCreateCredential", "Make a credential", Real),
            of("ebbtideUpdateCredential", "Say from where a credential may be used", Real),
            of("ebbtideDeleteCredential", "Delete a credential", Real),
            of("ebbtideListClusters", "List deployments", Real),
            of("ebbtideAddCluster", "Register a deployment", Real),
            of("ebbtideGetCluster", "Get a deployment", Real),
            of("ebbtideUpdateCluster", "Change a deployment", Real),
            of("ebbtideRemoveCluster", "Remove a deployment", Real),
            of("ebbtideGetTimeline", "Get what is recorded and can be restored", Real),
            of("ebbtideListSnapshots", "List snapshots of deployments of any kind", Real),
            of("ebbtideTakeSnapshot", "Take a snapshot", Real),
            of("ebbtideGetSnapshot", "Get a snapshot with how far it is", Real),
            of("ebbtideDeleteSnapshot", "Delete a snapshot", Real),
            of("ebbtideListRestoreJobs", "List restore jobs of every kind", Real),
            of("ebbtideCreateRestoreJob", "Restore, as a whole or selected, or plan it", Real),
            of("ebbtideGetRestoreJob", "Get a restore job with how far it is", Real),
            of("ebbtideCancelRestoreJob", "Cancel a restore job", Real),
            of("ebbtideListExports", "List exports", Real),
            of("ebbtideGetExport", "Get an export with how far it is", Real),
            of("ebbtideGetDocument", "Get a document as it was", Real),
            of("ebbtideListDocumentVersions", "List the versions of a document", Real),
            of("ebbtideCompareCollection", "Tell what differs between two points in time", Real),
        ],
    },
];
