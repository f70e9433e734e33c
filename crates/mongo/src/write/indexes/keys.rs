//! How many keys the indexes of a collection have, estimated from some of its documents.
//!
//! Sorting keys is most of the work of a build, and an index on arrays may have many times as many as another one of the
//! same collection. No result depends on it, only how the work is shared out.

use std::collections::BTreeMap;

use history::raw::{Element, documents, elements, field, kind};

use super::comes_with_the_collection;

/// Documents that are looked at, at most.
const SAMPLE_DOCUMENTS: usize = 1_000;
/// Bytes of them, but for the first.
const SAMPLE_BYTES: usize = 1 << 20;
/// Bytes of text for each word of it: text indexes have a key for each.
const WORD_BYTES: u64 = 8;
/// Documents within documents that are looked at, deeper than any that servers take.
const NESTED_MAX: usize = 200;

/// Keys of indexes in a sample of documents, by the names of these. With no sample each has as many as every other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyCounts(BTreeMap<String, u64>);

impl KeyCounts {
    /// Counts the keys that the first of these documents, which lie back to back, have in indexes of these specifications.
    /// What cannot be read counts for nothing.
    pub fn of(specs: &[Vec<u8>], back_to_back: &[u8]) -> Self {
        let mut bytes = 0;
        let sample =
            documents(back_to_back).map_while(Result::ok).take(SAMPLE_DOCUMENTS).take_while(|document| {
                let is_within = bytes < SAMPLE_BYTES;
                bytes += document.len();
                is_within
            });
        let sample: Vec<_> = sample.collect();
        let count = |spec: &Vec<u8>| {
            let name = name(spec)?.to_owned();
            Some((name, sample.iter().map(|document| keys(spec, document)).sum()))
        };
        Self(specs.iter().filter_map(count).collect())
    }

    /// How many keys the index of this name has in the sample; at least one.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0).max(1)
    }

    /// How many builds, and no more than so many, the indexes of these specifications are to be shared out to.
    pub fn builds(&self, specs: &[Vec<u8>], builds_max: usize) -> usize {
        let specs = specs.iter().filter(|spec| !comes_with_the_collection(spec));
        let counts: Vec<_> = specs.map(|spec| self.get(name(spec).unwrap_or_default())).collect();
        shares(&counts, builds_max).len()
    }
}

fn name(spec: &[u8]) -> Option<&str> {
    field(spec, "name").ok().flatten()?.text()
}

/// Shares indexes with so many keys out to builds, neighbours to one: how many indexes each build makes. They are as few
/// as can be without a build that has more keys than the index with the most, since each reads the whole collection; or
/// `builds_max`, as even as can be, where these would be more.
pub(super) fn shares(counts: &[u64], builds_max: usize) -> Vec<usize> {
    let all = counts.iter().fold(0_u64, |all, &count| all.saturating_add(count));
    let (mut least, mut most) = (counts.iter().copied().max().unwrap_or(0), all);
    while least < most {
        let middle = least + (most - least) / 2;
        if filled(counts, middle).len() <= builds_max.max(1) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    filled(counts, most)
}

/// One build after another, each with as many indexes as have no more than `most` keys together.
fn filled(counts: &[u64], most: u64) -> Vec<usize> {
    let mut shares: Vec<usize> = Vec::new();
    let mut keys = 0_u64;
    for &count in counts {
        keys = keys.saturating_add(count);
        match shares.last_mut() {
            Some(last) if keys <= most => *last += 1,
            _ => {
                shares.push(1);
                keys = count;
            }
        }
    }
    shares
}

/// Keys that a document has in an index of this specification: those of the field that has the most.
fn keys(spec: &[u8], document: &[u8]) -> u64 {
    let Ok(Some(pattern)) = field(spec, "key") else { return 1 };
    let of_field = |part: Element<'_>| {
        if part.name == b"_fts" {
            return words(spec, document);
        }
        if part.text() == Some("2d") {
            return 1;
        }
        let mut count = 0;
        match part.name.strip_suffix(b"$**") {
            Some(b"") => for_each_leaf(document, NESTED_MAX, &mut |_| count += 1),
            Some(above) => {
                let path = above.strip_suffix(b".").unwrap_or(above);
                for_each_at(document, path, NESTED_MAX, &mut |value| match value.kind {
                    kind::DOCUMENT | kind::ARRAY => {
                        for_each_leaf(value.value, NESTED_MAX, &mut |_| count += 1);
                    }
                    _ => count += 1,
                });
            }
            None => for_each_at(document, part.name, NESTED_MAX, &mut |_| count += 1),
        }
        count
    };
    elements(pattern.value).map_while(Result::ok).map(of_field).max().unwrap_or(0).max(1)
}

