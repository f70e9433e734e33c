#![allow(clippy::unwrap_used)]
use bson::{RawDocumentBuf, rawdoc};
use proptest::prelude::*;

use super::*;
use crate::samples::{self, Random};

fn applied(document: &RawDocumentBuf, diff: &RawDocumentBuf) -> Result<(RawDocumentBuf, Fit), DiffError> {
    let mut out = b"before".to_vec();
    let fit = apply(document.as_bytes(), diff.as_bytes(), &mut out)?;
    assert!(out.starts_with(b"before"));
    Ok((RawDocumentBuf::from_bytes(out.split_off(6)).unwrap(), fit))
}

fn exactly(document: RawDocumentBuf, diff: RawDocumentBuf) -> RawDocumentBuf {
    let (after, fit) = applied(&document, &diff).unwrap();
    assert_eq!(fit, Fit::Exact, "{document:?} {diff:?}");
    after
}

#[test]
fn fields_keep_their_places_and_new_ones_are_appended() {
    let before = || rawdoc! { "_id": 1, "a": 1, "b": 2, "c": 3 };
    assert_eq!(
        exactly(before(), rawdoc! { "d": { "a": false }, "u": { "c": "x" }, "i": { "e": 5, "d": 4 } }),
        rawdoc! { "_id": 1, "b": 2, "c": "x", "e": 5, "d": 4 }
    );
    // Time series log new fields of a bucket as set ones.
    assert_eq!(
        exactly(before(), rawdoc! { "u": { "z": 1, "a": 2 }, "i": { "y": 3 } }),
        rawdoc! { "_id": 1, "a": 2, "b": 2, "c": 3, "z": 1, "y": 3 }
    );
    // A field that is inserted although it is there moves to the end.
    assert_eq!(exactly(before(), rawdoc! { "i": { "a": 9 } }), rawdoc! { "_id": 1, "b": 2, "c": 3, "a": 9 });
}

#[test]
fn inner_documents_and_arrays_are_changed_in_place() {
    let before = rawdoc! { "_id": 1, "a": { "x": [1, { "y": 1, "z": 2 }, 3] }, "": { "k": 1 } };
    let diff = rawdoc! {
        "s": { "u": { "k": 2 } },
        "sa": { "i": { "n": 1 }, "sx": { "a": true, "l": 2, "u0": "first", "s1": { "d": { "y": false } } } },
    };
    assert_eq!(
        exactly(before, diff),
        rawdoc! { "_id": 1, "a": { "x": ["first", { "z": 2 }], "n": 1 }, "": { "k": 2 } }
    );
}

#[test]
fn arrays_are_filled_up_with_nulls() {
    let before = || rawdoc! { "a": [1] };
    assert_eq!(
        exactly(before(), rawdoc! { "sa": { "a": true, "u3": 9 } }),
        rawdoc! { "a": [1, null, null, 9] }
    );
    assert_eq!(exactly(before(), rawdoc! { "sa": { "a": true, "l": 3 } }), rawdoc! { "a": [1, null, null] });
    assert_eq!(exactly(before(), rawdoc! { "sa": { "a": true, "l": 0 } }), rawdoc! { "a": [] });
}

#[test]
fn what_does_not_fit_is_applied_as_servers_do_and_told() {
    let before = || rawdoc! { "_id": 1, "a": 1, "b": { "x": 1 } };
    for (diff, after, mismatch) in [
        (rawdoc! { "d": { "z": false } }, before(), Mismatch::Missing),
        (rawdoc! { "sz": { "u": { "y": 1 } } }, before(), Mismatch::Missing),
        (
            rawdoc! { "sa": { "u": { "y": 1 } } },
            rawdoc! { "_id": 1, "a": null, "b": { "x": 1 } },
            Mismatch::WrongType,
        ),
        (
            rawdoc! { "sb": { "a": true, "u0": 1 } },
            rawdoc! { "_id": 1, "a": 1, "b": null },
            Mismatch::WrongType,
        ),
    ] {
        assert_eq!(applied(&before(), &diff).unwrap(), (after, Fit::Loose(mismatch)));
    }
}

