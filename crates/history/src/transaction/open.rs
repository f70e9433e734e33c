//! Which transactions are open, without what they do: for whoever records the oplog and must be able to say from where
//! it has to be read again.

use std::collections::BTreeMap;

use crate::{
    ClusterTime,
    entry::{Entry, TransactionStep},
    raw::{Element, field, kind},
};

/// Follows the oplog and knows the first entry of every open transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenTransactions {
    open: BTreeMap<(Vec<u8>, i64), Began>,
    term: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Began {
    first: ClusterTime,
    prepared: bool,
}

impl OpenTransactions {
    /// None is open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry in the order of the oplog.
    pub fn feed(&mut self, entry: &Entry<'_>) {
        if entry.term != self.term {
            // A chain that its primary did not end is ended by nobody else; only what was prepared outlives it.
            self.open.retain(|_, began| began.prepared);
            self.term = entry.term;
        }
        let Some(part) = entry.transaction() else { return };
        let key = (part.session.id.to_vec(), part.session.number);
        let TransactionStep::Operations(operations) = part.step else {
            self.open.remove(&key);
            return;
        };
        if part.previous == Some(ClusterTime::NONE) {
            // As the assembler does: a session that goes on has abandoned what it did not prepare.
            self.open.retain(|(id, number), began| *id != key.0 || *number > key.1 || began.prepared);
            if !operations.partial && !operations.prepare {
                return;
            }
        }
        if operations.partial || operations.prepare {
            let began = self.open.entry(key).or_insert(Began { first: entry.time, prepared: false });
            began.prepared = operations.prepare;
        } else {
            self.open.remove(&key);
        }
    }

    /// The same for an entry as it stands in the oplog. One that cannot be read is passed over: the fold says what it makes
    /// unknown. Most entries are of no interest here, and are read no further than it takes to see that.
    pub fn feed_raw(&mut self, raw: &[u8]) {
        if self.is_of_interest(raw)
            && let Ok(entry) = Entry::read(raw)
        {
            self.feed(&entry);
        }
    }

    /// Only commands are parts of transactions, and only the first entry of a term ends what was open before it.
    fn is_of_interest(&self, raw: &[u8]) -> bool {
        const COMMAND: &[u8] = b"\x02\0\0\0c\0";
        let is_other = |op: Element<'_>| op.kind == kind::STRING && op.value != COMMAND;
        let term = self.term.map(i64::to_le_bytes);
        let is_same =
            |found: Element<'_>| found.kind == kind::INT64 && term.is_some_and(|term| found.value == term);
        !(matches!(field(raw, "op"), Ok(Some(op)) if is_other(op))
            && matches!(field(raw, "t"), Ok(Some(term)) if is_same(term)))
    }

    /// The time of the first entry of the oldest open transaction.
    pub fn oldest_start(&self) -> Option<ClusterTime> {
        self.open.values().map(|began| began.first).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Binary, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};

    use super::*;

    fn part(increment: u32, term: i64, object: RawDocumentBuf) -> RawDocumentBuf {
        let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
        rawdoc! {
            "lsid": { "id": id }, "txnNumber": 1i64, "op": "c", "ns": "admin.$cmd", "o": object,
            "ts": Timestamp { time: 1, increment }, "t": term, "v": 2i64,
            "prevOpTime": { "ts": Timestamp { time: 0, increment: 0 }, "t": -1i64 },
        }
    }

    fn after(entries: &[RawDocumentBuf]) -> Option<u32> {
        let (mut open, mut other) = (OpenTransactions::new(), OpenTransactions::new());
        for entry in entries {
            open.feed(&Entry::read(entry.as_bytes()).unwrap());
            other.feed_raw(entry.as_bytes());
        }
        assert_eq!(open, other);
        open.oldest_start().map(|time| time.increment)
    }

    #[test]
    fn an_election_ends_what_was_not_prepared() {
        let partial = || part(3, 1, rawdoc! { "applyOps": [], "partialTxn": true });
        let prepared = || part(3, 1, rawdoc! { "applyOps": [], "prepare": true });
        let elected = || {
            rawdoc! {
                "op": "n", "ns": "", "o": { "msg": "new primary" }, "ts": Timestamp { time: 1, increment: 4 }, "t": 2i64,
                "v": 2i64,
            }
        };
        assert_eq!(after(&[partial()]), Some(3));
        assert_eq!(after(&[partial(), elected()]), None);
        assert_eq!(after(&[prepared(), elected()]), Some(3));
    }

    #[test]
    fn a_plain_write_is_passed_over_and_its_term_is_not() {
        let partial = || part(3, 1, rawdoc! { "applyOps": [], "partialTxn": true });
        let write = |term: i64| {
            rawdoc! {
                "op": "i", "ns": "app.things", "o": { "_id": 1, "op": "c" }, "ts": Timestamp { time: 1, increment: 4 },
                "t": term, "v": 2i64,
            }
        };
        let mut open = OpenTransactions::new();
        open.feed_raw(partial().as_bytes());
        assert!(!open.is_of_interest(write(1).as_bytes()));
        assert!(open.is_of_interest(write(2).as_bytes()) && open.is_of_interest(partial().as_bytes()));
        assert_eq!(after(&[write(1), partial(), write(1)]), Some(3));
        assert_eq!(after(&[write(1), partial(), write(2)]), None);
        open.feed_raw(b"no document");
        assert_eq!(open.oldest_start().map(|time| time.increment), Some(3));
    }
}
