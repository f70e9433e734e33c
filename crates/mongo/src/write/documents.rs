//! Single documents of a collection that stays: read, removed and replaced by their `_id`s.
//!
//! Not for collections with a collation, whose `_id`s compare otherwise than ours, nor for `_id`s of types that a query
//! cannot name (see [`can_be_named`]).

use std::collections::HashSet;

use bytes::Bytes;
use history::raw::{Element, elements, field, kind};

use super::{
    ConnectionPool,
    load::Session,
    raw::{RawBuilder, malformed},
};
use crate::{
    ClusterTime, Error, Namespace, Result,
    read::Cursor,
    wire::{Connection, ReplyExt as _},
};

/// Changes in one message, far below what servers accept (100,000).
const BATCH_DOCUMENTS: usize = 1_000;
/// Bytes of `_id`s, or of documents, in one message; one that is longer goes alone.
const BATCH_BYTES: usize = 1 << 20;
/// A longer one might not fit into a message beside its `_id`.
const REPLACED_BYTES_MAX: usize = 8 << 20;
/// Documents within documents that are looked at, deeper than any that servers take.
const NESTED_MAX: usize = 200;

/// Whether a query for this document's `_id` finds it and nothing else. Types that are deprecated, or that queries take
/// for something else than a value, are left out.
pub fn can_be_named(document: &[u8]) -> bool {
    const OBJECT_ID: u8 = 0x07;
    const DECIMAL128: u8 = 0x13;
    const MIN_KEY: u8 = 0xFF;
    const MAX_KEY: u8 = 0x7F;
    const NAMED: [u8; 14] = [
        kind::DOUBLE,
        kind::STRING,
        kind::DOCUMENT,
        kind::BINARY,
        OBJECT_ID,
        kind::BOOLEAN,
        kind::DATE,
        kind::NULL,
        kind::INT32,
        kind::TIMESTAMP,
        kind::INT64,
        DECIMAL128,
        MIN_KEY,
        MAX_KEY,
    ];
    matches!(field(document, "_id"), Ok(Some(id)) if NAMED.contains(&id.kind))
}

/// The documents that have these `_id`s, as a majority knows them at `after` or later, in no order. `ids` are documents
/// of which only the `_id` matters.
///
/// # Errors
/// The server's, sorted.
pub async fn find(
    connection: &mut Connection,
    namespace: &Namespace,
    ids: &[&[u8]],
    after: ClusterTime,
) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::with_capacity(ids.len());
    for batch in batches(ids, id_bytes) {
        let concern = RawBuilder::new().text("level", "majority").timestamp("afterClusterTime", after);
        let find = RawBuilder::new()
            .text("find", &namespace.collection)
            .document("filter", &any_of(batch)?)
            .document("readConcern", &concern.finish())
            .text("$db", &namespace.db)
            .command()?;
        let mut cursor = Cursor::open(connection, namespace, find, None).await?;
        while let Some(batch) = cursor.next().await? {
            found.extend(batch.documents().map(<[u8]>::to_vec));
            cursor.recycle(batch);
        }
    }
    Ok(found)
}

/// Removes and replaces documents by their `_id`s, in sessions of the job, so that the oplog tells whose work it was.
#[derive(Debug)]
pub struct Changer {
    pool: ConnectionPool,
    namespace: Namespace,
    session: Session,
}

impl Changer {
    /// For one collection; nothing is sent yet.
    pub fn new(pool: &ConnectionPool, namespace: &Namespace, job: &str) -> Self {
        Self { pool: pool.clone(), namespace: namespace.clone(), session: Session::new(job) }
    }

    /// Removes those that are there, and tells how many were. Known to the primary alone: a barrier has to follow.
    /// `ids` are documents of which only the `_id` matters.
    ///
    /// # Errors
    /// The server's, sorted; some may be gone then.
    pub async fn remove(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let mut connection = self.pool.take().await?;
        let mut removed = 0;
        for batch in batches(ids, id_bytes) {
            let mut deletes = Vec::new();
            for id in batch {
                // Only the removal of one document is retryable, and only what is carries its session into the oplog.
                deletes.extend(RawBuilder::new().document("q", &equal_to(id)?).int32("limit", 1).finish());
            }
            let command = RawBuilder::new().text("delete", &self.namespace.collection);
            removed += self.change(&mut connection, command, "deletes", deletes).await?;
        }
        self.pool.put_back(connection);
        Ok(removed)
    }

