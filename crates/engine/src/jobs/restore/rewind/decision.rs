//! Whether a restore can leave collections where they are, which ones, and whether that is worth it. Pure.

use history::CollectionId;
use mongo::CollectionInfo;

use super::super::{plan::Way, source::Item};

/// About what the vault gives out for one document that is looked for: a block.
const BLOCK_BYTES: u64 = 1 << 20;
/// Reading a byte from the vault costs about so much less than loading it with its indexes.
const READ_COST_DIVISOR: u64 = 8;
/// A document that is changed in place is read, removed and inserted one by one.
const WRITE_COST_FACTOR: u64 = 3;
/// What every changed document costs beside its bytes.
const DOCUMENT_OVERHEAD_BYTES: u64 = 512;

/// What is known of the changes of one collection since the time that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changes {
    /// So many documents were written to.
    Documents(u64),
    /// Why that cannot be told.
    Unknown(String),
}

/// What becomes of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays; what changed in it is put back.
    Kept,
    /// It is made anew, for this reason.
    Rebuilt(String),
    /// A rewind does with it what every restore does.
    AsEver,
}

/// Looks at one item, and at what stands under its name on the target.
pub(super) fn verdict(item: &Item, found: Option<&CollectionInfo>, changes: &Changes) -> Verdict {
    match item.way {
        Way::Renamed => collection(item, found, changes),
        Way::Buckets => as_it_was(item, found, changes),
        // Stored functions are few, and replaced as a whole.
        Way::Functions | Way::TimeSeries | Way::View | Way::Server => Verdict::AsEver,
        Way::Kept => Verdict::Kept,
    }
}

fn collection(item: &Item, found: Option<&CollectionInfo>, changes: &Changes) -> Verdict {
    let rebuilt = |reason: &str| Verdict::Rebuilt(reason.to_owned());
    let meta = &item.entry.meta;
    let Some(found) = found else { return rebuilt("it is not there any more") };
    if found.uuid.is_none() || found.uuid != meta.uuid {
        return rebuilt("another one has its name now");
    }
    if found.options != meta.options || found.id_index != meta.id_index {
        return rebuilt("its options were changed");
    }
    let touched = match changes {
        Changes::Unknown(reason) => return Verdict::Rebuilt(reason.clone()),
        Changes::Documents(touched) => *touched > 0,
    };
    if !touched {
        return Verdict::Kept;
    }
    if meta.order == vault::Order::Natural {
        return rebuilt("it is capped, and was written to");
    }
    if found.collation {
        return rebuilt("it was written to, and has a collation of its own, by which _ids cannot be named");
    }
    if has_lifetime(&meta.options) {
        return rebuilt("it was written to, and is a clustered collection whose documents expire");
    }
    Verdict::Kept
}

/// What is not changed in place stays only where nothing was changed at all.
fn as_it_was(item: &Item, found: Option<&CollectionInfo>, changes: &Changes) -> Verdict {
    let meta = &item.entry.meta;
    let same = found.is_some_and(|found| {
        found.uuid.is_some()
            && found.uuid == meta.uuid
            && found.options == meta.options
            && found.indexes == meta.indexes
    });
    match changes {
        Changes::Documents(0) if same => Verdict::Kept,
        Changes::Unknown(reason) => Verdict::Rebuilt(reason.clone()),
        Changes::Documents(_) if same => Verdict::Rebuilt("it was written to".to_owned()),
        Changes::Documents(_) => Verdict::Rebuilt("its definition was changed".to_owned()),
    }
}

fn has_lifetime(options: &[u8]) -> bool {
    !matches!(history::raw::field(options, "expireAfterSeconds"), Ok(None))
}

/// The identity by which the record knows an item.
pub(super) fn id_of(item: &Item) -> Option<CollectionId> {
    item.entry.meta.uuid.map(CollectionId)
}

/// What a rewind is about, and what a full restore would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Of the rewind, in bytes loaded.
    pub(super) rewind: u64,
    /// Of the full restore.
    pub(super) full: u64,
}

impl Cost {
    /// Of reading so many bytes of the record.
    pub(super) fn of_record(bytes: u64) -> Self {
        Self { rewind: bytes / READ_COST_DIVISOR, full: 0 }
    }

    /// Counts one item with documents.
    pub(super) fn add(&mut self, item: &Item, verdict: &Verdict, changes: &Changes) {
        let (bytes, documents) = (item.entry.bytes, item.entry.documents);
        self.full += bytes;
        self.rewind += match (verdict, changes) {
            (Verdict::Rebuilt(_), _) => bytes,
            (Verdict::Kept, &Changes::Documents(touched)) => {
                let read = touched.saturating_mul(BLOCK_BYTES).min(bytes) / READ_COST_DIVISOR;
                let each = bytes.checked_div(documents).unwrap_or(0) + DOCUMENT_OVERHEAD_BYTES;
                read.saturating_add(touched.saturating_mul(each.saturating_mul(WRITE_COST_FACTOR)))
            }
            _ => 0,
        };
    }

