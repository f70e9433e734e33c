//! Capped collections, which refuse snapshot reads (code 246).
//!
//! They are read at majority in their own order. What was there when the read began bounds it: a writer who is faster
//! than the reader would otherwise keep it running for ever. Documents evicted meanwhile are missing, so the result is
//! a run without gaps up to the last document of that moment.
//!
//! When that moment was no server tells: it looks at the time when it has read, and a document may have been inserted in between;
//! and on a primary with several writers the order of a collection is not quite that of the oplog (measured on 5.0.4, 6.0.5 and
//! 6.0.27). So a time before it is told, up to which every insert is read. Some later ones are as well.

use bson::{raw::cstr, rawdoc};

use super::{Cursor, DocumentId, find};
use crate::{
    ClusterTime, CollectionInfo, Result,
    wire::{Connection, ReplyExt as _},
};

/// A capped collection being read.
#[derive(Debug)]
pub struct CappedRead<'c> {
    /// What was inserted up to then is read, as far as it is there still; of what was inserted later, whatever was there when the
    /// read began.
    pub as_of: ClusterTime,
    /// The documents, in insertion order.
    pub cursor: Cursor<'c>,
}

/// Reads a capped collection in its own order, as it is at `not_before` or later: a member that does not know that time yet waits.
///
/// # Errors
/// `CursorLost` when a writer laps the reader: begin again; network.
pub async fn capped<'c>(
    connection: &'c mut Connection,
    collection: &CollectionInfo,
    not_before: ClusterTime,
) -> Result<CappedRead<'c>> {
    let namespace = &collection.namespace;
    let before = last(connection, collection, Some(not_before)).await?.told;
    let Some(through) = last(connection, collection, Some(before)).await?.document else {
        return Ok(CappedRead { as_of: before, cursor: Cursor::empty(connection, namespace) });
    };
    let mut all = find(namespace);
    all.append(cstr!("hint"), rawdoc! { "$natural": 1 });
    all.append(cstr!("readConcern"), rawdoc! { "level": "majority" });
    Ok(CappedRead { as_of: before, cursor: Cursor::open(connection, namespace, all, Some(through)).await? })
}

/// A time after all that was seen of a capped collection on this connection so far.
///
/// # Errors
/// The server's; network.
pub async fn capped_seen(connection: &mut Connection, collection: &CollectionInfo) -> Result<ClusterTime> {
    Ok(last(connection, collection, None).await?.told)
}

/// The last document, and a time that is not before the one at which it was that.
struct Last {
    document: Option<DocumentId>,
    told: ClusterTime,
}

async fn last(
    connection: &mut Connection,
    collection: &CollectionInfo,
    after: Option<ClusterTime>,
) -> Result<Last> {
    let mut concern = rawdoc! { "level": "majority" };
    if let Some(after) = after {
        concern.append(cstr!("afterClusterTime"), after);
    }
    let mut last = find(&collection.namespace);
    last.append(cstr!("sort"), rawdoc! { "$natural": -1 });
    last.append(cstr!("limit"), 1);
    last.append(cstr!("singleBatch"), true);
    last.append(cstr!("readConcern"), concern);
    let reply = connection.command(&last).await?;
    let told = reply.operation_time()?;
    let documents = reply.child("cursor").map(|cursor| cursor.children("firstBatch")).unwrap_or_default();
    let document = documents.first().map(|document| DocumentId::of(document.as_bytes())).transpose()?;
    Ok(Last { document, told })
}
