//! The fold of capped collections: ordered lists, not sorted ones.
//!
//! An insert appends; every eviction is a logged delete; an update changes a document where it stands. The order of a
//! capped collection is the order of the oplog, but for documents that several writers insert at the same time. What is kept in memory is bounded by what the collection may hold, and
//! a few bytes for each document of the base that went away.

use std::collections::{HashMap, HashSet};

use crate::{
    ClusterTime, SortKey,
    change::{Coalesced, Defect, Outcome, Pending, Position, Reason, Write},
    fold::{Documents, FoldError, Folded},
};

/// The changes of one capped collection.
#[derive(Debug, Clone, Default)]
pub struct CappedChanges {
    /// Whether nothing of the base is left.
    emptied: bool,
    /// Changes of documents of the base.
    of_base: HashMap<SortKey, Coalesced>,
    /// Appended documents; those that went away again are gaps.
    appended: Vec<Option<(SortKey, Coalesced)>>,
    /// Where in `appended` a document is.
    places: HashMap<SortKey, usize>,
    /// Documents that were inserted up to then may be in the base already.
    known_through: ClusterTime,
    bytes: usize,
}

/// The document without fields.
const NO_FIELDS: &[u8] = &[5, 0, 0, 0, 0];

impl CappedChanges {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// No changes of a base that was not read at one time: documents that were inserted after its own and up to this one may be in
    /// it already.
    pub fn of_base_read_through(known_through: ClusterTime) -> Self {
        Self { known_through, ..Self::default() }
    }

    /// Takes the next write. Positions ascend.
    pub fn write(&mut self, key: SortKey, write: Write<'_>, position: Position) {
        if let Some(&place) = self.places.get(&key) {
            return self.write_appended(place, key, write, position);
        }
        let write = match write {
            // The base may have the document as it was later, which the change need not fit. Applied in order, all of them make of
            // it what they should, as they do when a server goes over its oplog again.
            Write::Patch(diff) if position.time <= self.known_through => {
                Write::Reapply { new: NO_FIELDS.into(), diff }
            }
            other => other,
        };
        match (write, self.of_base.get_mut(&key)) {
            (Write::Insert(document), _) => {
                self.places.insert(key.clone(), self.appended.len());
                let coalesced = Coalesced::new(Write::Insert(document), position);
                self.bytes += coalesced.bytes() + key.as_bytes().len();
                self.appended.push(Some((key, coalesced)));
            }
            (write, Some(coalesced)) => {
                let before = coalesced.bytes();
                coalesced.then(write, position);
                self.bytes = (self.bytes + coalesced.bytes()).saturating_sub(before);
            }
            (write, None) => {
                let coalesced = Coalesced::new(write, position);
                self.bytes += coalesced.bytes() + key.as_bytes().len();
                self.of_base.insert(key, coalesced);
            }
        }
    }

    fn write_appended(&mut self, place: usize, key: SortKey, write: Write<'_>, position: Position) {
        let Some(slot) = self.appended.get_mut(place) else { return };
        let Some((_, coalesced)) = slot else { return };
        let (before, inserted) = (coalesced.bytes(), coalesced.first.time);
        if write == Write::Delete && coalesced.defect.is_none() {
            *slot = None;
            self.places.remove(&key);
            self.bytes = self.bytes.saturating_sub(before + key.as_bytes().len());
            if inserted <= self.known_through {
                // The base may have it.
                self.bytes += key.as_bytes().len();
                self.of_base.insert(key, Coalesced::new(Write::Delete, position));
            }
            return self.close_gaps();
        }
        coalesced.then(write, position);
        self.bytes = (self.bytes + coalesced.bytes()).saturating_sub(before);
    }

    /// A capped collection is a queue: the oldest of its appended documents go first.
    fn close_gaps(&mut self) {
        if self.appended.len() < 2 * self.places.len() + 64 {
            return;
        }
        self.appended.retain(Option::is_some);
        for (place, slot) in self.appended.iter().enumerate() {
            if let Some((key, _)) = slot
                && let Some(known) = self.places.get_mut(key)
            {
                *known = place;
            }
        }
    }