    /// Whether the rewind is the cheaper way.
    pub(super) fn pays(&self) -> bool {
        self.rewind < self.full
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;
    use model::ClusterTime;
    use mongo::{CollectionKind, Namespace};
    use vault::{CollectionEntry, CollectionMeta, Order};

    use super::*;

    fn item(way: Way, order: Order, options: &[u8]) -> Item {
        let meta = CollectionMeta {
            uuid: Some([7; 16]),
            db: "app".to_owned(),
            name: "x".to_owned(),
            kind: vault::CollectionKind::Plain,
            order,
            options: options.to_vec(),
            id_index: None,
            indexes: vec![],
            as_of: ClusterTime::default(),
            read_through: None,
        };
        let entry = CollectionEntry {
            meta,
            documents: 1000,
            bytes: 1 << 30,
            content: history::ContentSum::default(),
            segments: 0,
            stored_bytes: 0,
            segment_pages: vec![],
        };
        let ns = Namespace::new("app", "x");
        Item { from: ns.clone(), ns, way, ordinal: 0, entry, beside: None }
    }

    fn found(uuid: u8, options: &[u8], collation: bool) -> CollectionInfo {
        CollectionInfo {
            uuid: Some([uuid; 16]),
            namespace: Namespace::new("app", "x"),
            kind: CollectionKind::Plain,
            options: options.to_vec(),
            id_index: None,
            indexes: vec![],
            collation,
        }
    }

    #[test]
    fn what_is_the_same_collection_stays() {
        let none = rawdoc! {};
        let plain = item(Way::Renamed, Order::Sorted, none.as_bytes());
        let same = found(7, none.as_bytes(), false);
        assert_eq!(verdict(&plain, Some(&same), &Changes::Documents(3)), Verdict::Kept);
        let collated = found(7, none.as_bytes(), true);
        assert_eq!(verdict(&plain, Some(&collated), &Changes::Documents(0)), Verdict::Kept);
        let capped = item(Way::Renamed, Order::Natural, none.as_bytes());
        assert_eq!(verdict(&capped, Some(&same), &Changes::Documents(0)), Verdict::Kept);
        let buckets = item(Way::Buckets, Order::Sorted, none.as_bytes());
        assert_eq!(verdict(&buckets, Some(&same), &Changes::Documents(0)), Verdict::Kept);
    }

    #[test]
    fn everything_else_is_made_anew() {
        let (none, other) = (rawdoc! {}, rawdoc! { "validator": {} });
        let expiring = rawdoc! { "expireAfterSeconds": 5_i64 };
        let plain = item(Way::Renamed, Order::Sorted, none.as_bytes());
        let same = found(7, none.as_bytes(), false);
        for (item, found, changes) in [
            (&plain, None, Changes::Documents(0)),
            (&plain, Some(found(8, none.as_bytes(), false)), Changes::Documents(0)),
            (&plain, Some(found(7, other.as_bytes(), false)), Changes::Documents(0)),
            (&plain, Some(same.clone()), Changes::Unknown("why".to_owned())),
            (&plain, Some(found(7, none.as_bytes(), true)), Changes::Documents(1)),
            (&item(Way::Renamed, Order::Natural, none.as_bytes()), Some(same.clone()), Changes::Documents(1)),
            (
                &item(Way::Renamed, Order::Sorted, expiring.as_bytes()),
                Some(found(7, expiring.as_bytes(), false)),
                Changes::Documents(1),
            ),
            (&item(Way::Buckets, Order::Sorted, none.as_bytes()), Some(same), Changes::Documents(1)),
        ] {
            let verdict = verdict(item, found.as_ref(), &changes);
            assert!(matches!(verdict, Verdict::Rebuilt(_)), "{found:?} {changes:?}");
        }
    }

    #[test]
    fn a_few_documents_pay_and_all_of_them_do_not() {
        let plain = item(Way::Renamed, Order::Sorted, rawdoc! {}.as_bytes());
        let cost = |verdict: &Verdict, changes| {
            let mut cost = Cost::default();
            cost.add(&plain, verdict, &changes);
            cost
        };
        assert!(cost(&Verdict::Kept, Changes::Documents(10)).pays());
        assert!(!cost(&Verdict::Kept, Changes::Documents(1000)).pays());
        assert!(!cost(&Verdict::Rebuilt(String::new()), Changes::Documents(0)).pays());
    }
}
