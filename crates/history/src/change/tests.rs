#![allow(clippy::unwrap_used)]
use std::{collections::BTreeMap, convert::Infallible};

use bson::{Binary, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use proptest::prelude::*;

use super::*;
use crate::{
    diff,
    entry::{Kind, Operation},
    fold::{FoldError, Folded, fold},
    samples::{self, Base, Random},
};

fn uuid(byte: u8) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
}

fn at(order: u64) -> Position {
    Position { time: ClusterTime { seconds: 1, increment: 1 }, order }
}

fn is_recorded(namespace: &str) -> bool {
    namespace.contains('.') && !namespace.starts_with("config.") && !namespace.contains("unrecorded")
}

fn effects(operation: &RawDocumentBuf) -> Vec<String> {
    let operation = Operation::read(operation.as_bytes()).unwrap();
    let mut shown = Vec::new();
    interpret(&operation, &is_recorded, &mut |effect| {
        shown.push(match effect {
            Effect::Write { collection, write, .. } => {
                let what = match write {
                    Write::Insert(_) => "insert",
                    Write::Replace(_) => "replace",
                    Write::Patch(_) => "patch",
                    Write::Reapply { .. } => "reapply",
                    Write::Delete => "delete",
                };
                format!("{what} in {:x}", collection.0[0])
            }
            Effect::Emptied(collection) => format!("emptied {:x}", collection.0[0]),
            Effect::Definition(Operation { kind: Kind::Command(_), namespace, .. }) => {
                format!("definition in {namespace}")
            }
            Effect::Definition(other) => panic!("{other:?}"),
            Effect::Unfoldable { unknown, .. } => unknown.to_string(),
        });
    })
    .unwrap();
    shown
}

#[test]
fn operations_have_their_effects() {
    let insert = |id: i32| rawdoc! { "op": "i", "ns": "a.b", "ui": uuid(1), "o": { "_id": id } };
    let nested = rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [
        insert(1),
        { "op": "d", "ns": "a.b", "ui": uuid(2), "o": { "_id": 1 } },
        { "op": "i", "ns": "config.x", "ui": uuid(1), "o": { "_id": 1 } },
        { "op": "n", "ns": "", "o": { "msg": "x" } },
        { "op": "c", "ns": "a.$cmd", "ui": uuid(3), "o": { "create": "c" } },
        { "op": "c", "ns": "a.$cmd", "o": { "applyOps": [insert(2)] } },
    ] } };
    assert_eq!(effects(&nested), ["insert in 1", "delete in 2", "definition in a.$cmd", "insert in 1"]);
    let update = |object: RawDocumentBuf| rawdoc! { "op": "u", "ns": "a.b", "ui": uuid(1), "o": object, "o2": { "_id": 1 } };
    assert_eq!(effects(&update(rawdoc! { "_id": 1.0, "x": 1 })), ["replace in 1"]);
    assert_eq!(effects(&update(rawdoc! { "$v": 2, "diff": { "d": { "a": false } } })), ["patch in 1"]);
    let by_user = |operation: RawDocumentBuf| {
        effects(&rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [operation] } })
    };
    assert_eq!(by_user(update(rawdoc! { "$v": 2, "diff": { "d": { "a": false } } })), ["reapply in 1"]);
    let zero = bson::Timestamp { time: 0, increment: 0 };
    assert!(by_user(update(rawdoc! { "_id": 1, "t": zero }))[0].contains("Timestamp(0,0)"));
    assert_eq!(by_user(update(rawdoc! { "_id": 1, "in": { "t": zero } })), ["replace in 1"]);
    let empty = rawdoc! { "op": "c", "ns": "a.$cmd", "ui": uuid(7), "o": { "emptycapped": "c" } };
    assert_eq!(effects(&empty), ["emptied 7"]);
    for silent in ["dbCheck", "abortTransaction"] {
        let mut object = RawDocumentBuf::new();
        object.append(bson::raw::CString::try_from(silent).unwrap(), "c");
        assert_eq!(effects(&rawdoc! { "op": "c", "ns": "a.$cmd", "o": object }), [""; 0]);
    }
}

