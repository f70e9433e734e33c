//! In which order to read a collection.
//!
//! Segments are sorted by `_id`. The `_id` index gives documents in that order, at one look-up per document: where the
//! order of storage is nearly the same, reading that and putting it right on the way costs the server half as much.
//! When neither the data fit in the server's cache nor the order of `_id`s follows the order of storage, the index
//! costs one random page per document: 10-16 k documents a second measured against 221 k in the order of storage. Then
//! the engine sorts.

use history::key::SortKey;

use super::{Size, size, split::records_of_sample};
use crate::{CollectionInfo, CollectionKind, Result, wire::Connection};

/// Collections that take at most this part of the cache are read by the index in any case.
const CACHE_SHARE_FITTING: f64 = 0.5;
/// Documents looked at to see whether `_id` order follows storage order.
const SAMPLES: usize = 200;
/// Fewer samples found than this prove nothing.
const SAMPLES_MIN: usize = 20;
/// A sample is out of place when its rank by `_id` and its rank by record differ by more than this part of all samples.
const RANKS_APART_MAX: f64 = 0.05;
/// Share of samples out of place up to which the `_id` index finds most pages in the cache. Random `_id`s give 0.9.
const FOLLOWING_SHARE_MAX: f64 = 0.1;
/// Smaller collections are read by the index: not worth the samples.
const SAMPLED_BYTES_MIN: u64 = 16 << 20;
/// So are collections of larger documents, of which the index has few.
const WINDOWED_DOCUMENT_BYTES_MAX: u64 = 8 << 10;
/// And larger ones, as one document out of place may cost a second reading of everything.
const WINDOWED_BYTES_MAX: u64 = 16 << 30;
/// The smallest window.
const WINDOW_BYTES_MIN: u64 = 16 << 20;
/// The largest window.
const WINDOW_BYTES_MAX: u64 = 64 << 20;

/// How to read a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// [`super::sorted`], in parallel ranges.
    SortedRanges,
    /// [`super::natural`], and put right by the caller, who keeps a window of documents.
    NaturalNearlySorted {
        /// How late a document may come, in bytes of documents.
        window_bytes: usize,
    },
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
    /// Documents.
    pub documents: u64,
    /// Their bytes, uncompressed: what they take in the cache.
    pub bytes: u64,
    /// Size of the server's cache.
    pub cache_bytes: u64,
    /// The shares of samples out of place; `None` when not looked at.
    pub displaced: Option<Displaced>,
}

/// How far samples are from where the order of their `_id`s would have them in storage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Displaced {
    /// The share that is out of place, were storage in ascending order.
    pub ascending: f64,
    /// The same were it in descending order.
    pub descending: f64,
    /// How late the latest sample comes, in storage, after one with a higher `_id`: as a share of the collection.
    pub latest: f64,
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
    let Some(displaced) = evidence.displaced else {
        return (Order::SortedRanges, "too small to be worth samples".to_owned());
    };
    if let Some(window_bytes) = window(evidence, &displaced) {
        let why = format!("stored nearly in _id order: a window of {} MiB will do", window_bytes >> 20);
        return (Order::NaturalNearlySorted { window_bytes }, why);
    }
    if fits(evidence) {
        return (Order::SortedRanges, "fits in the server's cache".to_owned());
    }
    // Descending is as good as ascending: either way each page is visited once.
    let share = displaced.ascending.min(displaced.descending);
    if share <= FOLLOWING_SHARE_MAX {
        let why = format!(
            "_id order follows storage order ({:.0} % of the samples are out of place)",
            share * 100.0
        );
        return (Order::SortedRanges, why);
    }
    (
        Order::NaturalThenSort,
        format!(
            "larger than half the server's cache, and _id order does not follow storage order ({:.0} % of the samples are out of place)",
            share * 100.0
        ),
    )
}

impl Order {
    /// What to do when documents were not in the order that was hoped for.
    pub fn instead(self) -> Option<Self> {
        match self {
            Self::NaturalNearlySorted { .. } => Some(Self::SortedRanges),
            Self::SortedRanges | Self::StoredSorted => Some(Self::NaturalThenSort),
            Self::NaturalThenSort | Self::Capped => None,
        }
    }
}

