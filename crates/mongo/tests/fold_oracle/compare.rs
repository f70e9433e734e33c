//! What the server says, against what the fold says.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use history::{ClusterTime, CollectionId, SortKey, raw};
use mongo::wire::Connection;

use super::{DATABASE, timeline::Timeline};

/// The entries after `start`, without those of the server's own databases.
pub(crate) async fn oplog_since(connection: &mut Connection, start: Timestamp) -> Vec<Vec<u8>> {
    let find = rawdoc! { "find": "oplog.rs", "$db": "local", "filter": { "ts": { "$gt": start } } };
    let entries = all(connection, find).await;
    entries
        .into_iter()
        .filter(|entry| {
            let entry = RawDocument::from_bytes(entry).unwrap();
            !entry.get_str("ns").unwrap().starts_with("config.")
        })
        .collect()
}

/// How many entries of each kind there are.
pub(crate) fn kinds(entries: &[Vec<u8>]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in entries {
        let entry = RawDocument::from_bytes(entry).unwrap();
        let object = entry.get_document("o").unwrap();
        let kind = match entry.get_str("op").unwrap() {
            "c" if object.get("partialTxn").unwrap().is_some() => "partialTxn",
            "c" if object.get("prepare").unwrap().is_some() => "prepare",
            "c" => object.iter().next().unwrap().unwrap().0.as_str(),
            kind => kind,
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

pub(crate) fn time_of(entry: &[u8]) -> ClusterTime {
    raw::field(entry, "ts").unwrap().unwrap().timestamp().unwrap()
}

/// Compares the documents of all collections that can be read as of `at`; returns how many there were.
pub(crate) async fn documents_at(connection: &mut Connection, then: &Timeline, at: ClusterTime) -> usize {
    let mut compared = 0;
    let now = listing(connection).await;
    for (id, collection) in then.catalog.iter() {
        // A collection that was dropped or renamed since reads back empty, and a capped one not at all.
        let still = now.iter().any(|(name, uuid, _)| {
            *uuid == id && collection.namespace.strip_prefix("w.") == Some(name.as_str())
        });
        if !still || collection.is_capped() {
            continue;
        }
        let name = collection.namespace.strip_prefix("w.").unwrap();
        let find = rawdoc! {
            "find": name, "$db": DATABASE,
            "readConcern": {
                "level": "snapshot",
                "atClusterTime": Timestamp { time: at.seconds, increment: at.increment },
            },
        };
        let mut theirs = all(connection, find).await;
        theirs.sort_by_cached_key(|document| SortKey::of_document(document).unwrap());
        assert_equal(then, id, &theirs, &format!("{name} at {at}"));
        compared += theirs.len();
    }
    compared
}

/// Compares documents, options and indexes of everything that there is.
pub(crate) async fn everything_now(connection: &mut Connection, timeline: &Timeline) {
    let now = listing(connection).await;
    let known = timeline.catalog.iter().filter(|(_, c)| c.namespace.starts_with("w.")).count();
    assert_eq!(known, now.len());
    for (name, id, info) in now {
        let ours = timeline.catalog.get(id).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(ours.namespace, format!("{DATABASE}.{name}"));
        assert_eq!(ours.doubt, None, "{name}");
        let options = info.get_document("options").unwrap();
        assert!(ours.options == options.as_bytes(), "{name}: {:?} {options:?}", shown(&ours.options));
        let find = rawdoc! { "find": name.as_str(), "$db": DATABASE };
        let mut theirs = all(connection, find).await;
        if !ours.is_capped() {
            theirs.sort_by_cached_key(|document| SortKey::of_document(document).unwrap());
        }
        assert_equal(timeline, id, &theirs, &name);
        let indexes = all(connection, rawdoc! { "listIndexes": name.as_str(), "$db": DATABASE }).await;
        let ours: Vec<_> = ours.built_indexes().map(shown).collect();
        assert_eq!(ours, indexes.iter().map(|index| shown(index)).collect::<Vec<_>>(), "{name}");
    }
}

fn assert_equal(timeline: &Timeline, id: CollectionId, theirs: &[Vec<u8>], about: &str) {
    let ours = timeline.base.get(&id).map_or(&[][..], Vec::as_slice);
    if ours != theirs {
        let pair = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
        let pair = pair.map(|(ours, theirs)| (shown(ours), shown(theirs)));
        panic!("{about}: {} documents of ours, {} of theirs; {pair:?}", ours.len(), theirs.len());
    }
}

fn shown(document: &[u8]) -> bson::Document {
    RawDocument::from_bytes(document).unwrap().try_into().unwrap()
}

/// Collections that are no views: name, UUID, what the listing says.
async fn listing(connection: &mut Connection) -> Vec<(String, CollectionId, RawDocumentBuf)> {
    let list = rawdoc! { "listCollections": 1, "$db": DATABASE, "filter": { "type": "collection" } };
    all(connection, list)
        .await
        .into_iter()
        .map(|info| {
            let info = RawDocumentBuf::from_bytes(info).unwrap();
            let uuid = info.get_document("info").unwrap().get_binary("uuid").unwrap();
            let id = CollectionId(uuid.bytes.try_into().unwrap());
            (info.get_str("name").unwrap().to_owned(), id, info)
        })
        .collect()
}

/// Reads a cursor to its end.
async fn all(connection: &mut Connection, command: RawDocumentBuf) -> Vec<Vec<u8>> {
    let database = command.get_str("$db").unwrap().to_owned();
    let (mut documents, mut command) = (Vec::new(), command);
    loop {
        let reply = connection.command(&command).await;
        let cursor =
            reply.unwrap_or_else(|error| panic!("{command:?}: {error}")).get_document("cursor").unwrap();
        for name in ["firstBatch", "nextBatch"] {
            for document in cursor.get_array(name).into_iter().flatten() {
                documents.push(document.unwrap().as_document().unwrap().as_bytes().to_vec());
            }
        }
        let collection = cursor.get_str("ns").unwrap().split_once('.').unwrap().1.to_owned();
        match cursor.get_i64("id").unwrap() {
            0 => return documents,
            id => command = rawdoc! { "getMore": id, "collection": collection, "$db": database.as_str() },
        }
    }
}
