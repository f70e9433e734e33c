//! What a slice says of itself: block 0 of its object.

use std::ops::Range;

use model::{
    ClusterTime, OplogPosition, WallTime,
    id::{DeploymentId, ProjectId, TimelineId},
};
use serde::{Deserialize, Serialize};

use super::SLICE_BYTES_MAX;
use crate::{Error, ObjectKind, ObjectName, Result, crypt::Keys, name::hex_hash};

pub(super) const FORMAT: &str = "ebbtide-slice";
/// The version of the content of slices.
pub(super) const VERSION: u32 = 1;
/// A header has a line of some 200 bytes for every block; this is room for blocks of any size.
pub(super) const HEADER_BYTES_MAX: usize = 16 << 20;

/// What the entries of a slice are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSource {
    /// The timeline.
    pub timeline_id: TimelineId,
    /// The project that the deployment belongs to.
    pub project_id: ProjectId,
    /// That project's name now.
    pub project_name: String,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// That deployment's name now.
    pub deployment_name: String,
    /// The replica set whose oplog it is.
    pub replica_set_name: String,
    /// Which Ebbtide writes it.
    pub ebbtide_version: String,
}

/// The place of a slice in the chain of its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceLink {
    /// 0 for the first slice of a timeline.
    pub sequence: u64,
    /// The slice before it; the first has none.
    pub previous: Option<ObjectName>,
    /// The last entry before this slice.
    pub after: OplogPosition,
}

impl SliceLink {
    /// The first slice of a timeline that begins after this entry.
    pub const fn first(after: OplogPosition) -> Self {
        Self { sequence: 0, previous: None, after }
    }

    /// The slice behind another one.
    pub const fn behind(previous: &SliceHeader, name: ObjectName) -> Self {
        Self { sequence: previous.sequence.saturating_add(1), previous: Some(name), after: previous.last }
    }
}

/// What a slice is of: enough to rebuild its row in a catalog. It holds every entry in (`after`, `last`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceHeader {
    /// The timeline that it is a link of.
    pub timeline_id: TimelineId,
    /// The project that the deployment belongs to.
    pub project_id: ProjectId,
    /// That project's name when the slice was written.
    pub project_name: String,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// That deployment's name when the slice was written.
    pub deployment_name: String,
    /// The replica set whose oplog it is.
    pub replica_set_name: String,
    /// Its number in the timeline, from 0.
    pub sequence: u64,
    /// The slice before it in the timeline; the first has none.
    #[serde(default, with = "slice_name", skip_serializing_if = "Option::is_none")]
    pub previous: Option<ObjectName>,
    /// The last entry before this slice.
    pub after: OplogPosition,
    /// The first entry.
    pub first: OplogPosition,
    /// The last entry.
    pub last: OplogPosition,
    /// Whoever folds what takes effect after `last`, and knows of no transactions that are open then, must read the
    /// oplog from entries of this time on: the first entry of the oldest transaction that is open after this slice, or
    /// else the time of `last`.
    pub read_from: ClusterTime,
    /// How many entries.
    pub entries: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// When the slice was sealed.
    pub created_at: WallTime,
    /// Which Ebbtide wrote it.
    pub ebbtide_version: String,
}

impl SliceHeader {
    /// Its place in the chain.
    pub const fn link(&self) -> SliceLink {
        SliceLink { sequence: self.sequence, previous: self.previous, after: self.after }
    }
}

/// What the header says of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceBlock {
    /// The time of its first entry.
    pub first: ClusterTime,
    /// How many entries.
    pub entries: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// What it takes in the object, its tag included.
    pub stored_bytes: u64,
    /// BLAKE3 of the entries' bytes, keyed.
    #[serde(with = "hex_hash")]
    pub(crate) hash: [u8; 32],
}

/// The header as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) header: SliceHeader,
    pub(super) blocks: Vec<SliceBlock>,
}

/// Only what every version of a header has.
#[derive(Deserialize)]
struct RootVersion {
    format: String,
    version: u32,
}

impl Root {
    /// Reads a header that was unsealed, and checks that it is the one that has this name.
    pub(super) fn read(keys: &Keys, name: &ObjectName, plain: &[u8]) -> Result<Self> {
        let damaged = |what| Error::damaged_block(*name, 0, what);
        if keys.name(ObjectKind::Slice, &[plain]) != *name {
            return Err(damaged("its hash is another one"));
        }
        let malformed = |_| damaged("its header is malformed");
        let RootVersion { format, version } = serde_json::from_slice(plain).map_err(malformed)?;
        if format != FORMAT {
            return Err(damaged("it is not a slice"));
        }
        if version > VERSION {
            return Err(Error::NewerFormat { what: name.to_string(), version, known: VERSION });
        }
        let root: Self = serde_json::from_slice(plain).map_err(malformed)?;
        match root.contradiction() {
            None => Ok(root),
            Some(what) => Err(damaged(what)),
        }
    }

    /// What in it cannot be true together. Readers rely on there being no such thing.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let Self { header, blocks, .. } = self;
        let sum = |of: fn(&SliceBlock) -> u64| {
            blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(of(block)))
        };
        if (header.sequence == 0) != header.previous.is_none() {
            Some("its header contradicts itself: the first slice of a timeline, and no other, follows none")
        } else if !header.after.precedes(header.first)
            || (header.first != header.last && !header.first.precedes(header.last))
        {
            Some("its header contradicts itself: its first and last entry are out of order")
        } else if header.read_from > header.last.time {
            Some("its header contradicts itself: what is read later begins behind its last entry")
        } else if sum(|block| block.entries) != Some(header.entries)
            || sum(|block| block.bytes) != Some(header.bytes)
            || sum(|block| block.stored_bytes).is_none_or(|bytes| bytes > u64::from(u32::MAX))
        {
            Some("its header contradicts itself: its blocks do not add up to it")
        } else if header.bytes > SLICE_BYTES_MAX as u64 {
            Some("its blocks are larger than a slice")
        } else if blocks.first().is_none_or(|block| block.first != header.first.time)
            || !blocks.is_sorted_by(|block, next| block.first < next.first)
            || blocks.last().is_some_and(|block| block.first > header.last.time)
        {
            Some("its header contradicts itself: its blocks are out of order")
        } else {
            None
        }
    }

    /// Where the blocks lie in an object whose front (the object's header and block 0) is so long.
    pub(super) fn ranges(&self, front_bytes: u64) -> Vec<Range<u64>> {
        let mut at = front_bytes;
        let range = |block: &SliceBlock| {
            let start = at;
            at += block.stored_bytes;
            start..at
        };
        self.blocks.iter().map(range).collect()
    }
}

/// The name of a slice as 64 hexadecimal digits.
mod slice_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::{ObjectKind, ObjectName};

    #[allow(clippy::ref_option, reason = "serde gives it like that")]
    pub(super) fn serialize<S: Serializer>(name: &Option<ObjectName>, out: S) -> Result<S::Ok, S::Error> {
        name.map(|name| name.hex()).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ObjectName>, D::Error> {
        let parse = |digits: String| {
            ObjectName::from_file(ObjectKind::Slice, &digits)
                .ok_or_else(|| D::Error::custom(format!("{digits:?} is no name of a slice")))
        };
        Option::<String>::deserialize(from)?.map(parse).transpose()
    }
}
