//! Capped collections, which refuse snapshot reads (code 246).
//!
//! They are read at majority in their own order. What was there when the read began bounds it: a writer who is faster
//! than the reader would otherwise keep it running for ever. Documents evicted meanwhile are missing, so the result is
//! a run without gaps up to the last document of that moment.

use bson::{raw::cstr, rawdoc};

use super::{Cursor, DocumentId, find};
use crate::{
    ClusterTime, CollectionInfo, Result,
    wire::{Connection, ReplyExt as _},
};

/// A capped collection being read.
#[derive(Debug)]
pub struct CappedRead<'c> {
    /// The cluster time of the last document that will be read.
    pub as_of: ClusterTime,
    /// The documents, in insertion order.
    pub cursor: Cursor<'c>,
}

/// Reads a capped collection in its own order.
///
/// # Errors
/// `CursorLost` when a writer laps the reader: begin again; network.
pub async fn capped<'c>(
    connection: &'c mut Connection,
    collection: &CollectionInfo,
) -> Result<CappedRead<'c>> {
    let namespace = &collection.namespace;
    let mut last = find(namespace);
    last.append(cstr!("sort"), rawdoc! { "$natural": -1 });
    last.append(cstr!("limit"), 1);
    last.append(cstr!("singleBatch"), true);
    last.append(cstr!("readConcern"), rawdoc! { "level": "majority" });
    let reply = connection.command(&last).await?;
    let as_of = reply.operation_time()?;
    let documents = reply.child("cursor").map(|cursor| cursor.children("firstBatch")).unwrap_or_default();
    let Some(through) = documents.first().map(|document| DocumentId::of(document.as_bytes())).transpose()?
    else {
        return Ok(CappedRead { as_of, cursor: Cursor::empty(connection, namespace) });
    };
    let mut all = find(namespace);
    all.append(cstr!("hint"), rawdoc! { "$natural": 1 });
    all.append(cstr!("readConcern"), rawdoc! { "level": "majority" });
    Ok(CappedRead { as_of, cursor: Cursor::open(connection, namespace, all, Some(through)).await? })
}
