//! Finding DDL in the oplog.
//!
//! On 5.0 and 6.0 a collection that was dropped or renamed after the time of a snapshot read reads back empty, without
//! an error. So whoever reads at a time T searches the oplog afterwards, and a hit on a UUID that was read means that
//! what was read is worth nothing. The server filters, so that bulk writes and large transactions are not sent.

use bson::{
    RawDocumentBuf,
    raw::{RawBsonRef, RawDocument},
    rawdoc,
};

use crate::{
    ClusterTime, Deployment, Error, Namespace, Result, facts,
    namespace::never_taken_database,
    wire::{Connection, ReplyExt as _},
};

/// `applyOps` inside `applyOps`: the server itself writes one level.
const NESTING_MAX: usize = 8;
/// What a filtered scan of a busy oplog may take.
const SCAN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// What a DDL entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DdlKind {
    /// A collection was created.
    Create,
    /// A collection was dropped.
    Drop,
    /// A database was dropped; its collections have entries of their own.
    DropDatabase,
    /// A collection was renamed.
    Rename {
        /// The new namespace.
        to: String,
        /// The identity of the collection that it replaced.
        dropped: Option<[u8; 16]>,
    },
    /// Options changed.
    CollMod,
    /// Indexes were made.
    IndexesCreated,
    /// Indexes were dropped.
    IndexesDropped,
    /// A view or a time series was defined, changed or dropped.
    ViewWrite,
    /// Something this version does not know; treated as if it touched everything it names.
    Other(String),
}

/// One DDL entry of the oplog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DdlEvent {
    /// When.
    pub at: ClusterTime,
    /// The collection's identity, where the entry has one.
    pub uuid: Option<[u8; 16]>,
    /// The database.
    pub db: String,
    /// The collection, where there is one.
    pub collection: Option<String>,
    /// What.
    pub kind: DdlKind,
}

impl DdlEvent {
    /// Whether what was read of the collection `uuid` at an earlier time may be wrong because of this.
    ///
    /// Changes of options and indexes disturb no snapshot read (measured on 5.0 and 6.0).
    pub fn disturbs(&self, uuid: &[u8; 16]) -> bool {
        match &self.kind {
            DdlKind::Create | DdlKind::CollMod | DdlKind::IndexesCreated | DdlKind::IndexesDropped => false,
            DdlKind::DropDatabase | DdlKind::ViewWrite => false,
            DdlKind::Drop => self.uuid.as_ref() == Some(uuid),
            DdlKind::Rename { dropped, .. } => {
                self.uuid.as_ref() == Some(uuid) || dropped.as_ref() == Some(uuid)
            }
            // Unknown: rather read once more than keep something wrong. Without an identity it may mean any.
            DdlKind::Other(_) => self.uuid.is_none() || self.uuid.as_ref() == Some(uuid),
        }
    }

    /// The databases whose listing this may change.
    pub fn databases(&self) -> Vec<&str> {
        let mut databases = vec![self.db.as_str()];
        if let DdlKind::Rename { to, .. } = &self.kind {
            databases.extend(to.split_once('.').map(|(db, _)| db));
        }
        databases
    }
}

impl std::fmt::Display for DdlEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let collection = self.collection.as_deref().unwrap_or("*");
        write!(f, "{:?} of {}.{collection} at {},{}", self.kind, self.db, self.at.time, self.at.increment)
    }
}

/// All DDL with `from` < time ≤ `to`, in order; that of `local` and `config` left out.
///
/// # Errors
/// [`Error::OplogGap`] when the oplog does not reach back to `from`; the server's.
pub async fn between(deployment: &Deployment, from: ClusterTime, to: ClusterTime) -> Result<Vec<DdlEvent>> {
    let mut connection = deployment.primary_wire().await?;
    connection.set_reply_timeout(SCAN_PATIENCE);
    between_on(&mut connection, from, to).await
}

/// [`between`] on a connection to the primary.
///
/// # Errors
/// As [`between`].
pub async fn between_on(
    connection: &mut Connection,
    from: ClusterTime,
    to: ClusterTime,
) -> Result<Vec<DdlEvent>> {
    let mut events = Vec::new();
    if from < to {
        scan(connection, from, to, &mut events).await?;
    }
    // Asked after the scan: an entry that was truncated while we read would be missed otherwise.
    match facts::oplog_ends(connection).await? {
        Some((oldest, _)) if oldest <= from => Ok(events),
        Some((oldest, _)) => Err(Error::OplogGap { wanted: from, oldest }),
        None => Err(Error::protocol("an empty oplog")),
    }
}

