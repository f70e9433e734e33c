//! What is held true of whatever bytes come: targets for a fuzzer, and for the test below, which needs none.
//!
//! Entries and documents come from servers of versions that do not exist yet and from disks that rot. So any bytes give a
//! result or an error, never a panic, and what one reader makes of them is what another one makes of them.

use crate::{
    ClusterTime, CollectionId, SortKey,
    change::{Change, Effect, Position, interpret, push_record, split_record},
    diff,
    entry::Entry,
    raw::{self, DOCUMENT_BYTES_MAX, kind, write},
    skim::Wanted,
    transaction::{Assembler, OpenTransactions, Step},
};

/// A target: takes any bytes, and panics when something does not hold.
pub type Target = fn(&[u8]);

/// The targets of this package and their names, which are those of their seeds.
pub const TARGETS: [(&str, Target); 3] = [("entry", entry), ("diff", diff), ("document", document)];

/// One entry of an oplog, read by all who read one.
pub fn entry(bytes: &[u8]) {
    skimmed(bytes);
    let Ok(entry) = Entry::read(bytes) else { return };
    let (mut open, mut assembler) = (OpenTransactions::new(), Assembler::new());
    open.feed(&entry);
    let step = assembler.feed(&entry);
    if let (Ok(Step::Kept), Some(held)) = (&step, assembler.oldest_start()) {
        assert_eq!(Some(held), open.oldest_start(), "who only watches transactions misses one");
    }
    let _ = (assembler.bytes(), assembler.undecided_at(entry.time));
    if let Ok(Step::Committed(committed)) = step {
        for operation in committed.operations().map_while(Result::ok) {
            let _ = interpret(&operation, &|_| true, &mut recorded);
        }
    }
    let _ = interpret(&entry.operation, &|_| true, &mut recorded);
    let _ = interpret(&entry.operation, &|namespace| namespace.len() % 2 == 0, &mut recorded);
}

/// An effect goes through a file and comes out as it was.
fn recorded(effect: Effect<'_>) {
    let Effect::Write { collection, key, write, .. } = effect else { return };
    let position = Position { time: ClusterTime { seconds: 1, increment: 2 }, order: 3 };
    let change = Change { collection, key, position, write };
    let mut record = Vec::new();
    push_record(&mut record, &change);
    let split = split_record(&record);
    assert_eq!(split, Ok(Some((change, &[][..]))), "a change is another one behind the file");
}

/// What is passed over is nothing but writes that were not asked for.
fn skimmed(bytes: &[u8]) {
    let collection = CollectionId([7; 16]);
    let key = SortKey::of_value(kind::INT32, &1_i32.to_le_bytes());
    let keys = key.into_iter().map(Wanted::Key);
    for wanted in [Wanted::Definitions, Wanted::Collection(collection)].into_iter().chain(keys) {
        if wanted.keeps(bytes) {
            continue;
        }
        let Ok(entry) = Entry::read(bytes) else { continue };
        let _ = interpret(&entry.operation, &|_| true, &mut |effect| match effect {
            Effect::Write { collection, key, .. } => {
                assert!(!wanted.includes(collection, &key), "what was asked for is passed over");
            }
            Effect::Emptied(_) | Effect::Definition(_) => panic!("more than a write is passed over"),
            Effect::Unfoldable { .. } => {}
        });
    }
}

/// A document, and the diff behind it.
pub fn diff(bytes: &[u8]) {
    let Ok(length) = raw::document_length(bytes) else { return };
    let (document, diff) = bytes.split_at(length);
    let mut out = b"before".to_vec();
    let applied = diff::apply(document, diff, &mut out);
    assert!(out.starts_with(b"before"), "what was there before is gone");
    let made = out.split_off(b"before".len());
    if applied.is_err() {
        assert!(made.is_empty(), "a diff that failed leaves something");
        return;
    }
    assert!(made.len() <= DOCUMENT_BYTES_MAX, "a document that no server stores");
    assert_eq!(raw::document_length(&made), Ok(made.len()), "what a diff makes is no document");
    assert!(raw::elements(&made).all(|element| element.is_ok()), "what a diff makes cannot be walked");
    let mut again = Vec::new();
    assert_eq!(diff::apply(document, diff, &mut again), applied);
    assert!(again == made, "the same diff makes two documents");
}

/// Documents back to back: walked, written again, and the first one put in its place.
pub fn document(bytes: &[u8]) {
    let mut walked = 0;
    for document in raw::documents(bytes).map_while(Result::ok) {
        walked += document.len();
        let mut copy = Vec::new();
        let start = write::open(&mut copy);
        let whole = raw::elements(document).try_for_each(|element| {
            write::push(&mut copy, &element?);
            Ok::<(), crate::Malformed>(())
        });
        write::close(&mut copy, start);
        if whole.is_ok() {
            // The end of a document may be any byte.
            let length = document.len() - 1;
            assert!(
                copy.get(..length) == document.get(..length),
                "a document is another one when it is written again"
            );
        }
        let key = SortKey::of_document(document);
        let id = raw::field(document, "_id").ok().flatten();
        if let (Ok(key), Some(id)) = (&key, id) {
            assert_eq!(
                SortKey::of_value(id.kind, id.value).as_ref(),
                Ok(key),
                "the key of a document is not its id's"
            );
        }
        for element in raw::elements(document).map_while(Result::ok) {
            let _ = SortKey::of_value(element.kind, element.value);
            let _ = (element.text(), element.integer(), element.timestamp(), element.date());
            let _ = (element.boolean(), element.uuid(), element.document(), element.array());
        }
    }
    assert!(walked <= bytes.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_true_holds_for_seeds_and_what_becomes_of_them() {
        for (name, target) in TARGETS {
            testbed::mutation::around(name, target);
        }
    }
}
