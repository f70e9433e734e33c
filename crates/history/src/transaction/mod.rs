//! Putting transactions together.
//!
//! A transaction that fits one entry is an `applyOps` entry. A larger one is a chain of them, linked by `prevOpTime`, all
//! but the last with `partialTxn`; it takes effect at the time of its last entry. A prepared one takes effect when a
//! `commitTransaction` entry comes, at the `commitTimestamp` in it, which is earlier than that entry. Chains of several
//! transactions are interleaved with one another and with other entries.
//!
//! Source: `transaction_oplog_application` of the server, and recordings of servers of 5.0 and 6.0.

mod committed;
mod open;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use committed::Committed;
pub use open::OpenTransactions;

use crate::{
    ClusterTime, Malformed,
    entry::{ApplyOps, Entry, Session, TransactionPart, TransactionStep},
};
use state::{Open, State};

/// Why a chain of entries is no transaction. The record of operations has a hole, or begins too late.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// An entry that is needed is no BSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Entries before this one were not seen.
    #[error("the transaction that the entry at {at} belongs to began before the record does")]
    BeginningMissing {
        /// The entry.
        at: ClusterTime,
    },
    /// The entry says that it follows another one than was seen last.
    #[error("the entry at {at} follows one at {expected} that was not seen; the last one seen is at {seen}")]
    Broken {
        /// The entry.
        at: ClusterTime,
        /// What it follows.
        expected: ClusterTime,
        /// What was seen.
        seen: ClusterTime,
    },
    /// The number of operations is not what the last entry says.
    #[error("the transaction that ends at {at} has {seen} operations and says {expected}")]
    Count {
        /// The last entry.
        at: ClusterTime,
        /// As it says.
        expected: i64,
        /// As they are.
        seen: i64,
    },
    /// A commit or an end of a transaction that is not in a state for it.
    #[error("the entry at {at} does not fit the state of its transaction")]
    OutOfPlace {
        /// The entry.
        at: ClusterTime,
    },
}

/// What an entry was for the transactions.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// None of theirs: it is to be applied by itself, at its own time.
    Plain,
    /// Kept until more comes.
    Kept,
    /// These operations take effect.
    Committed(Committed<'a>),
    /// Operations that were kept are dropped.
    Aborted,
}

/// Collects the entries of open transactions.
///
/// Can be serialised between any two entries and go on elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "State", from = "State")]
pub struct Assembler {
    open: BTreeMap<(Vec<u8>, i64), Open>,
    bytes: usize,
}

impl Assembler {
    /// Without open transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry in the order of the oplog.
    ///
    /// # Errors
    /// [`TransactionError`]; what was kept of that transaction is kept on.
    pub fn feed<'a>(&mut self, entry: &Entry<'a>) -> Result<Step<'a>, TransactionError> {
        let Some(part) = entry.transaction() else { return Ok(Step::Plain) };
        match part.step {
            TransactionStep::Operations(operations) => self.operations(entry.time, &part, operations),
            TransactionStep::Commit { commit_time } => {
                self.commit(entry.time, &part, commit_time).map(Step::Committed)
            }
            // Of a transaction that began before the record there is nothing to undo.
            TransactionStep::Abort => {
                self.take(&part.session);
                Ok(Step::Aborted)
            }
        }
    }

    /// Bytes of operations that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time of the first entry of the oldest open transaction. A record that is to go on without this state must
    /// start no later.
    pub fn oldest_start(&self) -> Option<ClusterTime> {
        self.open.values().map(|open| open.first).min()
    }

    /// The time of the first prepared transaction that may still take effect at or before `time`.
    ///
    /// While there is one, the state at `time` is not known: its commit, later in the oplog, decides.
    pub fn undecided_at(&self, time: ClusterTime) -> Option<ClusterTime> {
        self.open.values().filter_map(|open| open.prepared).filter(|&prepared| prepared <= time).min()
    }

    fn operations<'a>(
        &mut self,
        at: ClusterTime,
        part: &TransactionPart<'a>,
        operations: ApplyOps<'a>,
    ) -> Result<Step<'a>, TransactionError> {
        if part.previous == Some(ClusterTime::NONE) {
            self.forget_abandoned(&part.session);
            if !operations.partial && !operations.prepare {
                return Ok(Step::Committed(Committed::of_one(at, operations.operations)));
            }
            self.put(&part.session, Open::new(at));
        }
        let open = self.find(at, part)?;
        if open.prepared.is_some() {
            return Err(TransactionError::OutOfPlace { at });
        }
        let added = open.add(at, &operations)?;
        self.bytes += added;
        if operations.partial || operations.prepare {
            return Ok(Step::Kept);
        }
        let parts = self.take(&part.session).map(|open| open.parts).unwrap_or_default();
        Ok(Step::Committed(Committed::of_many(at, parts)))
    }

    fn commit(
        &mut self,
        at: ClusterTime,
        part: &TransactionPart<'_>,
        commit_time: ClusterTime,
    ) -> Result<Committed<'static>, TransactionError> {
        let open = self.find(at, part)?;
        // Two clocks of one replica set: a commit takes effect after the prepare and before it is written.
        if open.prepared.is_none_or(|prepared| prepared > commit_time) || commit_time > at {
            return Err(TransactionError::OutOfPlace { at });
        }
        let parts = self.take(&part.session).map(|open| open.parts).unwrap_or_default();
        Ok(Committed::of_many(commit_time, parts))
    }

    /// The open transaction that an entry goes on with.
    fn find(&mut self, at: ClusterTime, part: &TransactionPart<'_>) -> Result<&mut Open, TransactionError> {
        let key = (part.session.id.to_vec(), part.session.number);
        let open = self.open.get_mut(&key).ok_or(TransactionError::BeginningMissing { at })?;
        match part.previous {
            // The first entry of a chain follows none.
            Some(expected) if expected != ClusterTime::NONE && expected != open.last => {
                Err(TransactionError::Broken { at, expected, seen: open.last })
            }
            _ => Ok(open),
        }
    }

    /// Drops transactions of the session that were begun, never prepared, and have a lower number or this one: their
    /// primary stepped down in the middle of a chain, and the session went on.
    fn forget_abandoned(&mut self, session: &Session<'_>) {
        let from = (session.id.to_vec(), i64::MIN);
        let to = (session.id.to_vec(), session.number);
        let abandoned: Vec<_> = self
            .open
            .range(from..=to)
            .filter(|(_, open)| open.prepared.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in abandoned {
            self.bytes -= self.open.remove(&key).map_or(0, |open| open.bytes());
        }
    }

    fn put(&mut self, session: &Session<'_>, open: Open) {
        self.open.insert((session.id.to_vec(), session.number), open);
    }

    fn take(&mut self, session: &Session<'_>) -> Option<Open> {
        let open = self.open.remove(&(session.id.to_vec(), session.number))?;
        self.bytes -= open.bytes();
        Some(open)
    }
}
