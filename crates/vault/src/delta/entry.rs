//! What a manifest says about a delta.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use history::CollectionId;
use model::ClusterTime;
use serde::{Deserialize, Serialize};

use crate::{ObjectKind, ObjectName, name::fixed_hex};

/// The place of a document among those of all collections. Sorts as the changes in a delta do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaKey {
    /// The collection.
    pub collection: CollectionId,
    /// The document's sort key.
    pub key: Vec<u8>,
}

/// One delta as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaEntry {
    /// The object that holds it.
    pub name: ObjectName,
    /// Of which document the first change is.
    pub first: DeltaKey,
    /// Of which document the last change is.
    pub last: DeltaKey,
    /// How many changes.
    pub changes: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// What the object takes in the store.
    pub stored_bytes: u64,
}

impl DeltaEntry {
    /// Whether it may have changes of documents of this collection, from `from` on and below `to`.
    pub fn overlaps(&self, collection: CollectionId, from: &[u8], to: Option<&[u8]>) -> bool {
        let is_behind = self.last.collection < collection
            || (self.last.collection == collection && *self.last.key < *from);
        let is_before = self.first.collection > collection
            || (self.first.collection == collection && to.is_some_and(|to| *self.first.key >= *to));
        !is_behind && !is_before
    }
}

/// A key as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyLine {
    collection: String,
    key: String,
}

impl From<&DeltaKey> for KeyLine {
    fn from(key: &DeltaKey) -> Self {
        Self { collection: hex::encode(key.collection.0), key: BASE64.encode(&key.key) }
    }
}

impl KeyLine {
    /// None when it is malformed.
    pub(super) fn read(&self) -> Option<DeltaKey> {
        let collection = CollectionId(fixed_hex(&self.collection)?);
        Some(DeltaKey { collection, key: BASE64.decode(&self.key).ok()? })
    }
}

/// A delta as a line of a page.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeltaLine {
    delta: String,
    first: KeyLine,
    last: KeyLine,
    changes: u64,
    bytes: u64,
    stored_bytes: u64,
}

impl From<&DeltaEntry> for DeltaLine {
    fn from(entry: &DeltaEntry) -> Self {
        Self {
            delta: entry.name.hex(),
            first: (&entry.first).into(),
            last: (&entry.last).into(),
            changes: entry.changes,
            bytes: entry.bytes,
            stored_bytes: entry.stored_bytes,
        }
    }
}

impl DeltaLine {
    /// Back from a line; none when a field is malformed.
    pub(crate) fn into_entry(self, _page_as_of: ClusterTime) -> Option<DeltaEntry> {
        Some(DeltaEntry {
            name: ObjectName::from_file(ObjectKind::Delta, &self.delta)?,
            first: self.first.read()?,
            last: self.last.read()?,
            changes: self.changes,
            bytes: self.bytes,
            stored_bytes: self.stored_bytes,
        })
    }
}