    /// All documents went away.
    pub fn empty(&mut self) {
        *self = Self { emptied: true, known_through: self.known_through, ..Self::default() };
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shows to `visit` what the changes make of the base, in order. The documents of the base come in their order.
    ///
    /// # Errors
    /// [`FoldError`]; what was shown before stands.
    pub fn fold<B: Documents>(
        &self,
        base: &mut B,
        mut visit: impl FnMut(Folded<'_>) -> Result<(), B::Error>,
    ) -> Result<(), FoldError<B::Error>> {
        let mut after = Vec::new();
        let mut known = HashSet::new();
        let mut changed = HashSet::new();
        while let Some(before) = base.next().map_err(FoldError::Source)? {
            let key = SortKey::of_document(before).map_err(FoldError::Malformed)?;
            after.clear();
            let inserted = self.appended_as(&key).filter(|change| change.first.time <= self.known_through);
            let change = match inserted {
                // It has its place in the base, unless one of that name went away before it came.
                Some(_) if self.emptied || self.of_base.contains_key(&key) => self.of_base.get(&key),
                Some(change) => {
                    known.insert(key.clone());
                    Some(change)
                }
                None => self.of_base.get(&key),
            };
            changed.extend(self.of_base.get_key_value(&key).map(|(key, _)| key));
            let folded = match change.map(|change| change.onto(Some(before), &mut after)).transpose() {
                _ if self.emptied => Folded::Removed(before),
                Err(defect) => return Err(FoldError::Defect { key, defect }),
                Ok(Some(Outcome::Absent)) => Folded::Removed(before),
                // An appended document whose like was never removed.
                Ok(_) if self.places.contains_key(&key) && !known.contains(&key) => {
                    return Err(self.twice(key));
                }
                Ok(Some(Outcome::Document)) => Folded::Changed { before, after: &after },
                Ok(None) => Folded::Kept(before),
            };
            visit(folded).map_err(FoldError::Source)?;
        }
        let missing = self.of_base.iter().find(|(key, change)| {
            !matches!(change.pending, Pending::Delete) && !changed.contains(key) && !self.emptied
        });
        if let Some((key, change)) = missing {
            let defect = Defect { at: change.last, reason: Reason::MissingDocument };
            return Err(FoldError::Defect { key: key.clone(), defect });
        }
        for (key, change) in self.appended.iter().flatten().filter(|(key, _)| !known.contains(key)) {
            after.clear();
            match change.onto(None, &mut after) {
                Ok(Outcome::Document) => visit(Folded::Added(&after)).map_err(FoldError::Source)?,
                Ok(Outcome::Absent) => {}
                Err(defect) => return Err(FoldError::Defect { key: key.clone(), defect }),
            }
        }
        Ok(())
    }

    /// The changes of an appended document.
    fn appended_as(&self, key: &SortKey) -> Option<&Coalesced> {
        let place = self.places.get(key)?;
        self.appended.get(*place)?.as_ref().map(|(_, change)| change)
    }

    fn twice<E>(&self, key: SortKey) -> FoldError<E> {
        let at = self.appended_as(&key).map(|change| change.last).unwrap_or_default();
        FoldError::Defect { key, defect: Defect { at, reason: Reason::AlreadyThere } }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use bson::rawdoc;
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{Base, Random};

    fn document(id: i32, value: i32) -> Vec<u8> {
        rawdoc! { "_id": id, "v": value }.into_bytes()
    }

    fn key(id: i32) -> SortKey {
        SortKey::of_document(&document(id, 0)).unwrap()
    }

    fn at(increment: u32) -> Position {
        Position { time: ClusterTime { seconds: 1, increment }, order: 0 }
    }

    fn folded(base: &[Vec<u8>], changes: &CappedChanges) -> Result<Vec<Vec<u8>>, FoldError<Infallible>> {
        let mut list = Vec::new();
        changes.fold(&mut Base::new(base.to_vec()), |folded| {
            list.extend(folded.after().map(<[u8]>::to_vec));
            Ok(())
        })?;
        Ok(list)
    }

    #[test]
    fn a_document_that_is_there_twice_is_a_defect() {
        let mut changes = CappedChanges::new();
        changes.write(key(1), Write::Insert(document(1, 5).into()), at(1));
        assert!(matches!(folded(&[document(1, 0)], &changes), Err(FoldError::Defect { .. })));
        assert_eq!(folded(&[document(2, 0)], &changes), Ok(vec![document(2, 0), document(1, 5)]));
        changes.empty();
        assert_eq!(folded(&[document(1, 0)], &changes), Ok(vec![]));
    }

    #[test]
    fn a_change_of_a_document_that_is_not_there_is_a_defect() {
        let mut changes = CappedChanges::new();
        changes.write(key(1), Write::Replace(document(1, 5).into()), at(1));
        assert_eq!(folded(&[document(1, 0)], &changes), Ok(vec![document(1, 5)]));
        assert!(matches!(folded(&[document(2, 0)], &changes), Err(FoldError::Defect { .. })));
        changes.write(key(1), Write::Delete, at(2));
        assert_eq!(folded(&[document(2, 0)], &changes), Ok(vec![document(2, 0)]), "it was evicted early");
    }

    /// A base that was read while it was written to may have documents that were inserted after its time, as they are by then.
    #[test]
    fn what_was_inserted_during_the_read_may_be_there() {
        let patch = |value: i32| Write::Patch(rawdoc! { "u": { "v": value } }.into_bytes().into());
        let seen = at(2).time;
        let mut changes = CappedChanges::of_base_read_through(seen);
        changes.write(key(1), Write::Insert(document(1, 5).into()), at(1));
        changes.write(key(1), patch(6), at(2));
        changes.write(key(2), Write::Insert(document(2, 5).into()), at(3));
        let both = Ok(vec![document(0, 0), document(1, 6), document(2, 5)]);
        assert_eq!(folded(&[document(0, 0), document(1, 5)], &changes), both);
        assert_eq!(folded(&[document(0, 0), document(1, 6)], &changes), both);
        assert_eq!(folded(&[document(0, 0)], &changes), both);
        let later = folded(&[document(0, 0), document(2, 5)], &changes);
        assert!(matches!(later, Err(FoldError::Defect { .. })), "that one came later");
        // Gone again, and gone before it came anew.
        changes.write(key(1), Write::Delete, at(4));
        let without = Ok(vec![document(0, 0), document(2, 5)]);
        assert_eq!(folded(&[document(0, 0), document(1, 6)], &changes), without);
        let mut anew = CappedChanges::of_base_read_through(seen);
        anew.write(key(0), Write::Delete, at(1));
        anew.write(key(0), Write::Insert(document(0, 9).into()), at(2));
        assert_eq!(
            folded(&[document(0, 0), document(3, 0)], &anew),
            Ok(vec![document(3, 0), document(0, 9)])
        );
        // Read after it lost a field: the change does not fit any more.
        let renamed = rawdoc! { "_id": 0, "w": 0 }.into_bytes();
        let mut renames = CappedChanges::of_base_read_through(seen);
        let diff = rawdoc! { "d": { "v": false }, "i": { "w": 0 } }.into_bytes();
        renames.write(key(0), Write::Patch(diff.clone().into()), at(1));
        assert_eq!(folded(&[document(0, 0)], &renames), Ok(vec![renamed.clone()]));
        assert_eq!(folded(std::slice::from_ref(&renamed), &renames), Ok(vec![renamed.clone()]));
        renames.write(key(0), Write::Patch(diff.into()), at(9));
        assert!(
            matches!(folded(&[document(0, 0)], &renames), Err(FoldError::Defect { .. })),
            "that one has to fit"
        );
        // All that was there before went away.
        let mut emptied = CappedChanges::of_base_read_through(seen);
        emptied.empty();
        emptied.write(key(1), Write::Insert(document(1, 5).into()), at(2));
        assert_eq!(folded(&[document(1, 5)], &emptied), Ok(vec![document(1, 5)]));
    }

    proptest! {
        #[test]
        fn a_list_is_kept_as_a_list_would_be(seed in any::<u64>()) {
            let mut random = Random::new(seed);
            let base: Vec<_> = (0..random.below(20) as i32).map(|id| document(id, 0)).collect();
            let mut model: Vec<(i32, Vec<u8>)> = (0..).zip(base.clone()).collect();
            let mut changes = CappedChanges::new();
            for step in 1..300 {
                let value = step as i32;
                let place = random.below(model.len());
                match random.below(if model.is_empty() { 1 } else { 10 }) {
                    0..=3 => {
                        let id = random.below(400) as i32;
                        if model.iter().any(|(there, _)| *there == id) {
                            continue;
                        }
                        model.push((id, document(id, value)));
                        changes.write(key(id), Write::Insert(document(id, value).into()), at(step));
                    }
                    4..=6 => {
                        let (id, _) = model.remove(if random.chance(80) { 0 } else { place });
                        changes.write(key(id), Write::Delete, at(step));
                    }
                    7 => {
                        let id = model[place].0;
                        model[place].1 = document(id, value);
                        let diff = rawdoc! { "u": { "v": value } }.into_bytes();
                        changes.write(key(id), Write::Patch(diff.into()), at(step));
                    }
                    8 => {
                        let id = model[place].0;
                        model[place].1 = document(id, value);
                        changes.write(key(id), Write::Replace(document(id, value).into()), at(step));
                    }
                    _ if random.chance(3) => {
                        model.clear();
                        changes.empty();
                    }
                    _ => {}
                }
            }
            let expected: Vec<_> = model.into_iter().map(|(_, document)| document).collect();
            prop_assert_eq!(folded(&base, &changes), Ok(expected));
            prop_assert!(changes.appended.len() <= 2 * changes.places.len() + 64);
        }
    }
}
