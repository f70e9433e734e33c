//! What has to be done to the indexes of a collection that stays. Pure.

use std::collections::BTreeMap;

use super::{comes_with_the_collection, raw, ttl};
use crate::{Result, write::collections::OUTDATED_INDEX_FIELDS};

/// The way from the indexes that are there to those that are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// Names of indexes that are not wanted, or are wanted otherwise.
    pub drop: Vec<String>,
    /// Specifications that have to be built.
    pub build: Vec<Vec<u8>>,
    /// Names of indexes that differ by their lifetime alone.
    pub lifetimes: Vec<String>,
}

/// Compares specifications by name; those that come with every collection are left out.
///
/// # Errors
/// When a specification is no BSON.
pub fn repair(wanted: &[Vec<u8>], found: &[Vec<u8>]) -> Result<Repair> {
    let mut repair = Repair::default();
    let mut there = by_name(found);
    for (name, want) in by_name(wanted) {
        match there.remove(&name) {
            Some(is) if comparable(is, &[])? == comparable(want, &[])? => {}
            Some(is) if has_lifetime(is)? && has_lifetime(want)? && same_but_for_lifetime(is, want)? => {
                repair.lifetimes.push(name);
            }
            other => {
                repair.drop.extend(other.map(|_| name));
                repair.build.push(want.to_vec());
            }
        }
    }
    repair.drop.extend(there.into_keys());
    Ok(repair)
}

fn by_name(specs: &[Vec<u8>]) -> BTreeMap<String, &[u8]> {
    let specs = specs.iter().filter(|spec| !comes_with_the_collection(spec));
    specs.map(|spec| (raw::text_field(spec, "name").unwrap_or_default(), spec.as_slice())).collect()
}

fn comparable(spec: &[u8], without: &[&str]) -> Result<Vec<u8>> {
    raw::without(spec, &[&OUTDATED_INDEX_FIELDS, without].concat())
}

fn has_lifetime(spec: &[u8]) -> Result<bool> {
    Ok(ttl::lifetime(spec)?.is_some())
}

fn same_but_for_lifetime(one: &[u8], other: &[u8]) -> Result<bool> {
    Ok(comparable(one, &[ttl::FIELD])? == comparable(other, &[ttl::FIELD])?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn only_what_differs_is_touched() {
        let id = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }.into_bytes();
        let same = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a" }.into_bytes();
        let outdated = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a", "ns": "x.y" }.into_bytes();
        let unique = rawdoc! { "v": 2, "key": { "b": 1 }, "name": "b", "unique": true }.into_bytes();
        let not_unique = rawdoc! { "v": 2, "key": { "b": 1 }, "name": "b" }.into_bytes();
        let missing = rawdoc! { "v": 2, "key": { "c": 1 }, "name": "c" }.into_bytes();
        let new = rawdoc! { "v": 2, "key": { "d": 1 }, "name": "d", "unique": true }.into_bytes();
        let ttl = |seconds: i32| {
            rawdoc! { "v": 2, "key": { "t": 1 }, "name": "t", "expireAfterSeconds": seconds }.into_bytes()
        };
        let no_ttl = rawdoc! { "v": 2, "key": { "t": 1 }, "name": "t" }.into_bytes();
        let wanted = [id.clone(), outdated, unique.clone(), missing.clone(), ttl(5)];
        let found = [id.clone(), same, not_unique, new, ttl(6)];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = repair(&wanted, &found).unwrap();
        assert_eq!(found.drop, names(&["b", "d"]));
        assert_eq!(found.build, [unique, missing]);
        assert_eq!(found.lifetimes, names(&["t"]));
        assert_eq!(repair(&wanted, &wanted).unwrap(), Repair::default());
        let became_plain = repair(&[ttl(5)], &[no_ttl]).unwrap();
        assert_eq!((became_plain.drop, became_plain.build), (names(&["t"]), vec![ttl(5)]));
    }
}
