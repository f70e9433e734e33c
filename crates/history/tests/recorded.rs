//! What real servers wrote, folded from nothing, is what they then had.
//!
//! `tests/data/VERSION.oplog.bson` holds the oplog entries of a workload of all kinds, `VERSION.state.bson` the
//! collections after it: `{ns, uuid, options, idIndex, indexes, documents}`, documents in natural order. Transactions
//! are split into entries of two operations each (`maxNumberOfTransactionOperationsInSingleOplogEntry: 2`).
#![allow(clippy::unwrap_used)]

extern crate ebbtide_history as history;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use history::{
    ClusterTime, CollectionId, SortKey,
    capped::CappedChanges,
    catalog_state::CatalogState,
    change::{self, Change, Effect, Position, Write, interpret},
    entry::{Entry, Operation},
    fold::{Documents, fold},
    raw,
    transaction::{Assembler, Step},
};

const RECORDINGS: [(&str, &[u8], &[u8]); 2] = [
    ("6.0.5", include_bytes!("data/6.0.5.oplog.bson"), include_bytes!("data/6.0.5.state.bson")),
    ("5.0.4", include_bytes!("data/5.0.4.oplog.bson"), include_bytes!("data/5.0.4.state.bson")),
];

struct List<'a>(&'a [Vec<u8>], usize);

impl Documents for List<'_> {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        self.1 += 1;
        Ok(self.0.get(self.1 - 1).map(Vec::as_slice))
    }
}

/// A state, and the changes since.
#[derive(Default)]
struct Timeline {
    catalog: CatalogState,
    assembler: Assembler,
    base: BTreeMap<CollectionId, Vec<Vec<u8>>>,
    changes: Vec<Change<'static>>,
    capped: HashMap<CollectionId, CappedChanges>,
    order: u64,
}

impl Timeline {
    fn entry(&mut self, bytes: &[u8]) {
        let entry = Entry::read(bytes).unwrap();
        match self.assembler.feed(&entry).unwrap() {
            Step::Plain => self.operation(&entry.operation, entry.time),
            Step::Committed(committed) => {
                committed
                    .operations()
                    .for_each(|operation| self.operation(&operation.unwrap(), committed.time));
            }
            Step::Kept | Step::Aborted => {}
        }
    }

    fn operation(&mut self, operation: &Operation<'_>, time: ClusterTime) {
        let mut effects = Vec::new();
        interpret(operation, &|_| true, &mut |effect| effects.push(effect)).unwrap();
        for effect in effects {
            self.order += 1;
            let position = Position { time, order: self.order };
            match effect {
                Effect::Write { collection, key, write } => self.write(collection, key, write, position),
                Effect::Emptied(collection) => self.capped.entry(collection).or_default().empty(),
                Effect::Definition(operation) => self.catalog.apply(&operation, time).unwrap(),
                Effect::Unfoldable(unfoldable) => panic!("{unfoldable}"),
            }
        }
    }

    fn write(&mut self, collection: CollectionId, key: SortKey, write: Write<'_>, position: Position) {
        if self.catalog.get(collection).is_some_and(|collection| collection.is_capped()) {
            self.capped.entry(collection).or_default().write(key, write, position);
        } else {
            self.changes.push(Change { collection, key, position, write: write.into_owned() });
        }
    }

    /// Folds the changes into the base. What is sorted is split into runs, written as bytes and read again.
    fn fold(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let runs = changes.chunks(7).map(|run| {
            let mut run = run.to_vec();
            run.sort();
            let mut bytes = Vec::new();
            run.iter().for_each(|change| change::push_record(&mut bytes, change));
            let mut read = Vec::new();
            let mut rest = bytes.as_slice();
            while let Some((change, after)) = change::split_record(rest).unwrap() {
                read.push(Ok::<_, Infallible>(Change { write: change.write.into_owned(), ..change }));
                rest = after;
            }
            read.into_iter()
        });
        let mut by_collection: BTreeMap<CollectionId, Vec<_>> = BTreeMap::new();
        for coalesced in change::coalesce(change::merge(runs)) {
            let (collection, key, coalesced) = coalesced.unwrap();
            by_collection.entry(collection).or_default().push(Ok((key, coalesced)));
        }
        for (collection, changes) in by_collection {
            let base = self.base.remove(&collection).unwrap_or_default();
            let mut after = Vec::new();
            fold(&mut List(&base, 0), &mut changes.into_iter(), |key, folded| {
                after.extend(folded.after().map(<[u8]>::to_vec));
                assert!(
                    folded
                        .after()
                        .is_none_or(|document| SortKey::of_document(document).unwrap().as_bytes() == key)
                );
                Ok(())
            })
            .unwrap();
            self.base.insert(collection, after);
        }
        for (collection, changes) in std::mem::take(&mut self.capped) {
            let base = self.base.remove(&collection).unwrap_or_default();
            let mut after = Vec::new();
            changes
                .fold(&mut List(&base, 0), |folded| {
                    after.extend(folded.after().map(<[u8]>::to_vec));
                    Ok(())
                })
                .unwrap();
            self.base.insert(collection, after);
        }
    }

    fn assert_is(&self, version: &str, state: &[u8]) {
        let mut seen = 0;
        for expected in raw::documents(state) {
            let expected = expected.unwrap();
            let field = |name: &str| raw::field(expected, name).unwrap();
            let namespace = field("ns").unwrap().text().unwrap();
            let id = CollectionId(field("uuid").unwrap().uuid().unwrap());
            let ours = self.catalog.get(id).unwrap_or_else(|| panic!("{version}: {namespace} is missing"));
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
            let ours = self.base.get(&id).cloned().unwrap_or_default();
            assert_eq!(
                ours.iter().map(|document| shown(document)).collect::<Vec<_>>(),
                documents.iter().map(|document| shown(document)).collect::<Vec<_>>(),
                "{about}"
            );
            assert!(ours == documents, "{about}: bytes");
            seen += 1;
        }
        assert_eq!(self.catalog.iter().count(), seen, "{version}: collections that the server does not have");
    }
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
        raw::documents(oplog).for_each(|entry| timeline.entry(entry.unwrap()));
        timeline.fold();
        timeline.assert_is(version, state);
        assert_eq!(timeline.assembler, Assembler::new());
    }
}

#[test]
fn folding_in_steps_comes_to_the_same() {
    for (version, oplog, state) in RECORDINGS {
        for step in [1, 3, 10, 77] {
            let mut timeline = Timeline::default();
            for (n, entry) in raw::documents(oplog).enumerate() {
                timeline.entry(entry.unwrap());
                if n % step == 0 {
                    timeline.fold();
                    let state = serde_json::to_string(&timeline.assembler).unwrap();
                    timeline.assembler = serde_json::from_str(&state).unwrap();
                }
            }
            timeline.fold();
            timeline.assert_is(version, state);
        }
    }
}