    /// Puts documents in the place of those that are there and have the same `_id`s, and tells how many were. Only for those
    /// that [`can_replace`] says yes to. Known to the primary alone: a barrier has to follow.
    ///
    /// # Errors
    /// The server's, sorted; some may be replaced then. A unique key that is another document's is code 11000.
    pub async fn replace(&mut self, documents: &[&[u8]]) -> Result<u64> {
        let mut connection = self.pool.take().await?;
        let mut replaced = 0;
        for batch in batches(documents, <[u8]>::len) {
            let mut updates = Vec::new();
            for document in batch {
                let update = RawBuilder::new().document("q", &equal_to(document)?).document("u", document);
                updates.extend(update.boolean("multi", false).finish());
            }
            let command = RawBuilder::new()
                .text("update", &self.namespace.collection)
                .boolean("bypassDocumentValidation", true);
            replaced += self.change(&mut connection, command, "updates", updates).await?;
        }
        self.pool.put_back(connection);
        Ok(replaced)
    }

    /// Sends statements that change one document each; tells how many were found.
    async fn change(
        &mut self,
        connection: &mut Connection,
        command: RawBuilder,
        sequence: &str,
        statements: Vec<u8>,
    ) -> Result<u64> {
        let (id, number) = self.session.next();
        let concern = RawBuilder::new().int32("w", 1).finish();
        let command = command
            .boolean("ordered", false)
            .document("writeConcern", &concern)
            .text("$db", &self.namespace.db)
            .document("lsid", &RawBuilder::new().uuid("id", id).finish())
            .int64("txnNumber", number)
            .command()?;
        let reply = connection.command_with_sequence(&command, sequence, &Bytes::from(statements)).await?;
        let refused = reply.children("writeErrors").into_iter().next().or(reply.child("writeConcernError"));
        if let Some(error) = refused {
            return Err(Error::Server {
                code: error.number("code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
                name: "refused change".to_owned(),
                message: format!(
                    "changing {}: {}",
                    self.namespace,
                    error.text("errmsg").unwrap_or("no message")
                ),
            });
        }
        let found = reply.number("n").and_then(|n| u64::try_from(n).ok());
        found.ok_or_else(|| Error::Protocol("a reply to a write without a count".to_owned()))
    }
}

/// Whether the server takes `document` in the place of `there` as it is, byte for byte. It does not where names begin with a
/// `$`, which it takes for operators or refuses, nor with empty timestamps, which it fills in; it puts the `_id` first, and
/// does not change it.
pub fn can_replace(there: &[u8], document: &[u8]) -> bool {
    let is_id_first = |document| {
        let first = elements(document).next()?.ok()?;
        (first.name == b"_id").then_some((first.kind, first.value))
    };
    let id = is_id_first(document);
    let is_filled_in = |element: &Element<'_>| element.kind == kind::TIMESTAMP && element.value == [0; 8];
    id.is_some()
        && id == is_id_first(there)
        && document.len() <= REPLACED_BYTES_MAX
        && elements(document).all(|element| element.is_ok_and(|element| !is_filled_in(&element)))
        && has_plain_names(document, NESTED_MAX)
}

/// Whether no name begins with a `$`, at any depth, and none comes twice.
fn has_plain_names(document: &[u8], depth: usize) -> bool {
    let mut names = HashSet::new();
    depth > 0
        && elements(document).all(|element| {
            element.is_ok_and(|element| {
                let is_nested = matches!(element.kind, kind::DOCUMENT | kind::ARRAY);
                !element.name.starts_with(b"$")
                    && names.insert(element.name)
                    && (!is_nested || has_plain_names(element.value, depth - 1))
            })
        })
}

/// Cuts documents into what goes into one message.
fn batches<'a>(ids: &'a [&'a [u8]], weight: fn(&[u8]) -> usize) -> impl Iterator<Item = &'a [&'a [u8]]> {
    let mut rest = ids;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH_DOCUMENTS).take_while(|id| {
            bytes += weight(id);
            bytes <= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

fn id_bytes(document: &[u8]) -> usize {
    field(document, "_id").ok().flatten().map_or(0, |id| id.value.len())
}

/// `{_id: {$in: […]}}`.
fn any_of(ids: &[&[u8]]) -> Result<Vec<u8>> {
    let mut list = RawBuilder::new();
    for (index, document) in ids.iter().enumerate() {
        let id = id_of(document)?;
        list = list.part(id.kind, index.to_string().as_bytes(), id.value);
    }
    let condition = RawBuilder::new().part(kind::ARRAY, b"$in", &list.finish()).finish();
    Ok(RawBuilder::new().document("_id", &condition).finish())
}

/// `{_id: {$eq: …}}`: a document as `_id` must not be taken for an operator.
fn equal_to(document: &[u8]) -> Result<Vec<u8>> {
    let id = id_of(document)?;
    let condition = RawBuilder::new().part(id.kind, b"$eq", id.value).finish();
    Ok(RawBuilder::new().document("_id", &condition).finish())
}

fn id_of(document: &[u8]) -> Result<Element<'_>> {
    let id = field(document, "_id").map_err(malformed)?;
    id.ok_or_else(|| Error::Protocol("a document without _id".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Bson, RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_asked_for_as_a_value_whatever_it_looks_like() {
        let id = rawdoc! { "a": 1, "_id": { "$gt": 1 } };
        assert_eq!(equal_to(id.as_bytes()).unwrap(), rawdoc! { "_id": { "$eq": { "$gt": 1 } } }.as_bytes());
        let other = rawdoc! { "_id": "x" };
        let any = any_of(&[id.as_bytes(), other.as_bytes()]).unwrap();
        assert_eq!(any, rawdoc! { "_id": { "$in": [{ "$gt": 1 }, "x"] } }.as_bytes());
        assert!(equal_to(rawdoc! { "a": 1 }.as_bytes()).is_err());
    }

    #[test]
    fn what_a_query_reads_otherwise_is_not_named() {
        let named =
            |id: Bson| can_be_named(RawDocumentBuf::try_from(&doc! { "_id": id }).unwrap().as_bytes());
        assert!(named(Bson::Int32(1)) && named(Bson::Null) && named(Bson::MaxKey));
        let c = bson::raw::CString::try_from("a").unwrap();
        let pattern = bson::Regex { pattern: c.clone(), options: c };
        assert!(!named(Bson::RegularExpression(pattern)) && !named(Bson::Undefined));
        assert!(!can_be_named(rawdoc! { "a": 1 }.as_bytes()));
    }

    #[test]
    fn what_the_server_would_write_otherwise_is_not_replaced() {
        let can = |there: RawDocumentBuf, document: RawDocumentBuf| {
            can_replace(there.as_bytes(), document.as_bytes())
        };
        let there = rawdoc! { "_id": 1, "a": 1 };
        assert!(can(there.clone(), rawdoc! { "_id": 1, "b": [{ "c.d": "$x" }], "": 1 }));
        for document in [
            rawdoc! { "_id": 1.0 },
            rawdoc! { "_id": 2 },
            rawdoc! { "a": 1, "_id": 1 },
            rawdoc! { "a": 1 },
            rawdoc! { "_id": 1, "$set": { "a": 1 } },
            rawdoc! { "_id": 1, "a": [{ "b": { "$ref": "x" } }] },
            rawdoc! { "_id": 1, "t": bson::Timestamp { time: 0, increment: 0 } },
            rawdoc! { "_id": 1, "a": "x".repeat(9 << 20) },
        ] {
            assert!(!can(there.clone(), document.clone()), "{document:?}");
        }
        let mut twice = rawdoc! { "_id": 1, "a": 1 };
        twice.append(bson::raw::cstr!("a"), 2);
        assert!(!can(there.clone(), twice));
        // Only at the top are empty timestamps filled in.
        assert!(can(there, rawdoc! { "_id": 1, "a": { "t": bson::Timestamp { time: 0, increment: 0 } } }));
    }

    proptest! {
        #[test]
        fn batches_are_bounded_and_lose_nothing(sizes in proptest::collection::vec(prop_oneof![9 => 0_usize..40, 1 => Just(700_000_usize)], 0..60)) {
            let ids: Vec<_> = sizes.iter().map(|&n| rawdoc! { "_id": "x".repeat(n) }.into_bytes()).collect();
            let ids: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
            let cut: Vec<_> = batches(&ids, id_bytes).collect();
            prop_assert_eq!(cut.concat(), ids.clone());
            for batch in cut {
                let bytes: usize = batch.iter().map(|id| id_bytes(id)).sum();
                prop_assert!(!batch.is_empty() && (batch.len() == 1 || bytes <= BATCH_BYTES));
            }
        }
    }
}
