//! Exact reads of one collection: all documents as they were at one cluster time, as raw bytes.
//!
//! A [`Cursor`] gives one [`Batch`] of about a megabyte after the other, and each batch owns the reply buffer that it
//! came in, so memory is bounded by the batches that the caller keeps. Three ways to read lead to the same documents:
//!
//! * [`sorted`]: by the `_id` index, from any `_id` on; in parallel from several [`split_points`];
//! * [`natural`]: in the order of storage, in parallel by [`natural_split`]; the caller sorts;
//! * [`capped`]: in the order of storage, at majority, because capped collections refuse snapshot reads.
//!
//! [`choose_order`] says which. Two traps are the caller's to mind: a collection dropped or renamed after `at` reads
//! back empty without an error (see [`crate::ddl`]), and [`crate::Error::SnapshotTooOld`] can come with any batch.

mod batch;
mod capped;
mod cursor;
mod id;
mod order;
mod split;

pub use batch::Batch;
pub use capped::{CappedRead, capped, capped_seen};
pub use cursor::Cursor;
pub use id::DocumentId;
pub use order::{Displaced, Evidence, Order, choose_order, decide};
pub use split::{NaturalRange, natural_split, split_points};

use bson::{RawDocumentBuf, raw::cstr, rawdoc};

use crate::{
    ClusterTime, CollectionInfo, CollectionKind, Namespace, Result,
    wire::{Connection, ReplyExt as _},
};

/// How large a collection is, as far as the server knows: a crash makes its counts wrong. For progress and for choosing
/// an order only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Documents.
    pub documents: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
    /// Bytes on disk, without indexes.
    pub stored_bytes: u64,
    /// Bytes on disk that documents and indexes take, without what is free in their files.
    pub used_bytes: u64,
}

/// Asks the server how large a collection is.
///
/// # Errors
/// The server's.
pub async fn size(connection: &mut Connection, namespace: &Namespace) -> Result<Size> {
    let mut ask = rawdoc! { "collStats": namespace.collection.as_str() };
    ask.append(cstr!("$db"), namespace.db.as_str());
    ask.append(cstr!("$readPreference"), any_member());
    let reply = connection.command(&ask).await?;
    let number = |name: &str| reply.number(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let stored_bytes = number("storageSize");
    Ok(Size {
        documents: number("count"),
        bytes: number("size"),
        stored_bytes,
        used_bytes: stored_bytes.saturating_sub(number("freeStorageSize")) + number("totalIndexSize"),
    })
}

/// Reads in `_id` order, from `from` (itself included) to the end.
///
/// Not for collated collections, whose `_id` index orders otherwise; [`choose_order`] never says so.
///
/// # Errors
/// `SnapshotTooOld`, `SnapshotUnavailable`, `CursorLost`, network.
pub async fn sorted<'c>(
    connection: &'c mut Connection,
    collection: &CollectionInfo,
    at: ClusterTime,
    from: Option<&DocumentId>,
) -> Result<Cursor<'c>> {
    let namespace = &collection.namespace;
    let mut find = find(namespace);
    find.append(cstr!("readConcern"), snapshot(at));
    let by_min = match (collection.kind, from) {
        // Stored in `_id` order. `min` is refused on these by 5.0, and their `_id`s are all ObjectIds, so a filter,
        // which keeps to one type, loses nothing.
        (CollectionKind::TimeSeriesBuckets, Some(from)) => {
            find.append(cstr!("filter"), from.comparison("$gte"));
            find.append(cstr!("hint"), rawdoc! { "$natural": 1 });
            None
        }
        (CollectionKind::TimeSeriesBuckets | CollectionKind::Clustered, None) => {
            find.append(cstr!("hint"), rawdoc! { "$natural": 1 });
            None
        }
        (kind, from) => {
            find.append(cstr!("hint"), rawdoc! { "_id": 1 });
            if kind != CollectionKind::Clustered {
                find.append(cstr!("sort"), rawdoc! { "_id": 1 });
            }
            from
        }
    };
    let Some(from) = by_min else {
        return Cursor::open(connection, namespace, find, None).await;
    };
    if from.is_max_key() {
        return Cursor::open(connection, namespace, at_max_key(namespace, at), None).await;
    }
    find.append(cstr!("min"), from.as_document());
    // To the server `min` alone means "below MaxKey": the document whose `_id` is MaxKey must be asked for by name.
    Ok(Cursor::open(connection, namespace, find, None).await?.followed_by(at_max_key(namespace, at)))
}

fn at_max_key(namespace: &Namespace, at: ClusterTime) -> RawDocumentBuf {
    let mut last = find(namespace);
    last.append(cstr!("filter"), rawdoc! { "_id": bson::raw::RawBsonRef::MaxKey });
    last.append(cstr!("limit"), 1);
    last.append(cstr!("readConcern"), snapshot(at));
    last
}

/// Reads in the order of storage, all of it or one range of [`natural_split`].
///
/// # Errors
/// `SnapshotTooOld`, `SnapshotUnavailable`, `CursorLost`, network.
pub async fn natural<'c>(
    connection: &'c mut Connection,
    collection: &CollectionInfo,
    at: ClusterTime,
    range: &NaturalRange,
) -> Result<Cursor<'c>> {
    let mut find = find(&collection.namespace);
    find.append(cstr!("hint"), rawdoc! { "$natural": 1 });
    find.append(cstr!("$_requestResumeToken"), true);
    if let Some(token) = &range.after {
        find.append(cstr!("$_resumeAfter"), token.as_ref());
    }
    find.append(cstr!("readConcern"), snapshot(at));
    Cursor::open(connection, &collection.namespace, find, range.through.clone()).await
}

fn find(namespace: &Namespace) -> RawDocumentBuf {
    let mut find = rawdoc! { "find": namespace.collection.as_str() };
    find.append(cstr!("$db"), namespace.db.as_str());
    find.append(cstr!("$readPreference"), any_member());
    find
}

/// The connection leads to one member; without this a secondary refuses to be read.
fn any_member() -> RawDocumentBuf {
    rawdoc! { "mode": "primaryPreferred" }
}

fn snapshot(at: ClusterTime) -> RawDocumentBuf {
    rawdoc! { "level": "snapshot", "atClusterTime": at }
}
