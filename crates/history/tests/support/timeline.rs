//! A timeline in memory, for tests: entries go in, a state comes out.

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
    transaction::{Assembler, Step},
};

struct List<'a>(&'a [Vec<u8>], usize);

impl Documents for List<'_> {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        self.1 += 1;
        Ok(self.0.get(self.1 - 1).map(Vec::as_slice))
    }
}

/// A state, and the changes since.
#[derive(Default, Clone)]
pub(crate) struct Timeline {
    pub(crate) catalog: CatalogState,
    pub(crate) assembler: Assembler,
    pub(crate) base: BTreeMap<CollectionId, Vec<Vec<u8>>>,
    changes: Vec<Change<'static>>,
    capped: HashMap<CollectionId, CappedChanges>,
    order: u64,
}

impl Timeline {
    /// Takes the next entry, and of it what takes effect at times that count.
    pub(crate) fn entry(&mut self, bytes: &[u8], counts: impl Fn(ClusterTime) -> bool) {
        let entry = Entry::read(bytes).unwrap();
        match self.assembler.feed(&entry).unwrap() {
            Step::Plain if counts(entry.time) => self.operation(&entry.operation, entry.time),
            Step::Committed(committed) if counts(committed.time) => {
                committed
                    .operations()
                    .for_each(|operation| self.operation(&operation.unwrap(), committed.time));
            }
            _ => {}
        }
    }

    fn operation(&mut self, operation: &Operation<'_>, time: ClusterTime) {
        let mut effects = Vec::new();
        interpret(operation, &|_| true, &mut |effect| effects.push(effect)).unwrap();
        for effect in effects {
            self.order += 1;
            let position = Position { time, order: self.order };
            match effect {
                Effect::Write { collection, key, write, by_user, .. } => {
                    self.write(collection, key, write, by_user, position);
                }
                Effect::Emptied(collection) => self.capped.entry(collection).or_default().empty(),
                Effect::Definition(operation) => self.catalog.apply(&operation, time).unwrap(),
                Effect::Unfoldable { unknown, .. } => panic!("{unknown}"),
            }
        }
    }

    fn write(
        &mut self,
        collection: CollectionId,
        key: SortKey,
        write: Write<'_>,
        by_user: bool,
        position: Position,
    ) {
        if self.catalog.get(collection).is_some_and(|collection| collection.is_capped()) {
            self.capped.entry(collection).or_default().write(key, write, position);
        } else {
            let write = if by_user { write.whatever_was() } else { write };
            self.changes.push(Change { collection, key, position, write: write.into_owned() });
        }
    }

    /// Folds the changes into the base. What is sorted is split into runs, written as bytes and read again.
    pub(crate) fn fold(&mut self) {
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
}
