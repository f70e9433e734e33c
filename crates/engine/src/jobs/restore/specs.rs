//! Index specifications as they have to be said to the server, where that is not as it shows them.
//!
//! `listIndexes` leaves the simple collation out. In a collection with a collation of its own, an index without one
//! would take over the collection's: it has to be said that it is simple. The server then shows it as before.

use std::borrow::Cow;

use bson::rawdoc;
use history::{Malformed, raw};
use model::IndexStrategy;
use mongo::index_spec::is_clustered;

const DOCUMENT: u8 = 0x03;
/// Indexes of the first version cannot have a collation, nor say that they have none.
const FIRST_VERSION: [u8; 4] = 1_i32.to_le_bytes();

/// The specifications of a collection's indexes, to be built.
///
/// # Errors
/// [`Malformed`] when they are no BSON.
pub(crate) fn to_build<'a>(options: &[u8], specs: &'a [Vec<u8>]) -> Result<Cow<'a, [Vec<u8>]>, Malformed> {
    if raw::field(options, "collation")?.is_none() {
        return Ok(Cow::Borrowed(specs));
    }
    specs.iter().map(|spec| if says_enough(spec)? { Ok(spec.clone()) } else { simple(spec) }).collect()
}

/// Those of a collection's indexes that are wanted. The one on `_id` comes with the collection, and so does the one by which a
/// collection is clustered.
pub(crate) fn of_strategy(strategy: IndexStrategy, mut specs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let has = |spec: &[u8], option| !matches!(raw::field(spec, option), Ok(None));
    match strategy {
        IndexStrategy::All => {}
        IndexStrategy::None => specs.retain(|spec| is_id(spec) || is_clustered(spec)),
        IndexStrategy::AllExceptTtl => {
            specs.retain(|spec| is_clustered(spec) || !has(spec, "expireAfterSeconds"))
        }
    }
    specs
}

fn is_id(spec: &[u8]) -> bool {
    matches!(raw::field(spec, "name"), Ok(Some(name)) if name.value == ID_NAME)
}

/// The name of an index.
pub(crate) fn name(spec: &[u8]) -> Option<&str> {
    raw::field(spec, "name").ok().flatten()?.text()
}

/// The name of the index that every collection is created with, as BSON has it.
const ID_NAME: &[u8] = b"\x05\0\0\0_id_\0";

/// Whether there is any index beside the one on `_id`.
pub(crate) fn any_beside_id(specs: &[Vec<u8>]) -> bool {
    specs.iter().any(|spec| !is_id(spec))
}

/// Whether any index beside the one on `_id` keeps two documents from having the same key, or may soon. What cannot be read
/// counts as one that does.
pub(crate) fn any_unique(specs: &[Vec<u8>]) -> bool {
    let is_unset = |spec: &Vec<u8>, option| {
        let value = raw::field(spec, option).map(|found| found.map(|found| found.value));
        value.is_ok_and(|value| value.is_none_or(|value| value.iter().all(|&byte| byte == 0)))
    };
    specs.iter().any(|spec| !(is_unset(spec, "unique") && is_unset(spec, "prepareUnique")))
}

fn says_enough(spec: &[u8]) -> Result<bool, Malformed> {
    let first_version = raw::field(spec, "v")?.is_some_and(|version| version.value == FIRST_VERSION);
    Ok(first_version || raw::field(spec, "collation")?.is_some())
}

/// The specification with the simple collation at its end.
fn simple(spec: &[u8]) -> Result<Vec<u8>, Malformed> {
    let collation = rawdoc! {"locale": "simple"};
    let mut out = spec[..spec.len().saturating_sub(1)].to_vec();
    out.push(DOCUMENT);
    out.extend_from_slice(b"collation\0");
    out.extend_from_slice(collation.as_bytes());
    out.push(0);
    let length = u32::try_from(out.len()).map_err(|_| Malformed("document longer than 4 GB"))?;
    out[..4].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn unique_keys_are_seen() {
        let specs = |more: bson::RawDocumentBuf| {
            let plain = rawdoc! {"v": 2, "key": {"a": 1}, "name": "a_1", "unique": false};
            vec![
                rawdoc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}.into_bytes(),
                plain.into_bytes(),
                more.into_bytes(),
            ]
        };
        assert!(!any_unique(&specs(rawdoc! {"v": 2, "key": {"b": 1}, "name": "b_1"})));
        assert!(any_unique(&specs(rawdoc! {"v": 2, "key": {"b": 1}, "name": "b_1", "unique": true})));
        assert!(any_unique(&specs(rawdoc! {"v": 2, "key": {"b": 1}, "name": "b_1", "unique": 1.0})));
        assert!(any_unique(&specs(rawdoc! {"v": 2, "key": {"b": 1}, "name": "b_1", "prepareUnique": true})));
    }

    #[test]
    fn the_id_index_comes_with_the_collection() {
        let id = rawdoc! {"v": 2_i32, "key": {"_id": 1_i32}, "name": "_id_"}.into_bytes();
        let other = rawdoc! {"v": 2_i32, "key": {"_id": "hashed"}, "name": "_id_hashed"}.into_bytes();
        assert!(!any_beside_id(&[]) && !any_beside_id(std::slice::from_ref(&id)));
        assert!(any_beside_id(&[id, other]));
    }

    #[test]
    fn a_strategy_keeps_what_a_collection_cannot_be_without() {
        let id = rawdoc! {"v": 2_i32, "key": {"_id": 1_i32}, "name": "_id_"}.into_bytes();
        let plain = rawdoc! {"v": 2_i32, "key": {"a": 1_i32}, "name": "expireAfterSeconds"}.into_bytes();
        let expiring =
            rawdoc! {"v": 2_i32, "key": {"t": 1_i32}, "name": "t", "expireAfterSeconds": 0_i32}.into_bytes();
        let clustered =
            rawdoc! {"v": 2_i32, "key": {"_id": 1_i32}, "name": "mine", "unique": true, "expireAfterSeconds": 5_i32, "clustered": true}
                .into_bytes();
        let of = |strategy, specs: &[&Vec<u8>]| {
            of_strategy(strategy, specs.iter().map(|spec| (*spec).clone()).collect())
        };
        let all = [&id, &plain, &expiring, &clustered];
        assert_eq!(of(IndexStrategy::All, &all).len(), 4);
        assert_eq!(of(IndexStrategy::None, &all), [id.clone(), clustered.clone()]);
        assert_eq!(of(IndexStrategy::AllExceptTtl, &all), [id, plain, clustered]);
    }

    #[test]
    fn only_an_index_that_would_inherit_a_collation_is_changed() {
        let plain = rawdoc! {"v": 2_i32, "key": {"a": 1_i32}, "name": "a_1"}.into_bytes();
        let collated = rawdoc! {"v": 2_i32, "key": {"a": 1_i32}, "name": "a", "collation": {"locale": "de"}}
            .into_bytes();
        let old = rawdoc! {"v": 1_i32, "key": {"a": 1_i32}, "name": "b"}.into_bytes();
        let specs = [plain.clone(), collated.clone(), old.clone()];
        assert_eq!(*to_build(rawdoc! {"capped": true}.as_bytes(), &specs).unwrap(), specs);
        let changed = to_build(rawdoc! {"collation": {"locale": "de"}}.as_bytes(), &specs).unwrap();
        let said =
            rawdoc! {"v": 2_i32, "key": {"a": 1_i32}, "name": "a_1", "collation": {"locale": "simple"}}
                .into_bytes();
        assert_eq!(*changed, [said, collated, old]);
    }
}