async fn scan(
    connection: &mut Connection,
    from: ClusterTime,
    to: ClusterTime,
    events: &mut Vec<DdlEvent>,
) -> Result<()> {
    let find = rawdoc! {
        "find": "oplog.rs", "$db": "local",
        "filter": filter(from, to),
        // Only majority-committed entries, and none of those up to `to` missing.
        "readConcern": { "level": "majority", "afterClusterTime": to },
    };
    let mut reply = connection.command(&find).await?;
    loop {
        let cursor = reply.child("cursor").ok_or_else(|| Error::protocol("a find without a cursor"))?;
        for entry in cursor.children(if cursor.get("firstBatch").ok().flatten().is_some() {
            "firstBatch"
        } else {
            "nextBatch"
        }) {
            read_entry(entry, events)?;
        }
        let id = cursor.number("id").unwrap_or(0);
        if id == 0 {
            return Ok(());
        }
        reply =
            connection.command(&rawdoc! { "getMore": id, "collection": "oplog.rs", "$db": "local" }).await?;
    }
}

fn filter(from: ClusterTime, to: ClusterTime) -> RawDocumentBuf {
    let views = || bson::Regex {
        pattern: bson::raw::cstr!(r"\.system\.views$").into(),
        options: bson::raw::cstr!("").into(),
    };
    rawdoc! {
        "ts": { "$gt": from, "$lte": to },
        "$or": [
            { "op": "c", "o.applyOps": { "$exists": false } },
            { "op": "c", "o.applyOps.op": "c" },
            { "op": "c", "o.applyOps.ns": views() },
            { "op": { "$in": ["i", "u", "d"] }, "ns": views() },
        ],
    }
}

fn read_entry(entry: &RawDocument, events: &mut Vec<DdlEvent>) -> Result<()> {
    let at = entry.timestamp("ts").ok_or_else(|| Error::protocol("an oplog entry without a time"))?;
    read_operation(entry, at, 0, events)
}

