//! Typed 12-byte ids, written as 24 lower-case hexadecimal digits as Atlas does.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id of one kind of thing; ids of two kinds cannot be mixed up.
///
/// Four bytes of seconds since the epoch, then eight random bytes, so that ids sort by age and two
/// processes never make the same one.
pub struct Id<T> {
    bytes: [u8; 12],
    kind: PhantomData<fn() -> T>,
}

/// The kinds of ids.
pub mod kind {
    /// A project (Atlas: group).
    pub enum Project {}
    /// A deployment (Atlas: cluster).
    pub enum Deployment {}
    /// A snapshot.
    pub enum Snapshot {}
    /// A restore job, as the API shows it.
    pub enum RestoreJob {}
    /// A work item of the job queue.
    pub enum Job {}
    /// An API key or a service account.
    pub enum Credential {}
    /// A secret of a service account.
    pub enum AccountSecret {}
    /// A timeline.
    pub enum Timeline {}
    /// The backup policy of a deployment.
    pub enum Policy {}
    /// An item of a backup policy.
    pub enum PolicyItem {}
    /// A bucket that snapshots are exported to.
    pub enum ExportBucket {}
    /// An export of a snapshot.
    pub enum ExportJob {}
}

/// Id of a project.
pub type ProjectId = Id<kind::Project>;
/// Id of a deployment.
pub type DeploymentId = Id<kind::Deployment>;
/// Id of a snapshot.
pub type SnapshotId = Id<kind::Snapshot>;
/// Id of a restore job.
pub type RestoreJobId = Id<kind::RestoreJob>;
/// Id of a work item.
pub type JobId = Id<kind::Job>;
/// Id of an API key or a service account.
pub type CredentialId = Id<kind::Credential>;
/// Id of a secret of a service account.
pub type AccountSecretId = Id<kind::AccountSecret>;
/// Id of a timeline.
pub type TimelineId = Id<kind::Timeline>;
/// Id of a backup policy.
pub type PolicyId = Id<kind::Policy>;
/// Id of an item of a backup policy.
pub type PolicyItemId = Id<kind::PolicyItem>;
/// Id of a bucket that snapshots are exported to.
pub type ExportBucketId = Id<kind::ExportBucket>;
/// Id of an export of a snapshot.
pub type ExportJobId = Id<kind::ExportJob>;

/// The text is not 24 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 24 hexadecimal digits in lower case, got {0:?}")]
pub struct MalformedId(pub String);

impl<T> Id<T> {
    /// Makes an id from a wall clock reading and randomness.
    pub fn from_parts(epoch_seconds: u32, random: [u8; 8]) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&epoch_seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&random);
        Self::from_bytes(bytes)
    }

    /// Wraps twelve bytes.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// The twelve bytes.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.bytes
    }
}

impl<T> FromStr for Id<T> {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let malformed = || MalformedId(text.chars().take(64).collect());
        let digits = text.as_bytes();
        if digits.len() != 24 {
            return Err(malformed());
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(malformed()),
        };
        let mut bytes = [0; 12];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self::from_bytes(bytes))
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_the_same_id() {
        let id: SnapshotId = "32b6e34b3d91647abb20e7b8".parse().expect("a good id");
        assert_eq!(id.to_string(), "32b6e34b3d91647abb20e7b8");
        assert_eq!(SnapshotId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn anything_but_24_lower_case_digits_is_refused() {
        for bad in
            ["", "32b6", "32B6E34B3D91647ABB20E7B8", "32b6e34b3d91647abb20e7bg", "32b6e34b3d91647abb20e7b8 "]
        {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?} was taken");
        }
    }
}
