//! What an attempt leaves for the next one.
//!
//! Only what cannot be seen on the target itself is written down: which collections were loaded and indexed, and
//! whether they were proved. How far the renames came is read from the collections' UUIDs, so that no rename has to be
//! written down before or after it is done; whose the write block is stands among the catalog's obligations.

use std::collections::{BTreeMap, BTreeSet};

use history::ContentSum;
use mongo::{Namespace, write::ParkedTtl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vault::DetachedManifest;

use super::{rewind::Decision, source::Item};

/// What the fold of a state took, for the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoldTold {
    /// Entries of the record that were read.
    pub(crate) entries: u64,
    /// Writes of documents that were folded.
    pub(crate) writes: u64,
    /// How long it took.
    pub(crate) duration_ms: u64,
}

/// The durable state of a restore job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Checkpoint {
    /// The state at a point in time, folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folded: Option<DetachedManifest>,
    /// What that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fold: Option<FoldTold>,
    /// Under which names things are put beside what is there, by their names in the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<BTreeMap<String, String>>,
    /// Whether it is a rewind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewind: Option<Decision>,
    /// Collections that lie complete under their staging names, by namespace.
    pub(crate) staged: BTreeMap<String, Staged>,
    /// All of these were read back and found equal; what was written to them later than this cluster time (as one
    /// number) is not known to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staged_proved_since: Option<u64>,
    /// Hashes of the documents of capped collections in their order, proved equal, by namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sequences: BTreeMap<String, String>,
    /// Collections loaded straight to their names inside the cut-over, by namespace.
    pub(crate) loaded: BTreeMap<String, Staged>,
    /// UUIDs, as hex, of what was made inside the cut-over where nothing may stand. A cut-over that an earlier version began has
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<BTreeSet<String>>,
    /// Cluster time (as one number) from which foreign writes are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cut_over_since: Option<u64>,
    /// Wall clock then: the outage is told from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cut_over_began_ms: Option<i64>,
    /// Wall clock when everything was in its place, until the proof at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cut_over_ended_ms: Option<i64>,
    /// Wall clock when the cut-over was decided: from then on the job has to come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decided_ms: Option<i64>,
    /// What is known once everything is in its place. From then on the target belongs to its users again: an attempt
    /// that takes over only proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) switched: Option<Switched>,
    /// Collections that the cut-over removes, as they were listed before it began.
    pub(crate) removed: Vec<String>,
    /// Databases that it removes.
    pub(crate) removed_databases: Vec<String>,
    /// All content was read back and found equal.
    pub(crate) content_proved: bool,
    /// Wall clock at which the job first began, for the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) began_ms: Option<i64>,
}

/// What the cut-over left to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Switched {
    /// Cluster time (as one number) at which everything was in its place.
    pub(crate) at: u64,
    /// What kept others out, as the receipt tells it.
    pub(crate) fence: Value,
    /// Users and roles, as the receipt tells it.
    pub(crate) users: Value,
    /// What others wrote in spite of the fence, as the receipt tells it.
    pub(crate) foreign: Value,
    /// The namespaces of those writes.
    pub(crate) touched: BTreeSet<String>,
}

/// One collection that was loaded and indexed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Staged {
    /// The UUID that the target gave it, as hex.
    pub(crate) uuid: String,
    /// What was loaded, where the manifest does not tell it: there were changes beside the segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Content>,
    /// TTL settings taken away for the time being: index name (empty for the collection's own) and seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parked: Vec<Parked>,
}

/// A [`ContentSum`] in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    documents: u64,
    bytes: u64,
    hash: String,
}

impl Content {
    /// To be written down.
    pub(crate) fn of(sum: &ContentSum) -> Self {
        Self { documents: sum.documents, bytes: sum.bytes, hash: sum.to_hex() }
    }
}

impl Staged {
    /// Whether it is known with it what was loaded.
    pub(crate) fn tells(&self, item: &Item) -> bool {
        item.beside.is_none() || self.content.is_some()
    }

    /// What the manifest says of the item, with the content that was loaded.
    pub(crate) fn tell(&self, item: &mut Item) {
        let Some(Content { documents, bytes, hash }) = &self.content else { return };
        let Some(sum) = ContentSum::from_hex(hash, *documents, *bytes) else { return };
        let entry = &mut item.entry;
        (entry.documents, entry.bytes, entry.content) = (sum.documents, sum.bytes, sum);
        item.beside = None;
    }
}

impl Checkpoint {
    /// The items of the job, each with the content that was loaded.
    pub(crate) fn as_loaded<'a>(&'a self, items: &'a [Item]) -> impl Iterator<Item = Item> + 'a {
        items.iter().map(|item| {
            let (name, mut item) = (item.ns.to_string(), item.clone());
            if let Some(staged) = self.loaded.get(&name).or_else(|| self.staged.get(&name)) {
                staged.tell(&mut item);
            }
            item
        })
    }
}

/// A TTL setting that was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parked {
    /// The index; absent for the `expireAfterSeconds` of a clustered or time-series collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<String>,
    /// The index's field that holds the date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// After how many seconds documents expire.
    pub(crate) expire_after_seconds: i64,
}

impl Parked {
    /// From the writer's words.
    pub(crate) fn of(parked: ParkedTtl) -> Self {
        Self { index: parked.index, field: parked.field, expire_after_seconds: parked.expire_after_seconds }
    }

    /// Back to the writer's words, under the collection's present name.
    pub(crate) fn at(&self, namespace: &Namespace) -> ParkedTtl {
        ParkedTtl {
            namespace: namespace.clone(),
            index: self.index.clone(),
            field: self.field.clone(),
            expire_after_seconds: self.expire_after_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_an_older_one_too() {
        let mut checkpoint = Checkpoint { cut_over_since: Some(7), ..Checkpoint::default() };
        let parked = vec![Parked {
            index: Some("t_1".to_owned()),
            field: Some("t".to_owned()),
            expire_after_seconds: 60,
        }];
        let content = Some(Content { documents: 1, bytes: u64::MAX, hash: "0".repeat(32) });
        checkpoint.staged.insert("a.b".to_owned(), Staged { uuid: "00".to_owned(), parked, content });
        let text = serde_json::to_string(&checkpoint).unwrap();
        assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), checkpoint);
        assert_eq!(serde_json::from_str::<Checkpoint>("{}").unwrap(), Checkpoint::default());
    }
}
