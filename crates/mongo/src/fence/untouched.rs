//! Whether collections still hold what was read from them, by what the oplog says.

use std::collections::BTreeSet;

use bson::{
    Binary, RawDocument,
    raw::{RawArrayBuf, RawBsonRef},
    rawdoc,
    spec::BinarySubtype,
};

use super::foreign::{BATCH_ENTRIES, for_each_entry};
use crate::{ClusterTime, Deployment, Result, wire::ReplyExt as _};

/// Commands on a collection that leave its documents as they are. A drop is not among them: who asks looks for the
/// UUID first, but what is not known to be harmless is not harmless.
const HARMLESS: [&str; 9] = [
    "abortIndexBuild",
    "collMod",
    "commitIndexBuild",
    "create",
    "createIndexes",
    "deleteIndexes",
    "dropIndexes",
    "renameCollection",
    "startIndexBuild",
];

/// Which of these collections, known by their UUIDs, any write went to with `since` < time ≤ `until`: whoever's it was,
/// under whatever name, in a transaction or not. The documents of the others are at `until` those of `since`.
///
/// # Errors
/// [`Error::OplogGap`] when the oplog does not reach back to `since`.
pub async fn touched(
    deployment: &Deployment,
    since: ClusterTime,
    until: ClusterTime,
    uuids: &BTreeSet<[u8; 16]>,
) -> Result<BTreeSet<[u8; 16]>> {
    let mut wanted = RawArrayBuf::new();
    for uuid in uuids {
        wanted.push(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() });
    }
    let mut connection = deployment.primary_wire().await?;
    let find = rawdoc! {
        "find": "oplog.rs", "$db": "local", "batchSize": BATCH_ENTRIES,
        // None of those up to `until` missing.
        "readConcern": { "level": "majority", "afterClusterTime": until },
        "filter": {
            "ts": { "$gt": since, "$lte": until }, "op": { "$in": ["i", "u", "d", "c"] },
            "$or": [{ "ui": { "$in": wanted.clone() } }, { "o.applyOps.ui": { "$in": wanted } }],
        },
        "projection": {
            "op": 1, "ui": 1, "o.applyOps.ui": 1, "o.abortIndexBuild": 1, "o.collMod": 1, "o.commitIndexBuild": 1,
            "o.create": 1, "o.createIndexes": 1, "o.deleteIndexes": 1, "o.dropIndexes": 1, "o.renameCollection": 1,
            "o.startIndexBuild": 1,
        },
    };
    let mut found = BTreeSet::new();
    let see = |entry: &RawDocument| {
        found.extend(touched_by(entry).into_iter().filter(|uuid| uuids.contains(uuid)));
    };
    for_each_entry(&mut connection, find, since, see).await?;
    Ok(found)
}

/// The collections whose documents an entry may have changed.
fn touched_by(entry: &RawDocument) -> Vec<[u8; 16]> {
    let own = entry.uuid("ui");
    let Some(command) = entry.child("o").filter(|_| entry.text("op") == Some("c")) else {
        return own.into_iter().collect();
    };
    if let Ok(Some(RawBsonRef::Array(_))) = command.get("applyOps") {
        return command.children("applyOps").into_iter().filter_map(|write| write.uuid("ui")).collect();
    }
    let harmless = HARMLESS.iter().any(|name| matches!(command.get(name), Ok(Some(_))));
    own.filter(|_| !harmless).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    fn uuid(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
    }

    fn first_bytes(entry: &RawDocumentBuf) -> Vec<u8> {
        touched_by(entry).into_iter().map(|uuid| uuid[0]).collect()
    }

    #[test]
    fn writes_touch_and_ddl_does_not() {
        for (entry, told) in [
            (rawdoc! { "op": "i", "ui": uuid(1) }, vec![1]),
            (rawdoc! { "op": "u", "ui": uuid(1), "o": {} }, vec![1]),
            (rawdoc! { "op": "d", "ui": uuid(2), "o": { "collMod": 1 } }, vec![2]),
            (rawdoc! { "op": "c", "ui": uuid(1), "o": { "renameCollection": "a.b" } }, vec![]),
            (rawdoc! { "op": "c", "ui": uuid(1), "o": { "commitIndexBuild": "b" } }, vec![]),
            (rawdoc! { "op": "c", "ui": uuid(1), "o": { "collMod": "b" } }, vec![]),
            // `emptycapped`, `convertToCapped`, and what later versions may bring.
            (rawdoc! { "op": "c", "ui": uuid(1), "o": {} }, vec![1]),
            (rawdoc! { "op": "c", "o": { "applyOps": [{ "ui": uuid(1) }, { "ui": uuid(3) }] } }, vec![1, 3]),
        ] {
            assert_eq!(first_bytes(&entry), told, "{entry:?}");
        }
    }
}
