//! What a live check found.

use model::ClusterTime;
use serde::Serialize;

/// So many differences, and so many skipped collections, are told in full.
const TOLD_MAX: usize = 1000;

/// A collection that is not what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `db.collection`.
    pub namespace: String,
    /// The cluster time of the states that differ.
    pub at: ClusterTime,
    /// The `_id` of the first document that differs, as extended JSON, where it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_id: Option<String>,
    /// What differs, in words and without documents.
    pub what: String,
}

/// A collection that was not compared, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// `db.collection`.
    pub namespace: String,
    /// Why.
    pub reason: String,
}

/// What a live check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveReport {
    /// The last cluster time at which both sides were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_time: Option<ClusterTime>,
    /// How many such times there were: each costs a pass over what was recorded since the newest snapshot.
    pub passes: u64,
    /// Collections that were compared, wholly or in part.
    pub collections: u64,
    /// Ranges of keys that were compared.
    pub ranges: u64,
    /// Documents that the deployment has in them.
    pub documents: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// How many collections differ.
    pub differences_total: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// How many collections were skipped.
    pub skipped_total: u64,
    /// The first of them.
    pub skipped: Vec<Skipped>,
}

impl LiveReport {
    /// Whether no difference was found.
    pub fn is_good(&self) -> bool {
        self.differences_total == 0
    }

    pub(super) fn differs(&mut self, difference: Difference) {
        self.differences_total += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(difference);
        }
    }

    pub(super) fn skip(&mut self, namespace: impl ToString, reason: impl Into<String>) {
        self.skipped_total += 1;
        if self.skipped.len() < TOLD_MAX {
            self.skipped.push(Skipped { namespace: namespace.to_string(), reason: reason.into() });
        }
    }
}