#[test]
fn repeated_names_are_kept_where_they_are_not_changed() {
    let mut before = rawdoc! { "_id": 1 };
    for value in [1, 2] {
        before.append(bson::raw::cstr!("a"), value);
    }
    let mut after = before.clone();
    after.append(bson::raw::cstr!("b"), 1);
    assert_eq!(exactly(before.clone(), rawdoc! { "i": { "b": 1 } }), after);
    let (after, fit) = applied(&before, &rawdoc! { "d": { "a": false } }).unwrap();
    assert_eq!((after, fit), (rawdoc! { "_id": 1 }, Fit::Loose(Mismatch::RepeatedName)));
}

#[test]
fn what_is_not_understood_is_refused() {
    let before = rawdoc! { "_id": 1, "a": [1, 2], "b": {} };
    for diff in [
        rawdoc! {},
        rawdoc! { "b": { "a": 1 } },
        rawdoc! { "u": { "a": 1 }, "d": { "b": false } },
        rawdoc! { "u": { "a": 1 }, "i": { "a": 1 } },
        rawdoc! { "u": 1 },
        rawdoc! { "update": { "a": 1 } },
        rawdoc! { "sa": {} },
        rawdoc! { "sa": 1 },
        rawdoc! { "sa": { "a": false, "u0": 1 } },
        rawdoc! { "sa": { "a": true, "l": -1 } },
        rawdoc! { "sa": { "a": true, "l": 1i64 } },
        rawdoc! { "sa": { "a": true, "u1": 1, "u0": 1 } },
        rawdoc! { "sa": { "a": true, "u01": 1 } },
        rawdoc! { "sa": { "a": true, "l": 1, "u1": 1 } },
        rawdoc! { "sa": { "a": true, "b0": 1 } },
        rawdoc! { "sa": { "a": true, "u": 1 } },
        rawdoc! { "sb": { "u": { "x": 1 }, "d": { "y": false } } },
    ] {
        assert!(matches!(applied(&before, &diff), Err(DiffError::NotUnderstood(_))), "{diff:?}");
    }
    let huge = rawdoc! { "sa": { "a": true, "u99999999": 1 } };
    assert_eq!(applied(&before, &huge), Err(DiffError::TooLarge));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_diff_from_one_document_to_another_leads_there(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let before = samples::random_document(&mut random, 1);
        for after in [samples::edited(&mut random, &before), samples::random_document(&mut random, 1)] {
            let Some(diff) = samples::diff_between(&before, &after) else { continue };
            let mut out = Vec::new();
            prop_assert_eq!(apply(&before, &diff, &mut out), Ok(Fit::Exact));
            prop_assert_eq!(out, after);
        }
    }

    #[test]
    fn any_diff_of_the_right_form_gives_a_document(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let before = samples::random_document(&mut random, 1);
        let fitting = samples::random_diff(&mut random, &before, 0);
        let mut out = Vec::new();
        prop_assert_eq!(apply(&before, &fitting, &mut out), Ok(Fit::Exact));
        let loose = samples::random_diff(&mut random, &before, 20);
        out.clear();
        prop_assert!(apply(&before, &loose, &mut out).is_ok());
        prop_assert!(bson::RawDocumentBuf::from_bytes(out).is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic(seed in any::<u64>(), cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut random = Random::new(seed);
        let before = samples::random_document(&mut random, 1);
        let mut diff = samples::random_diff(&mut random, &before, 20);
        for (at, byte) in cuts {
            let at = at.index(diff.len());
            diff[at] = byte;
        }
        let mut out = b"kept".to_vec();
        if apply(&before, &diff, &mut out).is_err() {
            prop_assert_eq!(&out, b"kept");
        }
        let _ = apply(&diff, &before, &mut out);
    }
}