/// Bytes of a window through which the collection comes sorted, as far as the samples tell: they do not see what is
/// late by little, or seldom. The reader does.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn window(evidence: &Evidence, displaced: &Displaced) -> Option<usize> {
    let large = evidence.bytes > evidence.documents.saturating_mul(WINDOWED_DOCUMENT_BYTES_MAX);
    if large || evidence.bytes > WINDOWED_BYTES_MAX {
        return None;
    }
    let late = (displaced.latest * evidence.bytes as f64) as u64;
    // What lies between the samples may come later still.
    let wanted = (late + late / 2).max(WINDOW_BYTES_MIN);
    (wanted <= WINDOW_BYTES_MAX).then(|| usize::try_from(wanted).ok()).flatten()
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
    let Size { documents, bytes, .. } = size(connection, &collection.namespace).await?;
    let mut evidence = Evidence {
        kind: collection.kind,
        collation: collection.collation,
        documents,
        bytes,
        cache_bytes,
        displaced: None,
    };
    if collection.kind == CollectionKind::Plain && !collection.collation && bytes >= SAMPLED_BYTES_MIN {
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
        evidence.displaced = displaced(keyed.iter().map(|(_, record)| *record));
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
fn displaced(records: impl Iterator<Item = i64>) -> Option<Displaced> {
    let records: Vec<i64> = records.collect();
    let count = records.len();
    if count < SAMPLES_MIN {
        return None;
    }
    let mut in_storage = records.clone();
    in_storage.sort_unstable();
    let far = |one: usize, other: usize| one.abs_diff(other) as f64 > count as f64 * RANKS_APART_MAX;
    let mut displaced = Displaced { ascending: 0.0, descending: 0.0, latest: 0.0 };
    let mut rank_of_stored = vec![0; count];
    for (rank, record) in records.iter().enumerate() {
        let stored = in_storage.partition_point(|other| other < record);
        rank_of_stored[stored] = rank;
        displaced.ascending += f64::from(far(rank, stored)) / count as f64;
        displaced.descending += f64::from(far(count - 1 - rank, stored)) / count as f64;
    }
    // The highest `_id` so far, and where it was met; each step up is one that a later sample may be late for.
    let mut steps: Vec<(usize, usize)> = vec![];
    for (stored, rank) in rank_of_stored.into_iter().enumerate() {
        let above = steps.partition_point(|(highest, _)| *highest < rank);
        match steps.get(above) {
            Some((_, met)) => displaced.latest = displaced.latest.max((stored - met) as f64 / count as f64),
            None => steps.push((rank, stored)),
        }
    }
    Some(displaced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RANDOM: Displaced = Displaced { ascending: 0.9, descending: 0.9, latest: 0.9 };
    const EVIDENCE: Evidence = Evidence {
        kind: CollectionKind::Plain,
        collation: false,
        documents: 5_000_000,
        bytes: 5_000_000_000,
        cache_bytes: 1_000_000_000,
        displaced: Some(RANDOM),
    };

    fn with(ascending: f64, descending: f64, latest: f64) -> Evidence {
        Evidence { displaced: Some(Displaced { ascending, descending, latest }), ..EVIDENCE }
    }

    #[test]
    fn random_ids_beyond_the_cache_are_sorted_by_us() {
        assert_eq!(decide(&EVIDENCE).0, Order::NaturalThenSort);
        assert_eq!(decide(&Evidence { bytes: 500_000_000, ..EVIDENCE }).0, Order::SortedRanges);
        for (ascending, descending) in [(0.05, 0.9), (0.9, 0.0)] {
            assert_eq!(decide(&with(ascending, descending, 0.9)).0, Order::SortedRanges);
        }
        assert_eq!(decide(&Evidence { displaced: None, ..EVIDENCE }).0, Order::SortedRanges);
    }

    #[test]
    fn what_is_nearly_sorted_is_read_as_it_is_stored() {
        let windowed = |mebibytes: usize| Order::NaturalNearlySorted { window_bytes: mebibytes << 20 };
        let sorted = with(0.0, 0.9, 0.0);
        assert_eq!(decide(&sorted).0, windowed(16));
        assert_eq!(decide(&Evidence { bytes: 500_000_000, ..sorted }).0, windowed(16));
        assert_eq!(decide(&Evidence { bytes: 1 << 30, ..with(0.0, 0.9, 1.0 / 64.0) }).0, windowed(24));
        // Too far out of place for a window, too large to be tried, too few documents to be worth it.
        assert_eq!(decide(&with(0.0, 0.9, 0.05)).0, Order::SortedRanges);
        assert_eq!(decide(&Evidence { bytes: WINDOWED_BYTES_MAX + 1, ..sorted }).0, Order::SortedRanges);
        assert_eq!(decide(&Evidence { documents: 50_000, ..sorted }).0, Order::SortedRanges);
    }

    #[test]
    fn there_is_always_another_way_until_we_sort() {
        let mut order = Order::NaturalNearlySorted { window_bytes: 1 };
        while let Some(next) = order.instead() {
            order = next;
        }
        assert_eq!(order, Order::NaturalThenSort);
    }

    #[test]
    fn what_a_collection_is_comes_first() {
        let kind = |kind| Evidence { kind, ..EVIDENCE };
        assert_eq!(decide(&kind(CollectionKind::Capped)).0, Order::Capped);
        assert_eq!(decide(&kind(CollectionKind::Clustered)).0, Order::StoredSorted);
        assert_eq!(decide(&kind(CollectionKind::TimeSeriesBuckets)).0, Order::StoredSorted);
        // However small: the index is in another order.
        assert_eq!(
            decide(&Evidence { collation: true, bytes: 1, documents: 1, ..EVIDENCE }).0,
            Order::NaturalThenSort
        );
        let collated = Evidence { collation: true, ..kind(CollectionKind::Clustered) };
        assert_eq!(decide(&collated).0, Order::NaturalThenSort);
        assert_eq!(decide(&Evidence { collation: true, ..kind(CollectionKind::Capped) }).0, Order::Capped);
    }

    #[test]
    fn samples_are_out_of_place_by_rank() {
        let sorted = displaced(0..100).unwrap();
        assert!(sorted.ascending == 0.0 && sorted.descending > 0.8 && sorted.latest == 0.0, "{sorted:?}");
        let reversed = displaced((0..100).rev()).unwrap();
        assert!(reversed.descending == 0.0 && reversed.ascending > 0.8, "{reversed:?}");
        assert_eq!(displaced(0..5), None);
        let random = displaced((0..100).map(|number| number * 37 % 101)).unwrap();
        assert!(random.ascending > 0.7 && random.descending > 0.7, "{random:?}");
        // Two loaders side by side change neighbours, and no more than that.
        let swapped = displaced((0..100).map(|number| number ^ 1)).unwrap();
        assert!(swapped.ascending == 0.0 && swapped.latest == 0.01, "{swapped:?}");
        let few = displaced((0..200).map(|n| if n % 50 == 7 { 400 + n } else { n })).unwrap();
        assert!((0.01..0.05).contains(&few.ascending) && few.latest > 0.7, "{few:?}");
    }
}
