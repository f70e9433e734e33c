#![allow(clippy::unwrap_used)]
use bson::{Binary, RawDocumentBuf, rawdoc, spec::BinarySubtype};

use super::*;

const AT: ClusterTime = ClusterTime { seconds: 7, increment: 1 };
const ID: CollectionId = CollectionId([1; 16]);

fn uuid(byte: u8) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
}

fn command(id: u8, object: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "op": "c", "ns": "app.$cmd", "ui": uuid(id), "o": object }
}

fn apply(state: &mut CatalogState, operation: &RawDocumentBuf) -> Result<(), CatalogError> {
    state.apply(&Operation::read(operation.as_bytes()).unwrap(), AT)
}

/// A state with one collection `app.c`.
fn with_collection(options: &RawDocumentBuf) -> CatalogState {
    let mut create = rawdoc! { "create": "c" };
    for option in options.iter() {
        let (name, value) = option.unwrap();
        create.append(name, value);
    }
    create.append(bson::raw::cstr!("idIndex"), rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" });
    let mut state = CatalogState::new();
    apply(&mut state, &command(1, create)).unwrap();
    state
}

fn doubt(state: &CatalogState) -> Option<&str> {
    state.get(ID).unwrap().doubt.as_ref().map(|doubt| doubt.reason.as_str())
}

#[test]
fn a_collection_comes_is_renamed_and_goes() {
    let options = rawdoc! { "temp": true, "validator": { "x": 1 } };
    let mut state = with_collection(&options);
    assert_eq!(state.named("app.c"), Some(ID));
    assert_eq!(state.get(ID).unwrap().options, options.as_bytes());
    assert_eq!(state.get(ID).unwrap().built_indexes().count(), 1);

    apply(&mut state, &command(2, rawdoc! { "create": "old" })).unwrap();
    let onto = command(1, rawdoc! { "renameCollection": "app.c", "to": "app.old", "stayTemp": false });
    assert_eq!(
        apply(&mut state, &onto),
        Err(CatalogError::NameTaken { at: AT, namespace: "app.old".to_owned() })
    );
    let replace = command(
        1,
        rawdoc! { "renameCollection": "app.c", "to": "app.old", "stayTemp": false, "dropTarget": uuid(2) },
    );
    apply(&mut state, &replace).unwrap();
    assert_eq!((state.named("app.c"), state.named("app.old"), state.iter().count()), (None, Some(ID), 1));
    assert_eq!(state.get(ID).unwrap().options, rawdoc! { "validator": { "x": 1 } }.as_bytes());

    assert_eq!(
        apply(&mut state, &command(3, rawdoc! { "drop": "c" })),
        Err(CatalogError::UnknownCollection { at: AT, namespace: "app.c".to_owned() })
    );
    apply(&mut state, &command(1, rawdoc! { "drop": "old" })).unwrap();
    assert_eq!(state, CatalogState::new());
}

#[test]
fn a_dropped_database_takes_what_is_left() {
    let mut state = with_collection(&rawdoc! {});
    let other = rawdoc! { "op": "c", "ns": "app2.$cmd", "ui": uuid(2), "o": { "create": "c" } };
    apply(&mut state, &other).unwrap();
    apply(&mut state, &rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "dropDatabase": 1 } }).unwrap();
    assert_eq!(state.iter().map(|(id, _)| id).collect::<Vec<_>>(), [CollectionId([2; 16])]);
}

#[test]
fn an_index_exists_from_its_commit_in_the_place_of_its_start() {
    let build = |name: &str, build: u8| {
        let mut body = RawDocumentBuf::new();
        body.append(bson::raw::CString::try_from(name).unwrap(), "c");
        body.append(bson::raw::cstr!("indexBuildUUID"), uuid(build));
        let index = rawdoc! { "v": 2, "unique": true, "key": { "a": 1 }, "name": "a" };
        body.append(bson::raw::cstr!("indexes"), bson::RawArrayBuf::from_iter([index]));
        command(1, body)
    };
    let names = |state: &CatalogState| -> Vec<String> {
        let indexes = state.get(ID).unwrap().built_indexes();
        indexes.map(|index| raw::field(index, "name").unwrap().unwrap().text().unwrap().to_owned()).collect()
    };
    let mut state = with_collection(&rawdoc! {});
    apply(&mut state, &build("startIndexBuild", 5)).unwrap();
    let small = rawdoc! { "createIndexes": "c", "v": 2, "key": { "b": 1 }, "name": "b" };
    apply(&mut state, &command(1, small)).unwrap();
    assert_eq!(names(&state), ["_id_", "b"]);
    let mut aborted = state.clone();
    apply(&mut state, &build("commitIndexBuild", 5)).unwrap();
    assert_eq!(names(&state), ["_id_", "a", "b"]);
    // As servers list it, whatever the order in the entry.
    let listed = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a", "unique": true };
    assert!(state.get(ID).unwrap().built_indexes().any(|index| index == listed.as_bytes()));
    apply(&mut aborted, &build("abortIndexBuild", 5)).unwrap();
    assert_eq!(aborted.get(ID).unwrap().indexes.len(), 2);
    apply(&mut aborted, &build("commitIndexBuild", 6)).unwrap();
    assert_eq!(names(&aborted), ["_id_", "b", "a"]);
    apply(&mut aborted, &command(1, rawdoc! { "dropIndexes": "c", "index": "b" })).unwrap();
    assert_eq!((names(&aborted), doubt(&aborted)), (vec!["_id_".to_owned(), "a".to_owned()], None));
}

