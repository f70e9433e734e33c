//! What an attempt leaves of a rewind for the next one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{super::checkpoint::Parked, differences::Counts};

/// Whether a restore is a rewind. Decided once, before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Decision {
    /// Everything is restored.
    Full {
        /// Why it is no rewind.
        reason: String,
    },
    /// Only what changed is.
    Rewind(Box<Plan>),
}

/// What stays and what does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Plan {
    /// The timeline that is followed.
    pub(crate) timeline: String,
    /// What stays where it is, by namespace.
    pub(crate) kept: BTreeSet<String>,
    /// What does not, with the reason.
    pub(crate) rebuilt: BTreeMap<String, String>,
    /// What was to stay and turned out, behind the fence, not to be able to: it is loaded in place. With the reason.
    pub(crate) given_up: BTreeMap<String, String>,
    /// Lifetimes that were put aside on what stays, by namespace.
    pub(crate) parked: BTreeMap<String, Vec<Parked>>,
    /// From the first write on: what the first look behind the fence has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) begun: Option<Begun>,
    /// The time (as one number) up to which the last round followed the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) followed: Option<u64>,
    /// What stays and others wrote to after that.
    pub(crate) changed_by_others: BTreeSet<String>,
    /// Everything that stays was put back and read back.
    pub(crate) done: bool,
}

/// What is about to be done to the documents that stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Begun {
    /// All documents.
    pub(crate) documents: Counts,
    /// By namespace, where there are any.
    pub(crate) collections: BTreeMap<String, Counts>,
    /// Indexes that are dropped, as `namespace name`.
    pub(crate) indexes_dropped: BTreeSet<String>,
    /// Indexes that are built.
    pub(crate) indexes_built: BTreeSet<String>,
}

impl Begun {
    /// Takes up what a later round is about to do to collections in which none had begun; whether there are any.
    pub(crate) fn take_up(&mut self, later: &Self) -> bool {
        let before = self.collections.len();
        for (ns, counts) in &later.collections {
            if !self.collections.contains_key(ns) {
                self.documents = self.documents.and(*counts);
                self.collections.insert(ns.clone(), *counts);
            }
        }
        self.collections.len() > before
    }
}

impl Plan {
    /// Whether an item of this name is changed in place.
    pub(crate) fn changes_in_place(&self, namespace: &str) -> bool {
        self.kept.contains(namespace) && !self.given_up.contains_key(namespace)
    }

    /// For the receipt, and for whoever asked for the plan alone. `begun` when nothing has begun.
    pub(crate) fn to_json(&self, begun: Option<&Begun>) -> Value {
        let nothing = Begun::default();
        let begun = begun.or(self.begun.as_ref()).unwrap_or(&nothing);
        let rebuilt = self.rebuilt.iter().map(|(ns, reason)| json!({"ns": ns, "reason": reason}));
        let given_up = self.given_up.iter().map(|(ns, reason)| json!({"ns": ns, "reason": reason}));
        let changed = begun.collections.iter().map(|(ns, counts)| {
            json!({
                "ns": ns, "inserted": counts.inserted, "removed": counts.removed, "replaced": counts.replaced,
                "bytes": counts.bytes,
            })
        });
        let Counts { inserted, removed, replaced, bytes, bytes_read, .. } = begun.documents;
        json!({
            "mode": "rewind",
            "documents": {"inserted": inserted, "removed": removed, "replaced": replaced, "bytes": bytes},
            "bytesReadFromVault": bytes_read,
            "collectionsKept": self.kept.len() - self.given_up.len(),
            "collectionsChanged": changed.collect::<Vec<_>>(),
            "collectionsRebuilt": rebuilt.chain(given_up).collect::<Vec<_>>(),
            "indexesDropped": begun.indexes_dropped,
            "indexesBuilt": begun.indexes_built,
        })
    }
}

impl Decision {
    /// The plan of a rewind.
    pub(crate) fn rewind(&self) -> Option<&Plan> {
        match self {
            Self::Rewind(plan) => Some(plan),
            Self::Full { .. } => None,
        }
    }

    /// For the receipt.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Full { reason } => json!({"mode": "full", "reason": reason}),
            Self::Rewind(plan) => plan.to_json(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(namespaces: &[&str]) -> Begun {
        let one = Counts { inserted: 1, ..Counts::default() };
        let mut begun = Begun::default();
        for ns in namespaces {
            begun.documents = begun.documents.and(one);
            begun.collections.insert((*ns).to_owned(), one);
        }
        begun
    }

    #[test]
    fn what_a_later_round_touches_is_remembered_too() {
        let mut known = begun(&["a.x", "a.y"]);
        assert!(!known.take_up(&begun(&["a.x"])));
        assert!(known.take_up(&begun(&["a.x", "a.z"])));
        assert_eq!(known, begun(&["a.x", "a.y", "a.z"]));
    }
}
