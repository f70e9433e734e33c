//! What a restore job was asked for beyond snapshot and target.

use model::{CollectionRestore, Selection};
use serde::{Deserialize, Serialize};

use crate::lease::JobError;

/// A deadline for an index build that nobody set: longer than any build should take, short of for ever.
const INDEX_DEADLINE_SECONDS_DEFAULT: u64 = 24 * 3600;

/// The `options` of a restore job's row. Fields are only ever added; unknown ones are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreOptions {
    /// Bring users and roles back too. Off, so that a revoked account does not come back by accident.
    pub with_users: bool,
    /// Without staging: drop and load each collection inside the cut-over. Half the disk space, a long outage,
    /// and no way back once it has begun.
    pub in_place: bool,
    /// Leave TTL indexes parked, so that restored documents which have expired meanwhile are not deleted at once.
    pub park_ttl: bool,
    /// `commitQuorum` of index builds: a number of members, `majority` (the default) or `votingMembers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_commit_quorum: Option<CommitQuorum>,
    /// How long one index build may take.
    pub index_deadline_seconds: u64,
    /// Whether other writers are kept out during the cut-over.
    pub fence: FenceMode,
    /// Whether only what changed is put back, where that is possible.
    pub rewind: RewindMode,
    /// Find out what would be done, tell it, and do nothing.
    pub plan_only: bool,
    /// What of the state is restored, and as what; everything when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// The same as Atlas has it asked for; the selection is made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection_restore: Option<CollectionRestore>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            with_users: false,
            in_place: false,
            park_ttl: true,
            index_commit_quorum: None,
            index_deadline_seconds: INDEX_DEADLINE_SECONDS_DEFAULT,
            fence: FenceMode::Auto,
            rewind: RewindMode::Auto,
            plan_only: false,
            selection: None,
            collection_restore: None,
        }
    }
}

/// How many members must have built an index before it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitQuorum {
    /// A majority of the members that vote and bear data.
    Majority,
    /// All of them.
    VotingMembers,
    /// So many members.
    #[serde(untagged)]
    Members(u32),
}

/// Whether other writers are kept out during the cut-over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FenceMode {
    /// Where the server can and the account may.
    #[default]
    Auto,
    /// Not at all.
    Off,
}

/// Whether a deployment that is restored onto itself is rewound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RewindMode {
    /// Where it is possible and cheaper.
    #[default]
    Auto,
    /// In any case; where it is not possible, the job fails.
    Only,
    /// Never.
    Off,
}

impl RestoreOptions {
    /// Reads the options of a row; none are the defaults.
    ///
    /// # Errors
    /// [`JobError::Failed`] when an option has a value that it cannot have.
    pub fn read(options: Option<&serde_json::Value>) -> Result<Self, JobError> {
        let mut options = match options {
            None | Some(serde_json::Value::Null) => Self::default(),
            Some(value) => Self::deserialize(value).map_err(|e| {
                JobError::failed_by("the options of the restore job are not valid; create it again", e)
            })?,
        };
        if let Some(asked) = &options.collection_restore {
            if options.selection.is_some() || options.in_place {
                return Err(JobError::failed(
                    "the restore job has databases and collections, and a selection or the option inPlace beside them; \
                     create it again without one of the two",
                ));
            }
            options.selection = Some(asked.selection().clone());
        }
        if options.with_users && options.selection.is_some() {
            return Err(JobError::failed(
                "users and roles are restored with everything else only, and the restore job has a selection; create \
                 it again without one of the two",
            ));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_asked_is_the_safe_thing() {
        let options = RestoreOptions::read(None).unwrap();
        assert!(options.park_ttl && !options.with_users && !options.in_place);
        assert_eq!(RestoreOptions::read(Some(&json!({}))).unwrap(), options);
    }

    #[test]
    fn a_selection_that_cannot_be_read_is_never_everything() {
        let read = |selection, users| {
            RestoreOptions::read(Some(&json!({"selection": selection, "withUsers": users})))
        };
        let one = json!({"namespaces": ["shop.orders"]});
        assert!(read(one.clone(), false).unwrap().selection.is_some());
        assert!(read(one, true).unwrap_err().full_text().contains("users and roles"));
        for bad in [json!({}), json!([]), json!({"namespaces": []}), json!({"namespaces": ["local"]})] {
            assert!(read(bad.clone(), false).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quorum_is_a_number_or_a_word() {
        let read = |quorum| {
            RestoreOptions::read(Some(&json!({"indexCommitQuorum": quorum}))).unwrap().index_commit_quorum
        };
        assert_eq!(read(json!(2)), Some(CommitQuorum::Members(2)));
        assert_eq!(read(json!("majority")), Some(CommitQuorum::Majority));
        assert_eq!(read(json!("votingMembers")), Some(CommitQuorum::VotingMembers));
        assert!(RestoreOptions::read(Some(&json!({"indexCommitQuorum": "all"}))).is_err());
        assert!(RestoreOptions::read(Some(&json!({"fence": "maybe"}))).is_err());
        assert!(RestoreOptions::read(Some(&json!({"rewind": "maybe"}))).is_err());
    }
}
