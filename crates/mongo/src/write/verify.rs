//! Reading back what was written, and comparing it with what should be there.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bson::RawDocumentBuf;
use history::{content::ContentSum, raw::elements};

use super::{
    collections::{OUTDATED_INDEX_FIELDS, UNSAID_OPTIONS},
    raw::{self, RawBuilder},
    ttl::ParkedTtl,
};
use crate::{
    ClusterTime, Deployment, Namespace, Result, index_spec::is_clustered, read::Cursor, wire::Connection,
};

/// Counts and hashes all documents of a collection: at a cluster time, or as a majority knows them now. What was
/// written and is not behind a [`super::Barrier`] yet may be missing from the latter.
///
/// # Errors
/// The server's, sorted. Capped collections cannot be read at a time (`SnapshotUnavailable`).
pub async fn content(
    deployment: &Deployment,
    namespace: &Namespace,
    at: Option<ClusterTime>,
) -> Result<ContentSum> {
    content_on(&mut deployment.primary_wire().await?, namespace, at).await
}

/// [`content`], on a connection that is there already.
///
/// # Errors
/// As [`content`].
pub async fn content_on(
    connection: &mut Connection,
    namespace: &Namespace,
    at: Option<ClusterTime>,
) -> Result<ContentSum> {
    let mut sum = ContentSum::default();
    let find = find(namespace, at, Direction::Backward)?;
    for_each_found(connection, namespace, find, |document| sum.add(document)).await?;
    Ok(sum)
}

/// Shows every document of a collection, in natural order.
pub(crate) async fn for_each_document(
    connection: &mut Connection,
    namespace: &Namespace,
    see: impl FnMut(&[u8]),
) -> Result<()> {
    for_each_found(connection, namespace, find(namespace, None, Direction::Forward)?, see).await
}

async fn for_each_found(
    connection: &mut Connection,
    namespace: &Namespace,
    find: RawDocumentBuf,
    mut see: impl FnMut(&[u8]),
) -> Result<()> {
    let mut cursor = Cursor::open(connection, namespace, find, None).await?;
    while let Some(batch) = cursor.next().await? {
        batch.documents().for_each(&mut see);
        cursor.recycle(batch);
    }
    Ok(())
}

/// A hash that depends on the order of the documents, for capped collections, whose order is data.
#[derive(Clone)]
pub struct SequenceHash(digest::Context);

impl std::fmt::Debug for SequenceHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SequenceHash(..)")
    }
}

impl Default for SequenceHash {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl SequenceHash {
    /// Adds the next document, or several back to back. Documents know their length, so no two sequences are the same
    /// bytes.
    pub fn add(&mut self, documents: &[u8]) {
        self.0.update(documents);
    }

    /// The hash as hexadecimal digits.
    pub fn finish(self) -> String {
        hex::encode(self.0.finish())
    }
}

/// The hash of all documents of a collection in natural order, as a majority knows them now.
///
/// # Errors
/// The server's, sorted.
pub async fn sequence(deployment: &Deployment, namespace: &Namespace) -> Result<String> {
    let mut hash = SequenceHash::default();
    let mut connection = deployment.primary_wire().await?;
    for_each_document(&mut connection, namespace, |document| hash.add(document)).await?;
    Ok(hash.finish())
}

/// Which way a collection is read.
#[derive(Debug, Clone, Copy)]
enum Direction {
    /// In natural order.
    Forward,
    /// From its end: what was written last is the likelier still in the server's cache. Measured where the kernel's page cache has
    /// the rest.
    Backward,
}

fn find(namespace: &Namespace, at: Option<ClusterTime>, direction: Direction) -> Result<RawDocumentBuf> {
    let natural = match direction {
        Direction::Forward => 1,
        Direction::Backward => -1,
    };
    let concern = match at {
        None => RawBuilder::new().text("level", "majority"),
        Some(at) => RawBuilder::new().text("level", "snapshot").timestamp("atClusterTime", at),
    };
    RawBuilder::new()
        .text("find", &namespace.collection)
        .document("hint", &RawBuilder::new().int32("$natural", natural).finish())
        .document("readConcern", &concern.finish())
        .text("$db", &namespace.db)
        .command()
}

/// What a collection is beside its documents, as `listCollections` and `listIndexes` show it. Identities (UUIDs) are
/// no part of it: a restored collection has a new one.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// `options`, raw.
    pub options: &'a [u8],
    /// `idIndex`, raw.
    pub id_index: Option<&'a [u8]>,
    /// Index specifications, raw.
    pub indexes: &'a [Vec<u8>],
}

/// In which ways `found` is not what was `expected`, in words; lifetimes that are `parked` may differ. Empty when all
/// is well.
pub fn differences(expected: &Shape<'_>, found: &Shape<'_>, parked: &[ParkedTtl]) -> Vec<String> {
    let option_parked = parked.iter().any(|ttl| ttl.index.is_none());
    let mut differences = Vec::new();
    compare("option", expected.options, found.options, option_parked, &mut differences);
    match (expected.id_index, found.id_index) {
        (Some(expected), Some(found)) => compare("_id index field", expected, found, false, &mut differences),
        (None, None) => {}
        (Some(_), None) => differences.push("the _id index is missing".to_owned()),
        (None, Some(_)) => differences.push("there is an _id index that should not be there".to_owned()),
    }
    let (expected, found) = (by_name(expected.indexes), by_name(found.indexes));
    for (name, spec) in &expected {
        // Manifests of before have the lifetime of clustered collections here too.
        let index_parked = is_clustered(spec) || parked.iter().any(|ttl| ttl.index.as_ref() == Some(name));
        match found.get(name) {
            Some(other) => {
                compare(&format!("index {name}, field"), spec, other, index_parked, &mut differences)
            }
            None => differences.push(format!("index {name} is missing")),
        }
    }
    differences.extend(
        found
            .keys()
            .filter(|name| !expected.contains_key(*name))
            .map(|name| format!("index {name} should not be there")),
    );
    differences
}