#[test]
fn what_cannot_be_folded_says_what_and_why() {
    let id = "collection 01010101-0101-0101-0101-010101010101:";
    let update = |object: RawDocumentBuf| rawdoc! { "op": "u", "ns": "a.b", "ui": uuid(1), "o": object, "o2": { "_id": 1 } };
    let command = |object: RawDocumentBuf| rawdoc! { "op": "c", "ns": "a.$cmd", "o": object };
    for (operation, said) in [
        (update(rawdoc! { "_id": 2 }), format!("{id} a replacement has another _id than the document")),
        (
            update(rawdoc! { "$set": { "a": 1 } }),
            format!(
                "{id} updates with $set in the oplog are not folded (is the feature compatibility version 4.4?)"
            ),
        ),
        (
            rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": 1 } },
            "a.b: an operation does not name its collection".to_owned(),
        ),
        (
            rawdoc! { "op": "km", "ns": "a.b", "ui": uuid(1), "o": {} },
            format!("{id} the operation km is not known"),
        ),
        (
            rawdoc! { "op": "km", "ns": "", "o": {} },
            "all collections: the operation km is not known".to_owned(),
        ),
        (command(rawdoc! { "shuffle": "c" }), "a.c: the command shuffle is not known".to_owned()),
        (command(rawdoc! { "shuffle": 1 }), "all collections: the command shuffle is not known".to_owned()),
        (
            rawdoc! { "op": "c", "ns": "a.$cmd", "ui": uuid(1), "o": { "convertToCapped": "c" } },
            format!("{id} the command convertToCapped is not known"),
        ),
    ] {
        assert_eq!(effects(&operation), [said]);
    }
    assert_eq!(effects(&rawdoc! { "op": "km", "ns": "config.x", "o": {} }), [""; 0]);
    assert_eq!(effects(&rawdoc! { "op": "c", "ns": "config.$cmd", "o": { "shuffle": "c" } }), [""; 0]);
}

#[test]
fn a_collection_from_an_unrecorded_name_is_unfoldable() {
    let rename = |from: &str, to: &str| {
        rawdoc! { "op": "c", "ns": "a.$cmd", "ui": uuid(1), "o": { "renameCollection": from, "to": to } }
    };
    assert_eq!(effects(&rename("a.b", "a.c")), ["definition in a.$cmd"]);
    assert_eq!(effects(&rename("a.b", "a.unrecorded")), ["definition in a.$cmd"]);
    assert_eq!(effects(&rename("a.unrecorded", "a.unrecorded2")), [""; 0]);
    let shown = effects(&rename("a.unrecorded", "a.b"));
    assert!(shown[1].ends_with("the collection came from a namespace that is not recorded"), "{shown:?}");
}

#[test]
fn contradictions_are_recorded() {
    let document = || rawdoc! { "_id": 1, "a": 1 }.into_bytes();
    let fits = || Write::Patch(rawdoc! { "u": { "a": 2 } }.into_bytes().into());
    let misfits = || Write::Patch(rawdoc! { "d": { "z": false } }.into_bytes().into());
    let unknown = || Write::Patch(rawdoc! { "b": { "z": 1 } }.into_bytes().into());
    let reason = |coalesced: &Coalesced, base: Option<&[u8]>| {
        coalesced.onto(base, &mut Vec::new()).unwrap_err().reason
    };

    let mut patched = Coalesced::new(fits(), at(1));
    assert_eq!(reason(&patched, None), Reason::MissingDocument);
    patched.then(misfits(), at(2));
    assert_eq!(reason(&patched, Some(&document())), Reason::Misfit(Mismatch::Missing));

    let mut deleted = Coalesced::new(Write::Delete, at(1));
    deleted.then(fits(), at(2));
    assert_eq!(deleted.defect, Some(Defect { at: at(2), reason: Reason::MissingDocument }));
    // Made right again, it stays a fact.
    deleted.then(Write::Insert(document().into()), at(3));
    assert_eq!(reason(&deleted, None), Reason::MissingDocument);

    let mut put = Coalesced::new(Write::Insert(document().into()), at(1));
    put.then(unknown(), at(2));
    assert!(matches!(reason(&put, None), Reason::Diff(_)));
}

#[test]
fn what_a_user_applies_need_not_fit() {
    let reapply = |diff: RawDocumentBuf| Write::Reapply {
        new: rawdoc! { "_id": 1.0 }.into_bytes().into(),
        diff: diff.into_bytes().into(),
    };
    let onto = |coalesced: &Coalesced, base: Option<RawDocumentBuf>| {
        let mut out = Vec::new();
        let base = base.map(RawDocumentBuf::into_bytes);
        assert_eq!(coalesced.onto(base.as_deref(), &mut out), Ok(Outcome::Document));
        RawDocumentBuf::from_bytes(out).unwrap()
    };
    let mut coalesced = Coalesced::new(reapply(rawdoc! { "i": { "a": 1 } }), at(1));
    coalesced.then(reapply(rawdoc! { "d": { "z": false }, "i": { "b": 1 } }), at(2));
    assert_eq!(onto(&coalesced, None), rawdoc! { "_id": 1.0, "a": 1, "b": 1 });
    assert_eq!(onto(&coalesced, Some(rawdoc! { "_id": 1, "z": 5 })), rawdoc! { "_id": 1, "a": 1, "b": 1 });
    let mut deleted = Coalesced::new(Write::Delete, at(1));
    deleted.then(reapply(rawdoc! { "u": { "a": 1 } }), at(2));
    assert_eq!(onto(&deleted, None), rawdoc! { "_id": 1.0, "a": 1 });
}

