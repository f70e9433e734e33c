//! What a manifest says about a segment.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use history::ContentSum;
use model::ClusterTime;
use serde::{Deserialize, Serialize};

use crate::ObjectName;

/// How the documents of a segment follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// By sort key, each key once.
    Sorted,
    /// As the server stores them: capped collections. Their keys tell nothing.
    Natural,
}

impl Order {
    /// The byte that stands for it in an index and a name.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Sorted => 1,
            Self::Natural => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sorted),
            2 => Some(Self::Natural),
            _ => None,
        }
    }
}

/// One segment as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The object that holds it.
    pub name: ObjectName,
    /// How its documents follow one another.
    pub order: Order,
    /// Sort key of the first document; empty in natural order.
    pub first_key: Vec<u8>,
    /// Sort key of the last document; empty in natural order.
    pub last_key: Vec<u8>,
    /// How many documents.
    pub documents: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// Their hash.
    pub content: ContentSum,
    /// The cluster time at which these documents were the collection's between these keys.
    pub as_of: ClusterTime,
    /// What the object takes in the store.
    pub stored_bytes: u64,
}

/// A segment entry as a line of a page. Absent `asOf` is that of the page's reference.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SegmentLine<'a> {
    segment: std::borrow::Cow<'a, str>,
    order: Order,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    first_key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    last_key: String,
    documents: u64,
    bytes: u64,
    content: std::borrow::Cow<'a, str>,
    stored_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<ClusterTime>,
}

impl SegmentLine<'_> {
    pub(crate) fn new(entry: &SegmentEntry, page_as_of: ClusterTime) -> Self {
        Self {
            segment: entry.name.hex().into(),
            order: entry.order,
            first_key: BASE64.encode(&entry.first_key),
            last_key: BASE64.encode(&entry.last_key),
            documents: entry.documents,
            bytes: entry.bytes,
            content: entry.content.to_hex().into(),
            stored_bytes: entry.stored_bytes,
            as_of: (entry.as_of != page_as_of).then_some(entry.as_of),
        }
    }

    /// Back from a line; none when a field is malformed.
    pub(crate) fn into_entry(self, page_as_of: ClusterTime) -> Option<SegmentEntry> {
        Some(SegmentEntry {
            name: ObjectName::from_file(crate::ObjectKind::Segment, &self.segment)?,
            order: self.order,
            first_key: BASE64.decode(self.first_key).ok()?,
            last_key: BASE64.decode(self.last_key).ok()?,
            documents: self.documents,
            bytes: self.bytes,
            content: ContentSum::from_hex(&self.content, self.documents, self.bytes)?,
            as_of: self.as_of.unwrap_or(page_as_of),
            stored_bytes: self.stored_bytes,
        })
    }
}
