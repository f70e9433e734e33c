//! What is kept of open transactions, and how that is serialised.

use serde::{Deserialize, Serialize};

use super::{Assembler, TransactionError};
use crate::{ClusterTime, entry::ApplyOps};

/// One open transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Its first entry.
    pub(super) first: ClusterTime,
    /// Its last entry that was seen.
    pub(super) last: ClusterTime,
    /// When it was prepared.
    pub(super) prepared: Option<ClusterTime>,
    /// Operations seen.
    count: i64,
    /// Raw arrays of operations.
    #[serde(with = "crate::bytes_serde::list")]
    pub(super) parts: Vec<Vec<u8>>,
}

impl Open {
    pub(super) fn new(first: ClusterTime) -> Self {
        Self { first, last: first, prepared: None, count: 0, parts: Vec::new() }
    }

    /// Adds the operations of an entry; returns their bytes.
    pub(super) fn add(&mut self, at: ClusterTime, entry: &ApplyOps<'_>) -> Result<usize, TransactionError> {
        let mut seen = self.count;
        for operation in entry.operations() {
            operation?;
            seen += 1;
        }
        if let Some(expected) = entry.count.filter(|&expected| expected != seen) {
            return Err(TransactionError::Count { at, expected, seen });
        }
        self.count = seen;
        self.last = at;
        self.prepared = entry.prepare.then_some(at);
        self.parts.push(entry.operations.to_vec());
        Ok(entry.operations.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

/// An [`Assembler`] as it is serialised.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    open: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    #[serde(with = "crate::bytes_serde")]
    session: Vec<u8>,
    number: i64,
    transaction: Open,
}

impl From<Assembler> for State {
    fn from(assembler: Assembler) -> Self {
        let open = assembler.open.into_iter();
        Self {
            open: open
                .map(|((session, number), transaction)| Named { session, number, transaction })
                .collect(),
        }
    }
}

impl From<State> for Assembler {
    fn from(state: State) -> Self {
        let bytes = state.open.iter().map(|named| named.transaction.bytes()).sum();
        let open = state.open.into_iter().map(|named| ((named.session, named.number), named.transaction));
        Self { open: open.collect(), bytes }
    }
}
