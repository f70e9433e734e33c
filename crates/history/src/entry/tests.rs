#![allow(clippy::unwrap_used)]
use bson::{Binary, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};
use proptest::prelude::*;

use super::*;
use crate::CollectionId;

const AT: Timestamp = Timestamp { time: 7, increment: 1 };

fn uuid(byte: u8) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
}

/// An entry with what every one has, around `op`, `ns`, `ui` and `o`.
fn entry(op: &str, namespace: &str, object: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {
        "op": op, "ns": namespace, "ui": uuid(1), "o": object, "ts": AT, "t": 3i64, "v": 2i64,
        "wall": bson::DateTime::from_millis(5),
    }
}

fn with(mut entry: RawDocumentBuf, more: &RawDocumentBuf) -> RawDocumentBuf {
    more.iter().for_each(|field| {
        let (name, value) = field.unwrap();
        entry.append(name, value);
    });
    entry
}

fn command(object: RawDocumentBuf) -> RawDocumentBuf {
    entry("c", "app.$cmd", object)
}

/// The name and value of the first element, to compare with.
fn first(document: &RawDocumentBuf) -> Element<'_> {
    raw::elements(document.as_bytes()).next().unwrap().unwrap()
}

#[test]
fn writes_of_documents() {
    let document = rawdoc! { "_id": 1, "$v": 2, "diff": {} };
    let read = entry("i", "app.c.d", document.clone());
    let read = Entry::read(read.as_bytes()).unwrap();
    assert_eq!(read.time, ClusterTime { seconds: 7, increment: 1 });
    assert_eq!((read.term, read.wall_ms, read.session, read.previous), (Some(3), Some(5), None, None));
    assert_eq!((read.operation.namespace, read.operation.database()), ("app.c.d", "app"));
    assert_eq!(read.operation.collection, Some(CollectionId([1; 16])));
    assert_eq!(read.operation.kind, Kind::Insert { document: document.as_bytes() });

    let id = rawdoc! { "_id": 1 };
    let bytes = entry("d", "app.c", id.clone());
    assert_eq!(Entry::read(bytes.as_bytes()).unwrap().operation.kind, Kind::Delete { id: first(&id) });

    // A replacement may have any field, so `_id` tells it, not `$v`.
    let diff = rawdoc! { "$v": 2, "diff": { "u": { "a": 1 } } };
    let inner = rawdoc! { "u": { "a": 1 } };
    let modifiers = rawdoc! { "$v": 1, "$set": { "a": 1 } };
    let old_modifiers = rawdoc! { "$set": { "a": 1 } };
    for (object, update) in [
        (&document, Update::Replacement(document.as_bytes())),
        (&diff, Update::Diff(inner.as_bytes())),
        (&modifiers, Update::Modifiers(modifiers.as_bytes())),
        (&old_modifiers, Update::Modifiers(old_modifiers.as_bytes())),
    ] {
        let bytes =
            with(entry("u", "app.c", object.clone()), &rawdoc! { "o2": id.clone(), "fromMigrate": true });
        let read = Entry::read(bytes.as_bytes()).unwrap().operation;
        assert_eq!(read.kind, Kind::Update { id: first(&id), update });
        assert!(read.from_migrate);
    }
}

#[test]
fn what_is_not_known_is_said() {
    let update = |object: RawDocumentBuf| with(entry("u", "a.b", object), &rawdoc! { "o2": { "_id": 1 } });
    for bytes in [
        update(rawdoc! { "$v": 3, "delta": {} }),
        update(rawdoc! { "a": 1 }),
        entry("ci", "a.b", rawdoc! { "_id": 1 }),
        with(entry("i", "a.b", rawdoc! { "_id": 1 }), &rawdoc! { "rid": 1i64 }),
        with(entry("i", "a.b", rawdoc! { "_id": 1 }), &rawdoc! { "multiOpType": 2 }),
        rawdoc! { "op": "i", "ns": "a.b", "ui": uuid(1), "o": { "_id": 1 }, "ts": AT, "v": 3 },
    ] {
        let read = Entry::read(bytes.as_bytes()).unwrap().operation;
        assert!(matches!(read.kind, Kind::Unknown(_)), "{bytes:?}");
    }
    let bytes = command(rawdoc! { "reshuffle": "c", "with": 1 });
    assert_eq!(
        Entry::read(bytes.as_bytes()).unwrap().operation.kind,
        Kind::Command(Command::Unknown { name: "reshuffle", target: Some("c") })
    );
}