/// A write that is possible on a document, and what the document is then.
fn random_write(random: &mut Random, document: &mut Option<Vec<u8>>, id: i32) -> Write<'static> {
    let Some(before) = document else {
        let new = samples::random_document(random, id);
        *document = Some(new.clone());
        return Write::Insert(new.into());
    };
    match random.below(10) {
        0 => {
            *document = None;
            Write::Delete
        }
        1 => {
            let new = samples::random_document(random, id);
            *document = Some(new.clone());
            Write::Replace(new.into())
        }
        loose => {
            let loose = loose == 2;
            let diff = samples::random_diff(random, before, if loose { 20 } else { 0 });
            let mut after = Vec::new();
            diff::apply(before, &diff, &mut after).unwrap();
            *document = Some(after);
            if loose {
                let new = rawdoc! { "_id": id }.into_bytes();
                return Write::Reapply { new: new.into(), diff: diff.into() };
            }
            Write::Patch(diff.into())
        }
    }
}

fn key(id: i32) -> SortKey {
    SortKey::of_document(&samples::random_document(&mut Random::new(0), id)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn coalescing_comes_to_the_same_as_one_by_one(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let base = random.chance(70).then(|| samples::random_document(&mut random, 1));
        let mut model = base.clone();
        let mut coalesced = Coalesced::new(random_write(&mut random, &mut model, 1), at(0));
        for order in 1..random.below(12) as u64 {
            coalesced.then(random_write(&mut random, &mut model, 1), at(order));
        }
        let mut out = b"before".to_vec();
        let outcome = coalesced.onto(base.as_deref(), &mut out).unwrap();
        let ours = (outcome == Outcome::Document).then(|| out.split_off(6));
        prop_assert_eq!(ours, model);
        prop_assert_eq!(out, b"before");
    }

    /// Writes of several collections, in runs that are sorted, written and merged, fold as a map does.
    #[test]
    fn a_fold_comes_to_the_same_as_a_map(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut model: BTreeMap<(u8, SortKey), Vec<u8>> = BTreeMap::new();
        for _ in 0..random.below(40) {
            let (collection, id) = (random.below(2) as u8, random.below(60) as i32);
            model.insert((collection, key(id)), samples::random_document(&mut random, id));
        }
        let base = model.clone();
        let mut runs = vec![Vec::new(); 1 + random.below(5)];
        for order in 0..random.below(150) as u64 {
            let (collection, id) = (random.below(2) as u8, random.below(60) as i32);
            let place = (collection, key(id));
            let mut document = model.remove(&place);
            let write = random_write(&mut random, &mut document, id);
            document.map(|document| model.insert(place.clone(), document));
            let run = random.below(runs.len());
            runs[run].push(Change { collection: CollectionId([collection; 16]), key: place.1, position: at(order), write });
        }
        runs.iter_mut().for_each(|run| run.sort());
        let written = runs.iter().map(|run| {
            let mut bytes = Vec::new();
            run.iter().for_each(|change| push_record(&mut bytes, change));
            bytes
        }).collect::<Vec<_>>();
        let read = written.iter().map(|bytes| {
            let mut rest = bytes.as_slice();
            std::iter::from_fn(move || {
                let (change, after) = split_record(rest).unwrap()?;
                rest = after;
                Some(Ok::<_, Infallible>(Change { write: change.write.into_owned(), ..change }))
            })
        });
        let coalesced: Vec<_> = coalesce(merge(read)).map(Result::unwrap).collect();
        for collection in 0..2u8 {
            let of_base = |map: &BTreeMap<(u8, SortKey), Vec<u8>>| -> Vec<Vec<u8>> {
                map.iter().filter(|(place, _)| place.0 == collection).map(|(_, document)| document.clone()).collect()
            };
            let before = of_base(&base);
            let changes = coalesced.iter().filter(|change| change.0 == CollectionId([collection; 16]));
            let mut changes = changes.map(|(_, key, coalesced)| Ok((key.clone(), coalesced.clone())));
            let (mut after, mut seen_before) = (Vec::new(), Vec::new());
            fold(&mut Base::new(before.clone()), &mut changes, |_, folded| {
                after.extend(folded.after().map(<[u8]>::to_vec));
                match folded {
                    Folded::Kept(before) | Folded::Removed(before) | Folded::Changed { before, .. } => {
                        seen_before.push(before.to_vec());
                    }
                    Folded::Added(_) => {}
                }
                Ok(())
            }).unwrap();
            prop_assert_eq!(after, of_base(&model));
            prop_assert_eq!(seen_before, before);
        }
    }

    #[test]
    fn records_of_any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = split_record(&bytes);
    }
}

#[test]
fn a_base_out_of_order_is_refused() {
    let document = |id: i32| rawdoc! { "_id": id }.into_bytes();
    let mut none = std::iter::empty::<Result<(SortKey, Coalesced), Infallible>>();
    let mut base = Base::new(vec![document(1), document(1)]);
    assert_eq!(fold(&mut base, &mut none, |_, _| Ok(())), Err(FoldError::Unsorted("documents")));
    let change = || Ok((key(1), Coalesced::new(Write::Delete, at(1))));
    let mut twice = [change(), change()].into_iter();
    assert_eq!(fold(&mut Base::new(vec![]), &mut twice, |_, _| Ok(())), Err(FoldError::Unsorted("changes")));
}