/// An entry of the oplog, or an operation inside `applyOps`, which looks alike but has no time of its own.
fn read_operation(
    operation: &RawDocument,
    at: ClusterTime,
    depth: usize,
    events: &mut Vec<DdlEvent>,
) -> Result<()> {
    if depth > NESTING_MAX {
        return Err(Error::protocol("an oplog entry nested too deep"));
    }
    let namespace = operation.text("ns").unwrap_or_default();
    let (db, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    if operation.text("op") != Some("c") {
        if collection == "system.views" && !never_taken_database(db) {
            events.push(event(at, db, Some(collection), operation.uuid("ui"), DdlKind::ViewWrite));
        }
        return Ok(());
    }
    let command = operation.child("o").ok_or_else(|| Error::protocol("a command entry without a command"))?;
    let Some(Ok((name, value))) = command.iter().next() else {
        return Err(Error::protocol("an empty command entry"));
    };
    if name.as_str() == "applyOps" {
        for inner in command.children("applyOps") {
            read_operation(inner, at, depth + 1, events)?;
        }
        return Ok(());
    }
    let found = read_command(operation, at, db, name.as_str(), value, command);
    events.extend(found.filter(|event| event.databases().iter().any(|db| !never_taken_database(db))));
    Ok(())
}

fn read_command(
    operation: &RawDocument,
    at: ClusterTime,
    db: &str,
    name: &str,
    value: RawBsonRef<'_>,
    command: &RawDocument,
) -> Option<DdlEvent> {
    let kind = match name {
        // These change no catalog: an index exists when its build commits, and transactions carry no DDL but in applyOps.
        "startIndexBuild" | "abortIndexBuild" | "commitTransaction" | "abortTransaction" => return None,
        "create" => DdlKind::Create,
        "drop" => DdlKind::Drop,
        "dropDatabase" => DdlKind::DropDatabase,
        "renameCollection" => {
            DdlKind::Rename { to: command.text("to")?.to_owned(), dropped: command.uuid("dropTarget") }
        }
        "collMod" => DdlKind::CollMod,
        "createIndexes" | "commitIndexBuild" => DdlKind::IndexesCreated,
        "dropIndexes" | "deleteIndexes" | "deleteIndex" | "dropIndex" => DdlKind::IndexesDropped,
        other => DdlKind::Other(other.to_owned()),
    };
    let named = value.as_str();
    let (db, collection) = match (&kind, named) {
        // Names its source whole.
        (DdlKind::Rename { .. }, Some(source)) => match Namespace::parse(source) {
            Some(source) => (source.db, Some(source.collection)),
            None => (db.to_owned(), None),
        },
        (DdlKind::DropDatabase, _) => (db.to_owned(), None),
        (_, named) => (db.to_owned(), named.map(str::to_owned)),
    };
    Some(event(at, &db, collection.as_deref(), operation.uuid("ui"), kind))
}

fn event(
    at: ClusterTime,
    db: &str,
    collection: Option<&str>,
    uuid: Option<[u8; 16]>,
    kind: DdlKind,
) -> DdlEvent {
    DdlEvent { at, uuid, db: db.to_owned(), collection: collection.map(str::to_owned), kind }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Binary, spec::BinarySubtype};

    use super::*;

    const AT: ClusterTime = ClusterTime { time: 7, increment: 1 };

    fn uuid(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
    }

    fn events_of(entry: &RawDocument) -> Vec<DdlEvent> {
        let mut events = Vec::new();
        read_entry(entry, &mut events).unwrap();
        events
    }

    #[test]
    fn a_rename_disturbs_what_moved_and_what_it_replaced() {
        let entry = rawdoc! {
            "ts": AT, "op": "c", "ns": "app.$cmd", "ui": uuid(1),
            "o": { "renameCollection": "app.a.b", "to": "other.c", "stayTemp": false, "dropTarget": uuid(2) },
        };
        let events = events_of(&entry);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].db.as_str(), events[0].collection.as_deref()), ("app", Some("a.b")));
        assert_eq!(events[0].databases(), ["app", "other"]);
        assert!(
            events[0].disturbs(&[1; 16]) && events[0].disturbs(&[2; 16]) && !events[0].disturbs(&[3; 16])
        );
    }

    #[test]
    fn ddl_inside_a_transaction_counts() {
        let entry = rawdoc! {
            "ts": AT, "op": "c", "ns": "admin.$cmd",
            "o": { "applyOps": [
                { "op": "c", "ns": "app.$cmd", "ui": uuid(1), "o": { "create": "x" } },
                { "op": "i", "ns": "app.x", "ui": uuid(1), "o": { "_id": 1 } },
                { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [{ "op": "c", "ns": "app.$cmd", "ui": uuid(2), "o": { "drop": "y" } }] } },
            ] },
        };
        let events = events_of(&entry);
        assert_eq!(
            events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>(),
            [DdlKind::Create, DdlKind::Drop]
        );
        assert!(events[1].disturbs(&[2; 16]) && !events[0].disturbs(&[1; 16]));
    }

    #[test]
    fn an_unknown_command_is_never_passed_over() {
        let entry = rawdoc! { "ts": AT, "op": "c", "ns": "app.$cmd", "o": { "reshuffle": "x" } };
        let events = events_of(&entry);
        assert_eq!(events[0].kind, DdlKind::Other("reshuffle".to_owned()));
        assert!(events[0].disturbs(&[9; 16]));
    }

    #[test]
    fn the_servers_own_databases_and_index_builds_under_way_are_no_news() {
        for entry in [
            rawdoc! { "ts": AT, "op": "c", "ns": "config.$cmd", "ui": uuid(1), "o": { "create": "system.preimages" } },
            rawdoc! { "ts": AT, "op": "c", "ns": "app.$cmd", "ui": uuid(1), "o": { "startIndexBuild": "x" } },
            rawdoc! { "ts": AT, "op": "c", "ns": "admin.$cmd", "o": { "commitTransaction": 1, "commitTimestamp": AT } },
            rawdoc! { "ts": AT, "op": "i", "ns": "app.x", "o": { "_id": 1 } },
        ] {
            assert_eq!(events_of(&entry), []);
        }
        let view =
            rawdoc! { "ts": AT, "op": "i", "ns": "app.system.views", "ui": uuid(1), "o": { "_id": "app.v" } };
        assert_eq!(events_of(&view)[0].kind, DdlKind::ViewWrite);
    }
}
