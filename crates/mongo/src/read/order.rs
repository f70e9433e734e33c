//! In which order to read a collection.
//!
//! Segments are sorted by `_id`, so reading by the `_id` index is the straight way. When neither the data fit in the
//! server's cache nor the order of `_id`s follows the order of storage, it costs one random page per document: 10-16 k
//! documents a second measured against 221 k in the order of storage. Then the engine sorts.

use history::key::SortKey;

use super::{Size, size, split::records_of_sample};
use crate::{CollectionInfo, CollectionKind, Result, wire::Connection};

/// Collections that take at most this part of the cache are read by the index in any case.
const CACHE_SHARE_FITTING: f64 = 0.5;
/// Documents looked at to see whether `_id` order follows storage order.
const SAMPLES: usize = 200;
/// Fewer samples found than this prove nothing.
const SAMPLES_MIN: usize = 20;
/// Neighbours in `_id` order that are also neighbours in storage, as a share; random `_id`s give a half.
const ORDERED_SHARE_MIN: f64 = 0.9;

/// How to read a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// [`super::sorted`], in parallel ranges.
    SortedRanges,
    /// [`super::natural`], and then sorted by the caller.
    NaturalThenSort,
    /// [`super::sorted`] with one reader: storage order is `_id` order.
    StoredSorted,
    /// [`super::capped`]: the order of insertion is the order that counts.
    Capped,
}

/// What the decision rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// What the collection is.
    pub kind: CollectionKind,
    /// Whether its `_id` index orders by a collation.
    pub collation: bool,
    /// Uncompressed bytes of its documents: what they take in the cache.
    pub bytes: u64,
    /// Size of the server's cache.
    pub cache_bytes: u64,
    /// The share of neighbours in `_id` order whose records lie in the same order; `None` when not looked at.
    pub ordered_share: Option<f64>,
}

/// The decision, and why, for a person.
pub fn decide(evidence: &Evidence) -> (Order, String) {
    match evidence.kind {
        CollectionKind::Capped => return (Order::Capped, "capped: read in insertion order".to_owned()),
        _ if evidence.collation => {
            return (
                Order::NaturalThenSort,
                "collation: the _id index has another order than the segments".to_owned(),
            );
        }
        CollectionKind::TimeSeriesBuckets | CollectionKind::Clustered => {
            return (Order::StoredSorted, "stored in _id order".to_owned());
        }
        _ => {}
    }
    if fits(evidence) {
        return (Order::SortedRanges, "fits in the server's cache".to_owned());
    }
    match evidence.ordered_share {
        None => (Order::SortedRanges, "too few documents to sample".to_owned()),
        // Descending is as good as ascending: either way each page is visited once.
        Some(share) if share >= ORDERED_SHARE_MIN || share <= 1.0 - ORDERED_SHARE_MIN => (
            Order::SortedRanges,
            format!("_id order follows storage order ({:.0} % of the sampled pairs)", share * 100.0),
        ),
        Some(share) => (
            Order::NaturalThenSort,
            format!(
                "larger than half the server's cache, and _id order does not follow storage order ({:.0} % of the sampled pairs)",
                share * 100.0
            ),
        ),
    }
}

/// Looks at the collection and decides.
///
/// # Errors
/// The server's.
pub async fn choose_order(
    connection: &mut Connection,
    collection: &CollectionInfo,
    cache_bytes: u64,
) -> Result<(Order, String)> {
    let Size { bytes, .. } = size(connection, &collection.namespace).await?;
    let mut evidence = Evidence {
        kind: collection.kind,
        collation: collection.collation,
        bytes,
        cache_bytes,
        ordered_share: None,
    };
    if collection.kind == CollectionKind::Plain && !collection.collation && !fits(&evidence) {
        let records = records_of_sample(connection, &collection.namespace, SAMPLES, None).await?;
        let mut keyed = Vec::with_capacity(records.len());
        for (record, id) in records {
            keyed.push((
                SortKey::of_document(id.as_bytes())
                    .map_err(|error| crate::Error::protocol(error.to_string()))?,
                record,
            ));
        }
        keyed.sort_by(|one, other| one.0.cmp(&other.0));
        evidence.ordered_share = ordered_share(keyed.iter().map(|(_, record)| *record));
    }
    Ok(decide(&evidence))
}

// Sizes are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn fits(evidence: &Evidence) -> bool {
    evidence.bytes as f64 <= evidence.cache_bytes as f64 * CACHE_SHARE_FITTING
}

/// Record numbers come in `_id` order.
#[allow(clippy::cast_precision_loss)]
fn ordered_share(records: impl Iterator<Item = i64>) -> Option<f64> {
    let records: Vec<i64> = records.collect();
    if records.len() < SAMPLES_MIN {
        return None;
    }
    let ascending = records.windows(2).filter(|pair| pair[0] < pair[1]).count();
    Some(ascending as f64 / (records.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIDENCE: Evidence = Evidence {
        kind: CollectionKind::Plain,
        collation: false,
        bytes: 5_000,
        cache_bytes: 1_000,
        ordered_share: Some(0.5),
    };

    #[test]
    fn random_ids_beyond_the_cache_are_sorted_by_us() {
        assert_eq!(decide(&EVIDENCE).0, Order::NaturalThenSort);
        assert_eq!(decide(&Evidence { bytes: 500, ..EVIDENCE }).0, Order::SortedRanges);
        for share in [1.0, 0.95, 0.02] {
            assert_eq!(decide(&Evidence { ordered_share: Some(share), ..EVIDENCE }).0, Order::SortedRanges);
        }
        assert_eq!(decide(&Evidence { ordered_share: None, ..EVIDENCE }).0, Order::SortedRanges);
    }

    #[test]
    fn what_a_collection_is_comes_first() {
        let kind = |kind| Evidence { kind, ..EVIDENCE };
        assert_eq!(decide(&kind(CollectionKind::Capped)).0, Order::Capped);
        assert_eq!(decide(&kind(CollectionKind::Clustered)).0, Order::StoredSorted);
        assert_eq!(decide(&kind(CollectionKind::TimeSeriesBuckets)).0, Order::StoredSorted);
        // However small: the index is in another order.
        assert_eq!(decide(&Evidence { collation: true, bytes: 1, ..EVIDENCE }).0, Order::NaturalThenSort);
        let collated = Evidence { collation: true, ..kind(CollectionKind::Clustered) };
        assert_eq!(decide(&collated).0, Order::NaturalThenSort);
        assert_eq!(decide(&Evidence { collation: true, ..kind(CollectionKind::Capped) }).0, Order::Capped);
    }

    #[test]
    fn shares_are_of_neighbours() {
        assert_eq!(ordered_share(0..100), Some(1.0));
        assert_eq!(ordered_share((0..100).rev()), Some(0.0));
        assert_eq!(ordered_share(0..5), None);
        let mixed = ordered_share((0..100).map(|number| number * 37 % 100)).unwrap_or_default();
        assert!((0.3..0.7).contains(&mixed), "{mixed}");
    }
}
