//! The root of a manifest.

use model::{
    ClusterTime, DeploymentKind, WallTime,
    id::{DeploymentId, ProjectId, SnapshotId},
};
use serde::{Deserialize, Serialize};

use super::{deltas::DeltaRun, page::PageLine};

pub(super) const ROOT_FORMAT: &str = "ebbtide-manifest";
/// The version of the content of manifests and pages that this version knows.
pub(super) const ROOT_VERSION: u32 = 2;
/// The version of a root that refers to no deltas. Whoever knows no other must not read one that does: he would take the
/// segments for the whole of it.
pub(super) const WHOLE_VERSION: u32 = 1;
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
    /// Whether a restore had staged collections in the deployment at that time. They are in no snapshot, and come into view
    /// when they are renamed, so no later state can be folded from this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amid_restore: bool,
    /// By which rules whatever in it was folded came about, and what that was folded from: the first ones where none are named.
    /// What has been read from a deployment is right by all rules.
    #[serde(default = "first_rules", skip_serializing_if = "is_first_rules")]
    pub fold_rules: u32,
    /// `onDemand` or `scheduled`.
    pub snapshot_type: String,
    /// Which Ebbtide wrote it.
    pub ebbtide_version: String,
}

const fn first_rules() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like that")]
const fn is_first_rules(rules: &u32) -> bool {
    *rules == first_rules()
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
    /// Absent when all segments are as of the time of the snapshot. From the oldest to the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) delta_runs: Vec<RunLine>,
    /// By how much these make the documents more, or fewer, than those in the segments.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) documents_beside: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives it like that")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A run of deltas as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunLine {
    through: ClusterTime,
    deltas: u64,
    bytes: u64,
    live_bytes: u64,
    stored_bytes: u64,
    pages: Vec<PageLine>,
}

impl RunLine {
    pub(super) fn new(run: &DeltaRun, above: ClusterTime) -> Self {
        Self {
            through: run.through,
            deltas: run.deltas,
            bytes: run.bytes,
            live_bytes: run.live_bytes,
            stored_bytes: run.stored_bytes,
            pages: run.pages.iter().map(|page| PageLine::new(page, above)).collect(),
        }
    }

    pub(super) fn read(&self, above: ClusterTime) -> Option<DeltaRun> {
        Some(DeltaRun {
            through: self.through,
            deltas: self.deltas,
            bytes: self.bytes,
            live_bytes: self.live_bytes,
            stored_bytes: self.stored_bytes,
            pages: self.pages.iter().map(|page| page.clone().into_ref(above)).collect::<Option<_>>()?,
        })
    }
}