fn by_name(specs: &[Vec<u8>]) -> BTreeMap<String, &[u8]> {
    specs.iter().map(|spec| (raw::text_field(spec, "name").unwrap_or_default(), spec.as_slice())).collect()
}

/// Compares byte for byte, and says which fields differ when they do.
fn compare(what: &str, expected: &[u8], found: &[u8], lifetime_parked: bool, differences: &mut Vec<String>) {
    let mut ignored = [OUTDATED_INDEX_FIELDS, UNSAID_OPTIONS].concat();
    if lifetime_parked {
        ignored.push("expireAfterSeconds");
    }
    let (Ok(expected), Ok(found)) = (raw::without(expected, &ignored), raw::without(found, &ignored)) else {
        differences.push(format!("{what}s are not BSON"));
        return;
    };
    if expected == found {
        return;
    }
    let (expected, found) = (fields(&expected), fields(&found));
    let before = differences.len();
    for (name, value) in &expected {
        match found.get(name) {
            None => differences.push(format!("{what} {name} is missing")),
            Some(other) if other != value => differences.push(format!("{what} {name} differs")),
            Some(_) => {}
        }
    }
    differences.extend(
        found
            .keys()
            .filter(|name| !expected.contains_key(*name))
            .map(|name| format!("{what} {name} should not be there")),
    );
    if differences.len() == before {
        differences.push(format!("{what}s come in another order"));
    }
}

fn fields(document: &[u8]) -> BTreeMap<String, (u8, Vec<u8>)> {
    elements(document)
        .map_while(Result::ok)
        .map(|element| {
            (String::from_utf8_lossy(element.name).into_owned(), (element.kind, element.value.to_vec()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    fn parked(index: Option<&str>) -> ParkedTtl {
        ParkedTtl {
            namespace: Namespace::new("app", "x"),
            index: index.map(str::to_owned),
            field: None,
            expire_after_seconds: 5,
        }
    }

    #[test]
    fn equal_shapes_have_no_differences_whatever_the_order_of_indexes() {
        let options = rawdoc! { "validator": { "a": 1 } };
        let one = rawdoc! { "v": 2, "key": { "a": 1 }, "name": "a" }.into_bytes();
        let two = rawdoc! { "v": 2, "key": { "b": 1 }, "name": "b", "ns": "x.y" }.into_bytes();
        let two_without = rawdoc! { "v": 2, "key": { "b": 1 }, "name": "b" }.into_bytes();
        let expected = Shape { options: options.as_bytes(), id_index: None, indexes: &[one.clone(), two] };
        let found = Shape { options: options.as_bytes(), id_index: None, indexes: &[two_without, one] };
        assert!(differences(&expected, &found, &[]).is_empty());
    }

    #[test]
    fn every_kind_of_difference_is_said() {
        let id = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        let expected_options = rawdoc! { "a": 1, "b": 1, "c": 1 };
        let found_options = rawdoc! { "a": 2, "c": 1, "d": 1 };
        let gone = rawdoc! { "name": "gone" }.into_bytes();
        let swapped = rawdoc! { "key": { "x": 1 }, "name": "s" }.into_bytes();
        let swapped_found = rawdoc! { "name": "s", "key": { "x": 1 } }.into_bytes();
        let new = rawdoc! { "name": "new" }.into_bytes();
        let expected = Shape {
            options: expected_options.as_bytes(),
            id_index: Some(id.as_bytes()),
            indexes: &[gone, swapped],
        };
        let found =
            Shape { options: found_options.as_bytes(), id_index: None, indexes: &[swapped_found, new] };
        assert_eq!(
            differences(&expected, &found, &[]),
            [
                "option a differs",
                "option b is missing",
                "option d should not be there",
                "the _id index is missing",
                "index gone is missing",
                "index s, fields come in another order",
                "index new should not be there",
            ]
        );
    }

    #[test]
    fn a_parked_lifetime_may_differ_and_nothing_else() {
        let ttl = |seconds: i32| {
            rawdoc! { "key": { "t": 1 }, "name": "t", "expireAfterSeconds": seconds }.into_bytes()
        };
        let with = rawdoc! { "expireAfterSeconds": 5_i64 };
        let without = rawdoc! {};
        let expected = Shape { options: with.as_bytes(), id_index: None, indexes: &[ttl(5)] };
        let found = Shape { options: without.as_bytes(), id_index: None, indexes: &[ttl(i32::MAX)] };
        assert_eq!(differences(&expected, &found, &[]).len(), 2);
        assert_eq!(differences(&expected, &found, &[parked(Some("t"))]).len(), 1);
        assert!(differences(&expected, &found, &[parked(Some("t")), parked(None)]).is_empty());
        // As 6.0.27 shows a clustered collection, and 6.0.5.
        let clustered = |mut spec: bson::RawDocumentBuf| {
            spec.append(bson::raw::cstr!("clustered"), true);
            spec.into_bytes()
        };
        let shown = [clustered(rawdoc! { "name": "c", "expireAfterSeconds": 5 })];
        let not_shown = [clustered(rawdoc! { "name": "c" })];
        let shape = |indexes| Shape { options: with.as_bytes(), id_index: None, indexes };
        assert!(differences(&shape(&shown), &shape(&not_shown), &[]).is_empty());
    }
}
