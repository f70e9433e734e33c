//! The root of a manifest.

use model::{
    ClusterTime, DeploymentKind, WallTime,
    id::{DeploymentId, ProjectId, SnapshotId},
};
use serde::{Deserialize, Serialize};

use super::page::PageLine;

pub(super) const ROOT_FORMAT: &str = "ebbtide-manifest";
/// The version of the content of manifests and pages.
pub(super) const ROOT_VERSION: u32 = 1;
/// A root refers to pages of a thousand collections each; this is room for millions.
pub(super) const ROOT_BYTES_MAX: usize = 16 << 20;

/// What the snapshot is of: enough to rebuild its row in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestHeader {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// That project's name when the snapshot was taken.
    pub project_name: String,
    /// The deployment it is of.
    pub deployment_id: DeploymentId,
    /// That deployment's name when the snapshot was taken.
    pub deployment_name: String,
    /// What the deployment is served as.
    pub deployment_kind: DeploymentKind,
    /// The state is the one of this time.
    pub cluster_time: ClusterTime,
    /// When the snapshot was asked for.
    pub created_at: WallTime,
    /// Version of the server that was read.
    pub mongod_version: String,
    /// Its feature compatibility version.
    pub fcv: String,
    /// Its replica set.
    pub replica_set_name: String,
    /// What the user wrote to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it may be deleted; the catalog decides, this is what it knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallTime>,
    /// `onDemand` or `scheduled`.
    pub snapshot_type: String,
    /// Which Ebbtide wrote it.
    pub ebbtide_version: String,
}

/// What a snapshot amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Collections and views.
    pub collections: u64,
    /// Segments.
    pub segments: u64,
    /// Documents.
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
    /// What segments and pages take in the store, those shared with other snapshots included.
    pub stored_bytes: u64,
}

/// The root as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) header: ManifestHeader,
    pub(super) completed_at: WallTime,
    pub(super) totals: Totals,
    pub(super) collection_pages: Vec<PageLine>,
    /// Absent when users and roles were not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) principal_pages: Option<Vec<PageLine>>,
}
