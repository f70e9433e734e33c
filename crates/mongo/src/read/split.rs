//! Where to cut a collection so that several readers share it.

use bson::{
    RawDocumentBuf,
    raw::{RawArrayBuf, RawDocument, cstr},
    rawdoc,
};

use super::{DocumentId, any_member, find, snapshot};
use crate::{
    ClusterTime, CollectionInfo, CollectionKind, Error, Namespace, Result,
    wire::{Connection, ReplyExt as _},
};

/// Samples for each range: with 40 the largest of eight ranges is about a third above the mean.
const SAMPLES_PER_RANGE: usize = 40;
/// More ranges than readers that one server can feed make no sense.
const RANGES_MAX: usize = 64;

/// A part of a collection in the order of storage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NaturalRange {
    /// Begin after the record that this token names.
    pub(super) after: Option<RawDocumentBuf>,
    /// End with this document, itself included.
    pub(super) through: Option<DocumentId>,
}

impl NaturalRange {
    /// All of the collection.
    pub fn whole() -> Self {
        Self::default()
    }

    /// The rest of the range after the batch that carried `token`. Holds at the same cluster time only.
    #[must_use]
    pub fn resume(&self, token: &RawDocument) -> Self {
        Self { after: Some(token.to_owned()), through: self.through.clone() }
    }
}

/// Up to `ranges - 1` `_id`s in ascending order that cut the collection into parts of about the same count.
///
/// # Errors
/// The server's.
pub async fn split_points(
    connection: &mut Connection,
    collection: &CollectionInfo,
    ranges: usize,
) -> Result<Vec<DocumentId>> {
    let ranges = ranges.min(RANGES_MAX);
    if ranges < 2 || collection.kind != CollectionKind::Plain || collection.collation {
        return Ok(Vec::new());
    }
    // Sorted by the server: `_id`s of different types, too, come in the order of its index.
    let samples = sample(connection, &collection.namespace, ranges * SAMPLES_PER_RANGE, true).await?;
    let mut points = quantiles(samples, ranges);
    points.dedup();
    Ok(points)
}

/// Cuts the collection into up to `ranges` parts in the order of storage, exact at the cluster time `at` and at no
/// other. One part when the server cannot do it: the records of clustered collections have no numbers.
///
/// # Errors
/// `SnapshotTooOld`, `SnapshotUnavailable`, network.
pub async fn natural_split(
    connection: &mut Connection,
    collection: &CollectionInfo,
    at: ClusterTime,
    ranges: usize,
) -> Result<Vec<NaturalRange>> {
    let ranges = ranges.min(RANGES_MAX);
    if ranges < 2 || collection.kind != CollectionKind::Plain {
        return Ok(vec![NaturalRange::whole()]);
    }
    let mut records =
        records_of_sample(connection, &collection.namespace, ranges * SAMPLES_PER_RANGE, Some(at)).await?;
    records.sort_by_key(|(record, _)| *record);
    records.dedup_by_key(|(record, _)| *record);
    let mut cuts = Vec::with_capacity(ranges);
    let mut after = None;
    for (record, id) in quantiles(records, ranges) {
        cuts.push(NaturalRange { after: after.take(), through: Some(id) });
        after = Some(rawdoc! { "$recordId": record });
    }
    cuts.push(NaturalRange { after, through: None });
    Ok(cuts)
}

/// Record numbers of documents taken at random, with their `_id`s, at the cluster time if one is given.
pub(super) async fn records_of_sample(
    connection: &mut Connection,
    namespace: &Namespace,
    samples: usize,
    at: Option<ClusterTime>,
) -> Result<Vec<(i64, DocumentId)>> {
    let ids = sample(connection, namespace, samples, false).await?;
    let mut wanted = RawArrayBuf::new();
    for id in &ids {
        wanted.push(
            id.as_document()
                .get("_id")
                .ok()
                .flatten()
                .ok_or_else(|| Error::protocol("a sample without _id"))?,
        );
    }
    let mut look_up = find(namespace);
    look_up.append(cstr!("filter"), rawdoc! { "_id": { "$in": wanted } });
    look_up.append(cstr!("projection"), rawdoc! { "_id": 1 });
    look_up.append(cstr!("showRecordId"), true);
    look_up.append(cstr!("batchSize"), i32::try_from(ids.len() + 1).unwrap_or(i32::MAX));
    if let Some(at) = at {
        look_up.append(cstr!("readConcern"), snapshot(at));
    }
    let reply = connection.command(&look_up).await?;
    let found = reply.child("cursor").map(|cursor| cursor.children("firstBatch")).unwrap_or_default();
    let record = |document: &&RawDocument| {
        Some((document.get_i64("$recordId").ok()?, DocumentId::of(document.as_bytes()).ok()?))
    };
    Ok(found.iter().filter_map(record).collect())
}

/// `_id`s of documents taken at random, at most `samples`.
async fn sample(
    connection: &mut Connection,
    namespace: &Namespace,
    samples: usize,
    sorted: bool,
) -> Result<Vec<DocumentId>> {
    let samples = i32::try_from(samples).unwrap_or(i32::MAX);
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(rawdoc! { "$sample": { "size": samples } });
    pipeline.push(rawdoc! { "$project": { "_id": 1 } });
    if sorted {
        pipeline.push(rawdoc! { "$sort": { "_id": 1 } });
    }
    let mut aggregate = rawdoc! { "aggregate": namespace.collection.as_str(), "pipeline": pipeline };
    aggregate.append(cstr!("cursor"), rawdoc! { "batchSize": samples.saturating_add(1) });
    aggregate.append(cstr!("$db"), namespace.db.as_str());
    aggregate.append(cstr!("$readPreference"), any_member());
    let reply = connection.command(&aggregate).await?;
    let found = reply.child("cursor").map(|cursor| cursor.children("firstBatch")).unwrap_or_default();
    found.into_iter().map(|document| DocumentId::of(document.as_bytes())).collect()
}

/// The `ranges - 1` inner cuts of an ordered sample.
fn quantiles<T>(ordered: Vec<T>, ranges: usize) -> Vec<T> {
    let count = ordered.len();
    let mut cuts: Vec<usize> =
        (1..ranges).map(|range| range * count / ranges).filter(|cut| *cut < count).collect();
    cuts.dedup();
    let mut cuts = cuts.into_iter().peekable();
    ordered.into_iter().enumerate().filter_map(|(at, item)| cuts.next_if_eq(&at).map(|_| item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_cut_evenly_and_never_too_often() {
        assert_eq!(quantiles((0..100).collect(), 4), [25, 50, 75]);
        assert_eq!(quantiles((0..2).collect(), 8), [0, 1]);
        assert_eq!(quantiles(vec![9], 4), [9]);
        assert!(quantiles(Vec::<i32>::new(), 4).is_empty());
    }
}