#[test]
fn what_every_entry_has_is_asked_for() {
    let good = entry("i", "a.b", rawdoc! { "_id": 1 });
    for missing in ["op", "ns", "o", "ts"] {
        let without: bson::Document = bson::Document::try_from(good.clone()).unwrap();
        let without: bson::Document = without.into_iter().filter(|(name, _)| name != missing).collect();
        let bytes = RawDocumentBuf::try_from(&without).unwrap();
        assert!(Entry::read(bytes.as_bytes()).is_err(), "without {missing}");
    }
    for bad in [
        entry("d", "a.b", rawdoc! { "x": 1 }),
        entry("u", "a.b", rawdoc! { "_id": 1 }),
        command(rawdoc! {}),
        command(rawdoc! { "drop": 1 }),
        command(rawdoc! { "applyOps": 1 }),
        command(rawdoc! { "renameCollection": "a.b" }),
        command(rawdoc! { "renameCollection": "a.b", "to": "a.c", "dropTarget": true }),
        command(rawdoc! { "commitTransaction": 1 }),
        command(rawdoc! { "commitIndexBuild": "c", "indexes": [] }),
    ] {
        assert!(Entry::read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn definitions_of_data() {
    let create = rawdoc! { "create": "c", "capped": true, "idIndex": { "v": 2 } };
    let modify = rawdoc! { "collMod": "c", "validator": {} };
    let old = rawdoc! { "uuid": uuid(1), "validator": { "x": 1 } };
    let index = rawdoc! { "createIndexes": "c", "v": 2, "key": { "a": 1 }, "name": "a_1" };
    let name = rawdoc! { "index": "a_1" };
    for (bytes, expected) in [
        (command(create.clone()), Command::Create { collection: "c", body: create.as_bytes() }),
        (command(rawdoc! { "drop": "c" }), Command::Drop { collection: "c" }),
        (command(rawdoc! { "dropDatabase": 1 }), Command::DropDatabase),
        (
            with(command(modify.clone()), &rawdoc! { "o2": { "collectionOptions_old": old.clone() } }),
            Command::CollMod { collection: "c", body: modify.as_bytes(), old_options: Some(old.as_bytes()) },
        ),
        (command(index.clone()), Command::CreateIndexes { collection: "c", body: index.as_bytes() }),
        (
            command(rawdoc! { "dropIndexes": "c", "index": "a_1" }),
            Command::DropIndexes { collection: "c", index: Some(first(&name)) },
        ),
        (
            command(
                rawdoc! { "renameCollection": "app.c", "to": "b.d.e", "stayTemp": false, "dropTarget": uuid(2) },
            ),
            Command::Rename(Rename {
                from: "app.c",
                to: "b.d.e",
                stay_temporary: false,
                dropped: Some(CollectionId([2; 16])),
            }),
        ),
        (
            command(rawdoc! { "convertToCapped": "c", "size": 1 }),
            Command::ConvertToCapped { collection: "c" },
        ),
        (command(rawdoc! { "emptycapped": "c" }), Command::EmptyCapped { collection: "c" }),
        (command(rawdoc! { "dbCheck": "c", "type": "batch" }), Command::DbCheck),
        (
            command(rawdoc! { "importCollection": "c" }),
            Command::Unknown { name: "importCollection", target: Some("c") },
        ),
    ] {
        assert_eq!(
            Entry::read(bytes.as_bytes()).unwrap().operation.kind,
            Kind::Command(expected),
            "{bytes:?}"
        );
    }
    let specifications = rawdoc! { "indexes": [{ "v": 2, "key": { "a": 1 }, "name": "a_1" }] };
    let build = IndexBuild { collection: "c", build: [9; 16], specifications: first(&specifications).value };
    for (name, expected) in [
        ("startIndexBuild", Command::StartIndexBuild(build)),
        ("commitIndexBuild", Command::CommitIndexBuild(build)),
        ("abortIndexBuild", Command::AbortIndexBuild(build)),
    ] {
        let mut body = RawDocumentBuf::new();
        body.append(bson::raw::CString::try_from(name).unwrap(), "c");
        let body = with(with(body, &rawdoc! { "indexBuildUUID": uuid(9) }), &specifications);
        let bytes = command(body);
        assert_eq!(Entry::read(bytes.as_bytes()).unwrap().operation.kind, Kind::Command(expected));
    }
}

#[test]
fn batches_and_transactions_are_told_apart() {
    let batch =
        || command(rawdoc! { "applyOps": [{ "op": "i", "ns": "a.b", "ui": uuid(1), "o": { "_id": 1 } }] });
    let session = rawdoc! { "lsid": { "id": uuid(5) }, "txnNumber": 4i64 };
    let nothing_before = rawdoc! { "prevOpTime": { "ts": Timestamp { time: 0, increment: 0 }, "t": -1i64 } };

    let plain = batch();
    let plain = Entry::read(plain.as_bytes()).unwrap();
    let Kind::Command(Command::ApplyOps(inside)) = &plain.operation.kind else { panic!("{plain:?}") };
    assert_eq!(inside.operations().count(), 1);
    assert_eq!(inside.operations().next().unwrap().unwrap().namespace, "a.b");
    assert_eq!(plain.transaction(), None);

    let transaction = with(with(batch(), &session), &nothing_before);
    let part = Entry::read(transaction.as_bytes()).unwrap().transaction().unwrap();
    assert_eq!((part.session.number, part.previous), (4, Some(ClusterTime::NONE)));
    assert!(matches!(part.step, TransactionStep::Operations(_)));

    let retryable = with(transaction.clone(), &rawdoc! { "multiOpType": 1 });
    let retryable = Entry::read(retryable.as_bytes()).unwrap();
    assert!(retryable.separate && retryable.transaction().is_none());

    let commit = with(command(rawdoc! { "commitTransaction": 1, "commitTimestamp": AT }), &session);
    let step = Entry::read(commit.as_bytes()).unwrap().transaction().unwrap().step;
    assert_eq!(step, TransactionStep::Commit { commit_time: ClusterTime { seconds: 7, increment: 1 } });
    let abort = with(command(rawdoc! { "abortTransaction": 1 }), &session);
    assert_eq!(
        Entry::read(abort.as_bytes()).unwrap().transaction().map(|part| part.step),
        Some(TransactionStep::Abort)
    );
}

/// All that servers wrote in the recordings is known.
#[test]
fn recorded_entries_are_known() {
    for recording in [
        &include_bytes!("../../tests/data/6.0.5.oplog.bson")[..],
        &include_bytes!("../../tests/data/5.0.4.oplog.bson")[..],
    ] {
        let mut before = ClusterTime::NONE;
        for bytes in raw::documents(recording) {
            let entry = Entry::read(bytes.unwrap()).unwrap();
            assert!(before < entry.time && entry.term.is_some() && entry.wall_ms.is_some());
            before = entry.time;
            let kind = &entry.operation.kind;
            let unknown = matches!(kind, Kind::Unknown(_) | Kind::Command(Command::Unknown { .. }));
            assert!(!unknown, "{kind:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Entry::read(&bytes);
        Operations::of(&bytes).for_each(drop);
    }

    #[test]
    fn spoilt_entries_are_read_without_panic(which in any::<prop::sample::Index>(), spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let recording = include_bytes!("../../tests/data/6.0.5.oplog.bson");
        let entries: Vec<&[u8]> = raw::documents(recording).map(Result::unwrap).collect();
        let mut bytes = entries[which.index(entries.len())].to_vec();
        for (at, byte) in spoils {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(entry) = Entry::read(&bytes)
            && let Kind::Command(Command::ApplyOps(inside)) = entry.operation.kind
        {
            inside.operations().for_each(drop);
        }
    }
}
