//! Work items: what a worker claims, and what it tells while it runs.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{ExportJobId, RestoreJobId, SnapshotId};

/// What a work item does. Serialised into the catalog; fields are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Work {
    /// Take a snapshot.
    Snapshot {
        /// Which one.
        snapshot_id: SnapshotId,
    },
    /// Load a snapshot into a deployment.
    Restore {
        /// Which restore job.
        restore_job_id: RestoreJobId,
    },
    /// Build the archive of a snapshot.
    Download {
        /// Which restore job.
        restore_job_id: RestoreJobId,
    },
    /// Write the documents of a snapshot to a place outside the vault.
    Export {
        /// Which export.
        export_job_id: ExportJobId,
    },
}

impl Work {
    /// The word in the catalog's `kind` column.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "snapshot",
            Self::Restore { .. } => "restore",
            Self::Download { .. } => "download",
            Self::Export { .. } => "export",
        }
    }
}

/// Where a work item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// Waits for a worker. Leaves when claimed, or cancelled.
    Queued,
    /// A worker holds its lease; claimable again when the lease runs out.
    Running,
    /// Done. No exit.
    Succeeded,
    /// Given up; the reason is recorded. No exit.
    Failed,
    /// Cancelled and cleaned up. No exit.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The word in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown job state {text:?}"))
    }
}

/// What a heartbeat answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directive {
    /// Go on; the lease is renewed.
    Continue,
    /// Stop, clean up, acknowledge; the lease is renewed.
    Cancel,
    /// The lease belongs to somebody else: stop at once and write nothing.
    Lost,
}

/// How far a job is. Totals are estimates until the phase that counts them has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// What it does now, in a word or two: `read`, `load`, `indexes`, `cutOver`, `verify`.
    pub phase: String,
    /// Documents done in all phases that move documents.
    pub documents_done: u64,
    /// Documents in all.
    pub documents_total: u64,
    /// Bytes of BSON done.
    pub bytes_done: u64,
    /// Bytes of BSON in all.
    pub bytes_total: u64,
    /// Collections done.
    pub collections_done: u64,
    /// Collections in all.
    pub collections_total: u64,
    /// Bytes per second over the last seconds.
    pub bytes_per_second: u64,
    /// Estimated seconds left, when they can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// A sentence for people, such as the collection at work.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What ought to be known about the whole job, such as a version that nobody has tested.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub warning: String,
}

impl Progress {
    /// Share done, between 0 and 1, by bytes.
    pub fn fraction(&self) -> f64 {
        if self.bytes_total == 0 {
            return 0.0;
        }
        (self.bytes_done as f64 / self.bytes_total as f64).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_keeps_its_shape_in_the_catalog() {
        let work = Work::Restore { restore_job_id: RestoreJobId::from_parts(1, [2; 8]) };
        let text = serde_json::to_string(&work).expect("json");
        assert_eq!(text, r#"{"kind":"restore","restoreJobId":"000000010202020202020202"}"#);
        assert_eq!(serde_json::from_str::<Work>(&text).expect("back"), work);
    }
}