/// Words of the text that a text index is on.
fn words(spec: &[u8], document: &[u8]) -> u64 {
    let Ok(Some(weights)) = field(spec, "weights") else { return 1 };
    let mut count = 0;
    let mut see = |value: Element<'_>| {
        if value.kind == kind::STRING {
            count += value.value.len() as u64 / WORD_BYTES;
        }
    };
    for on in elements(weights.value).map_while(Result::ok) {
        match on.name {
            b"$**" => for_each_leaf(document, NESTED_MAX, &mut see),
            path => for_each_at(document, path, NESTED_MAX, &mut see),
        }
    }
    count
}

/// Shows the values at a dotted path: each element of an array on the way, or at its end, by itself.
fn for_each_at<'a>(document: &'a [u8], path: &[u8], depth: usize, see: &mut dyn FnMut(Element<'a>)) {
    let dot = path.iter().position(|&byte| byte == b'.');
    let (name, rest) = dot.map_or((path, None), |dot| (&path[..dot], Some(&path[dot + 1..])));
    let value = elements(document).map_while(Result::ok).find(|element| element.name == name);
    let (Some(value), true) = (value, depth > 0) else { return };
    match (value.kind, rest) {
        (kind::DOCUMENT, Some(rest)) => for_each_at(value.value, rest, depth - 1, see),
        (kind::ARRAY, rest) => {
            for element in elements(value.value).map_while(Result::ok) {
                match (element.kind, rest) {
                    (kind::DOCUMENT, Some(rest)) => for_each_at(element.value, rest, depth - 1, see),
                    (_, Some(_)) => {}
                    (_, None) => see(element),
                }
            }
        }
        (_, Some(_)) => {}
        (_, None) => see(value),
    }
}

