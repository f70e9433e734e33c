//! What a manifest says about a collection.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use history::ContentSum;
use model::ClusterTime;
use serde::{Deserialize, Serialize};

use super::page::{PageLine, PageRef};
use crate::{Order, name::fixed_hex};

/// What sort of collection it is, for what must happen to it when it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CollectionKind {
    /// An ordinary collection.
    Plain,
    /// A capped one: its order is content.
    Capped,
    /// A clustered one: it has no `_id` index.
    Clustered,
    /// The buckets below a time series.
    TimeSeriesBuckets,
    /// The view that shows buckets as a time series.
    TimeSeriesView,
    /// A view.
    View,
    /// `system.js`.
    SystemJs,
    /// `system.views`.
    SystemViews,
}

/// What the source said about a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionMeta {
    /// Its UUID; views have none.
    pub uuid: Option<[u8; 16]>,
    /// The database.
    pub db: String,
    /// The collection's name in it.
    pub name: String,
    /// What sort it is.
    pub kind: CollectionKind,
    /// How its documents follow one another in its segments.
    pub order: Order,
    /// Its options, raw BSON as the server gave them.
    pub options: Vec<u8>,
    /// The specification of its `_id` index, raw BSON.
    pub id_index: Option<Vec<u8>>,
    /// The specifications of all its indexes, that on `_id` included where the server lists it, raw BSON each.
    pub indexes: Vec<Vec<u8>>,
    /// The cluster time of its content. That of the snapshot, but for capped collections.
    pub as_of: ClusterTime,
    /// Until when it was read, where it was not read at one time, as capped collections cannot be: of what was inserted, changed or
    /// removed since `as_of` and until then, some may be in the content already. Nothing later is.
    pub read_through: Option<ClusterTime>,
}

/// One collection as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionEntry {
    /// What the source said about it.
    pub meta: CollectionMeta,
    /// How many documents.
    pub documents: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// Their hash, whatever the order.
    pub content: ContentSum,
    /// How many segments.
    pub segments: u64,
    /// What the segments take in the store, those shared with other snapshots included.
    pub stored_bytes: u64,
    /// The pages that list the segments.
    pub segment_pages: Vec<PageRef>,
}

/// A collection as a line of a page. Absent times are that of the page's reference.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CollectionLine {
    db: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    kind: CollectionKind,
    order: Order,
    options: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_index: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    indexes: Vec<String>,
    documents: u64,
    bytes: u64,
    content: String,
    segments: u64,
    stored_bytes: u64,
    segment_pages: Vec<PageLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<ClusterTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_through: Option<ClusterTime>,
}

impl CollectionLine {
    pub(super) fn new(entry: &CollectionEntry, page_as_of: ClusterTime) -> Self {
        let meta = &entry.meta;
        Self {
            db: meta.db.clone(),
            name: meta.name.clone(),
            uuid: meta.uuid.map(hex::encode),
            kind: meta.kind,
            order: meta.order,
            options: BASE64.encode(&meta.options),
            id_index: meta.id_index.as_ref().map(|spec| BASE64.encode(spec)),
            indexes: meta.indexes.iter().map(|spec| BASE64.encode(spec)).collect(),
            documents: entry.documents,
            bytes: entry.bytes,
            content: entry.content.to_hex(),
            segments: entry.segments,
            stored_bytes: entry.stored_bytes,
            segment_pages: entry.segment_pages.iter().map(|page| PageLine::new(page, page_as_of)).collect(),
            as_of: (meta.as_of != page_as_of).then_some(meta.as_of),
            read_through: meta.read_through,
        }
    }

    /// Back from a line; none when a field is malformed.
    pub(super) fn into_entry(self, page_as_of: ClusterTime) -> Option<CollectionEntry> {
        let uuid = match &self.uuid {
            Some(text) => Some(fixed_hex(text)?),
            None => None,
        };
        let id_index = match &self.id_index {
            Some(text) => Some(BASE64.decode(text).ok()?),
            None => None,
        };
        let meta = CollectionMeta {
            uuid,
            db: self.db,
            name: self.name,
            kind: self.kind,
            order: self.order,
            options: BASE64.decode(self.options).ok()?,
            id_index,
            indexes: self.indexes.iter().map(|spec| BASE64.decode(spec).ok()).collect::<Option<_>>()?,
            as_of: self.as_of.unwrap_or(page_as_of),
            read_through: self.read_through,
        };
        Some(CollectionEntry {
            meta,
            documents: self.documents,
            bytes: self.bytes,
            content: ContentSum::from_hex(&self.content, self.documents, self.bytes)?,
            segments: self.segments,
            stored_bytes: self.stored_bytes,
            segment_pages: self
                .segment_pages
                .into_iter()
                .map(|page| page.into_ref(page_as_of))
                .collect::<Option<_>>()?,
        })
    }
}