#[test]
fn changed_options_stand_where_servers_list_them() {
    for (before, change, after) in [
        (
            rawdoc! { "collation": { "locale": "en" } },
            rawdoc! { "validator": { "x": 1 } },
            rawdoc! {
                "validator": { "x": 1 }, "validationLevel": "strict", "validationAction": "error",
                "collation": { "locale": "en" },
            },
        ),
        (
            rawdoc! { "capped": true, "size": 5120 },
            rawdoc! { "cappedSize": 5121 },
            rawdoc! { "capped": true, "size": 5376 },
        ),
        (rawdoc! { "expireAfterSeconds": 5i64 }, rawdoc! { "expireAfterSeconds": "off" }, rawdoc! {}),
        (
            rawdoc! { "validator": { "x": 1 } },
            rawdoc! { "changeStreamPreAndPostImages": { "enabled": true } },
            rawdoc! { "changeStreamPreAndPostImages": { "enabled": true }, "validator": { "x": 1 } },
        ),
        (
            rawdoc! { "timeseries": { "timeField": "t", "granularity": "seconds", "bucketMaxSpanSeconds": 3600 } },
            rawdoc! { "timeseries": { "granularity": "hours" } },
            rawdoc! { "timeseries": { "timeField": "t", "granularity": "hours", "bucketMaxSpanSeconds": 2_592_000 } },
        ),
    ] {
        let mut state = with_collection(&before);
        let mut body = rawdoc! { "collMod": "c" };
        change.iter().for_each(|field| {
            let (name, value) = field.unwrap();
            body.append(name, value);
        });
        let mut old = rawdoc! { "uuid": uuid(1) };
        before.iter().for_each(|field| {
            let (name, value) = field.unwrap();
            old.append(name, value);
        });
        let mut operation = command(1, body);
        operation.append(bson::raw::cstr!("o2"), rawdoc! { "collectionOptions_old": old });
        apply(&mut state, &operation).unwrap();
        assert_eq!(doubt(&state), None);
        assert_eq!(state.get(ID).unwrap().options, after.as_bytes(), "{change:?}");
    }
}

#[test]
fn what_is_not_understood_is_to_be_listed() {
    for (operation, reason) in [
        (command(1, rawdoc! { "collMod": "c", "shuffle": true }), "collMod of shuffle"),
        (command(1, rawdoc! { "collMod": "c", "validator": 5 }), "collMod of validator"),
        (
            command(1, rawdoc! { "collMod": "c", "timeseries": { "bucketMaxSpanSeconds": 5 } }),
            "collMod of timeseries",
        ),
        (
            command(1, rawdoc! { "collMod": "c", "index": { "name": "_id_", "shiny": true } }),
            "collMod of index.shiny",
        ),
        (
            command(1, rawdoc! { "collMod": "c", "index": { "name": "x", "hidden": true } }),
            "an index was changed that is not known",
        ),
        (
            command(1, rawdoc! { "createIndexes": "c", "v": 2, "key": { "a": 1 }, "name": "a", "shiny": 1 }),
            "the index option shiny",
        ),
        (
            command(
                1,
                rawdoc! { "createIndexes": "c", "v": 2, "key": { "a": 1 }, "name": "a", "expireAfterSeconds": 1.5 },
            ),
            "the index option expireAfterSeconds",
        ),
        (
            command(1, rawdoc! { "dropIndexes": "c", "index": { "a": 1 } }),
            "an index was dropped that is not known",
        ),
        (
            rawdoc! {
                "op": "c", "ns": "app.$cmd", "ui": uuid(1), "o": { "collMod": "c" },
                "o2": { "collectionOptions_old": { "uuid": uuid(1), "capped": true } },
            },
            "the options were others than collMod says",
        ),
    ] {
        let mut state = with_collection(&rawdoc! {});
        apply(&mut state, &operation).unwrap();
        assert_eq!(doubt(&state), Some(reason));
        assert_eq!(state.get(ID).unwrap().doubt.as_ref().unwrap().since, AT);
    }
}