/// Shows the values that are no documents or arrays themselves, at any depth.
fn for_each_leaf<'a>(document: &'a [u8], depth: usize, see: &mut dyn FnMut(Element<'a>)) {
    for element in elements(document).map_while(Result::ok) {
        match element.kind {
            kind::DOCUMENT | kind::ARRAY if depth > 0 => for_each_leaf(element.value, depth - 1, see),
            _ => see(element),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Document, RawDocumentBuf, doc};
    use proptest::prelude::*;

    use super::*;

    fn raw(document: &Document) -> Vec<u8> {
        RawDocumentBuf::try_from(document).unwrap().into_bytes()
    }

    fn count(pattern: Document, documents: &[Document]) -> u64 {
        let spec = raw(&doc! { "v": 2, "key": pattern, "name": "i" });
        KeyCounts::of(&[spec], &documents.iter().flat_map(raw).collect::<Vec<_>>()).get("i")
    }

    #[test]
    fn each_element_of_an_array_is_a_key() {
        let order = doc! { "_id": 1, "a": { "b": [1, 2, 3] }, "items": [{ "sku": "x", "t": [1, 2] }, { "sku": "y", "t": [3] }, 7], "none": [] };
        let one = |pattern| count(pattern, std::slice::from_ref(&order));
        assert_eq!(one(doc! { "_id": 1 }), 1);
        assert_eq!(one(doc! { "missing.x": 1 }), 1);
        assert_eq!(one(doc! { "a": 1 }), 1);
        assert_eq!(one(doc! { "a.b": 1 }), 3);
        assert_eq!(one(doc! { "items": 1 }), 3);
        assert_eq!(one(doc! { "items.sku": 1, "_id": -1 }), 2);
        assert_eq!(one(doc! { "_id": 1, "items.t": 1 }), 3);
        assert_eq!(one(doc! { "a.b": "2d" }), 1);
        assert_eq!(one(doc! { "none": 1 }), 1);
        assert_eq!(one(doc! { "$**": 1 }), 10);
        assert_eq!(one(doc! { "a.$**": 1 }), 3);
        assert_eq!(one(doc! { "items.$**": 1 }), 6);
        assert_eq!(count(doc! { "items.sku": 1 }, &[order.clone(), order.clone(), doc! { "_id": 2 }]), 5);
        assert_eq!(count(doc! { "a": 1 }, &[]), 1);
    }

    #[test]
    fn a_text_index_has_the_words_of_its_fields() {
        let spec = |weights| {
            let key = doc! { "_fts": "text", "_ftsx": 1 };
            raw(&doc! { "v": 2, "key": key, "name": "i", "weights": weights, "default_language": "english" })
        };
        let of = |weights| {
            let document = doc! { "_id": 1, "title": "x".repeat(80), "body": "y".repeat(800), "n": [1, 2] };
            KeyCounts::of(&[spec(weights)], &raw(&document)).get("i")
        };
        assert_eq!(of(doc! { "title": 1 }), 10);
        assert_eq!(of(doc! { "title": 1, "body": 2 }), 110);
        assert_eq!(of(doc! { "$**": 1 }), 110);
        assert_eq!(of(doc! { "n": 1 }), 1);
    }

    #[test]
    fn no_more_is_looked_at_than_a_sample() {
        let spec = raw(&doc! { "v": 2, "key": { "a": 1 }, "name": "i" });
        let small = raw(&doc! { "a": 1 }).repeat(SAMPLE_DOCUMENTS * 2);
        assert_eq!(KeyCounts::of(std::slice::from_ref(&spec), &small).get("i"), SAMPLE_DOCUMENTS as u64);
        let large = raw(&doc! { "a": "x".repeat(SAMPLE_BYTES) }).repeat(3);
        assert_eq!(KeyCounts::of(&[spec], &large).get("i"), 1);
    }

    #[test]
    fn indexes_that_come_with_a_collection_are_not_built() {
        let spec = |name: &str| raw(&doc! { "v": 2, "key": { name: 1 }, "name": format!("{name}_1") });
        let id = raw(&doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" });
        let clustered =
            raw(&doc! { "v": 2, "key": { "_id": 1 }, "name": "c", "unique": true, "clustered": true });
        assert_eq!(KeyCounts::default().builds(&[id, clustered, spec("a"), spec("b")], 3), 2);
        assert_eq!(KeyCounts::default().builds(&[], 3), 0);
    }

    #[test]
    fn what_cannot_be_read_counts_as_little() {
        let spec = raw(&doc! { "v": 2, "key": { "a": 1 }, "name": "i" });
        assert_eq!(KeyCounts::of(&[spec], b"\x05\0\0\0\x09").get("i"), 1);
        assert_eq!(KeyCounts::of(&[b"garbage".to_vec()], b""), KeyCounts::default());
    }

    #[test]
    fn the_heaviest_index_has_a_build_for_itself_and_the_others_share() {
        assert_eq!(shares(&[1, 1, 3], 3), [2, 1]);
        assert_eq!(shares(&[1, 1, 1], 3), [1, 1, 1]);
        assert_eq!(shares(&[3, 1, 1, 1, 1], 3), [1, 3, 1]);
        assert_eq!(shares(&[1; 9], 3), [3, 3, 3]);
        assert_eq!(shares(&[1; 5], 1), [5]);
        assert_eq!(shares(&[5], 0), [1]);
        assert!(shares(&[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn every_index_is_built_once_by_few_enough_builds(
            counts in proptest::collection::vec(prop_oneof![1_u64..10, 1_u64..=u64::MAX / 100], 0..64),
            builds_max in 0_usize..5,
        ) {
            let shared = shares(&counts, builds_max);
            prop_assert_eq!(shared.iter().sum::<usize>(), counts.len());
            prop_assert!(shared.iter().all(|&indexes| indexes > 0));
            prop_assert!(shared.len() <= builds_max.max(1));
            let heaviest = counts.iter().copied().max().unwrap_or(0);
            let mut rest = counts.as_slice();
            if filled(&counts, heaviest).len() <= builds_max {
                for indexes in shared {
                    let (share, after) = rest.split_at(indexes);
                    prop_assert!(share.iter().sum::<u64>() <= heaviest);
                    rest = after;
                }
            }
        }
    }
}
