//! What real servers wrote, folded from nothing, is what they then had.
//!
//! `tests/data/VERSION.oplog.bson` holds the oplog entries of a workload of all kinds, `VERSION.state.bson` the
//! collections after it: `{ns, uuid, options, idIndex, indexes, documents}`, documents in natural order. Transactions
//! are split into entries of two operations each (`maxNumberOfTransactionOperationsInSingleOplogEntry: 2`).
#![allow(clippy::unwrap_used)]

extern crate ebbtide_history as history;

#[path = "support/timeline.rs"]
mod timeline;

use history::{
    CollectionId, SortKey,
    change::{Effect, interpret},
    entry::Entry,
    raw,
    skim::Wanted,
    transaction::Assembler,
};
use timeline::Timeline;

const RECORDINGS: [(&str, &[u8], &[u8]); 2] = [
    ("6.0.5", include_bytes!("data/6.0.5.oplog.bson"), include_bytes!("data/6.0.5.state.bson")),
    ("5.0.4", include_bytes!("data/5.0.4.oplog.bson"), include_bytes!("data/5.0.4.state.bson")),
];

fn assert_is(timeline: &Timeline, version: &str, state: &[u8]) {
    let mut seen = 0;
    for expected in raw::documents(state) {
        let expected = expected.unwrap();
        let field = |name: &str| raw::field(expected, name).unwrap();
        let namespace = field("ns").unwrap().text().unwrap();
        let id = CollectionId(field("uuid").unwrap().uuid().unwrap());
        let ours = timeline.catalog.get(id).unwrap_or_else(|| panic!("{version}: {namespace} is missing"));
        let about = format!("{version}: {namespace}");
        assert_eq!(ours.namespace, namespace, "{about}");
        assert_eq!(ours.doubt, None, "{about}");
        assert_eq!(shown(&ours.options), shown(field("options").unwrap().value), "{about}");
        assert_eq!(
            ours.id_index.as_deref().map(shown),
            field("idIndex").map(|index| shown(index.value)),
            "{about}"
        );
        let indexes: Vec<String> = ours.built_indexes().map(shown).collect();
        assert_eq!(
            indexes,
            values(field("indexes").unwrap().value).iter().map(|i| shown(i)).collect::<Vec<_>>(),
            "{about}"
        );
        let mut documents = values(field("documents").unwrap().value);
        if !ours.is_capped() {
            documents.sort_by_cached_key(|document| SortKey::of_document(document).unwrap());
        }
        let ours = timeline.base.get(&id).cloned().unwrap_or_default();
        assert_eq!(
            ours.iter().map(|document| shown(document)).collect::<Vec<_>>(),
            documents.iter().map(|document| shown(document)).collect::<Vec<_>>(),
            "{about}"
        );
        assert!(ours == documents, "{about}: bytes");
        seen += 1;
    }
    assert_eq!(timeline.catalog.iter().count(), seen, "{version}: collections that the server does not have");
}

/// Bytes in a form that shows where two differ.
fn shown(document: &[u8]) -> String {
    format!("{:?}", bson::RawDocument::from_bytes(document).unwrap())
}

fn values(array: &[u8]) -> Vec<Vec<u8>> {
    raw::elements(array).map(|element| element.unwrap().document().unwrap().to_vec()).collect()
}

#[test]
fn a_recording_folds_to_what_the_server_had() {
    for (version, oplog, state) in RECORDINGS {
        let mut timeline = Timeline::default();
        raw::documents(oplog).for_each(|entry| timeline.entry(entry.unwrap(), |_| true));
        timeline.fold();
        assert_is(&timeline, version, state);
        assert_eq!(timeline.assembler, Assembler::new());
    }
}

#[test]
fn folding_in_steps_comes_to_the_same() {
    for (version, oplog, state) in RECORDINGS {
        for step in [1, 3, 10, 77] {
            let mut timeline = Timeline::default();
            for (n, entry) in raw::documents(oplog).enumerate() {
                timeline.entry(entry.unwrap(), |_| true);
                if n % step == 0 {
                    timeline.fold();
                    let state = serde_json::to_string(&timeline.assembler).unwrap();
                    timeline.assembler = serde_json::from_str(&state).unwrap();
                }
            }
            timeline.fold();
            assert_is(&timeline, version, state);
        }
    }
}

/// What is skimmed off for one document or one collection is all that is done to it, and everything but plain writes.
#[test]
fn skimming_loses_nothing_of_what_is_asked_for() {
    let nobody = Wanted::Key(SortKey::of_value(0x02, b"\x07\0\0\0nobody\0").unwrap());
    let (mut writes, mut passed_over) = (0, 0);
    for (version, oplog, _) in RECORDINGS {
        for entry in raw::documents(oplog) {
            let entry = entry.unwrap();
            let read = Entry::read(entry).unwrap();
            let mut effects = Vec::new();
            interpret(&read.operation, &|_| true, &mut |effect| effects.push(effect)).unwrap();
            for effect in effects {
                match effect {
                    Effect::Write { collection, key, .. } => {
                        writes += 1;
                        assert!(Wanted::Collection(collection).keeps(entry), "{version}: {read:?}");
                        assert!(Wanted::Key(key).keeps(entry), "{version}: {read:?}");
                    }
                    other => assert!(nobody.keeps(entry), "{version}: {other:?}"),
                }
            }
            passed_over += usize::from(!nobody.keeps(entry));
        }
    }
    assert!(passed_over > 100 && passed_over <= writes, "{passed_over} entries of {writes} writes");
}
