//! Reading raw oplog entries.
//!
//! The reader is total: any bytes give an entry or [`Malformed`], never a panic. What is well formed but not known to
//! this version — a kind, a command, a field, a version number — is read as [`Kind::Unknown`] and never passed over,
//! because a fold that skips what it does not know gives a wrong state.
//!
//! Source: `oplog_entry.idl` of the server, and entries that servers of 5.0 and 6.0 wrote.

mod command;
mod operation;
#[cfg(test)]
mod tests;

pub use command::{ApplyOps, Command, IndexBuild, Rename};
pub use operation::{Kind, Operation, Operations, Update};

use crate::{
    ClusterTime, Malformed,
    raw::{self, Element},
};

/// `multiOpType` of a batch whose parts are applied each for itself.
const APPLIED_SEPARATELY: i64 = 1;
/// `v` of every entry since 3.6.
pub(crate) const ENTRY_VERSION: i64 = 2;

/// One entry, borrowed from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    /// `ts`: when; unique and ascending in one oplog.
    pub time: ClusterTime,
    /// `t`: the election term; an oplog without elections has none.
    pub term: Option<i64>,
    /// `wall`: the primary's clock in milliseconds since 1970. Orders nothing.
    pub wall_ms: Option<i64>,
    /// Who wrote, where it was a retryable write or a transaction.
    pub session: Option<Session<'a>>,
    /// `prevOpTime`: the time of the entry before in the same session and number; [`ClusterTime::NONE`] for the first.
    pub previous: Option<ClusterTime>,
    /// Whether `applyOps` with a session is a batch of writes, no transaction (`multiOpType: 1`).
    pub separate: bool,
    /// What.
    pub operation: Operation<'a>,
}

/// What names a transaction or a retryable write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session<'a> {
    /// `lsid`, raw.
    pub id: &'a [u8],
    /// `txnNumber`.
    pub number: i64,
}

impl<'a> Entry<'a> {
    /// Reads one entry.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no document, or lack what every entry has, or have it in another type.
    pub fn read(entry: &'a [u8]) -> Result<Self, Malformed> {
        let (mut time, mut term, mut wall_ms, mut previous, mut multi, mut version) = Default::default();
        let (mut lsid, mut number): (Option<&[u8]>, Option<i64>) = (None, None);
        for element in raw::elements(entry) {
            let element = element?;
            match element.name {
                b"ts" => set(&mut time, element.timestamp(), "ts")?,
                b"t" => set(&mut term, element.integer(), "t")?,
                b"v" => set(&mut version, element.integer(), "v")?,
                b"wall" => set(&mut wall_ms, element.date(), "wall")?,
                b"lsid" => set(&mut lsid, element.document(), "lsid")?,
                b"txnNumber" => set(&mut number, element.integer(), "txnNumber")?,
                b"multiOpType" => set(&mut multi, element.integer(), "multiOpType")?,
                b"prevOpTime" => set(&mut previous, Some(op_time(&element)?), "prevOpTime")?,
                _ => {}
            }
        }
        let mut operation = Operation::read(entry)?;
        if version.is_some_and(|version: i64| version != ENTRY_VERSION) {
            operation.kind = Kind::Unknown("an entry of another version".to_owned());
        }
        if multi.is_some_and(|kind| !(0..=APPLIED_SEPARATELY).contains(&kind)) {
            operation.kind = Kind::Unknown("a batch of an unknown kind".to_owned());
        }
        Ok(Self {
            time: time.ok_or(Malformed("an oplog entry without ts"))?,
            term,
            wall_ms,
            session: lsid.zip(number).map(|(id, number)| Session { id, number }),
            previous,
            separate: multi == Some(APPLIED_SEPARATELY),
            operation,
        })
    }

    /// The part of a transaction that this entry is, if it is one.
    pub fn transaction(&self) -> Option<TransactionPart<'a>> {
        let session = self.session?;
        let Kind::Command(command) = &self.operation.kind else { return None };
        let step = match command {
            // A retryable write has a session too; only a transaction links its `applyOps` entries.
            Command::ApplyOps(part) if self.previous.is_some() && !self.separate => {
                TransactionStep::Operations(*part)
            }
            Command::CommitTransaction { commit_time } => {
                TransactionStep::Commit { commit_time: *commit_time }
            }
            Command::AbortTransaction => TransactionStep::Abort,
            _ => return None,
        };
        Some(TransactionPart { session, previous: self.previous, step })
    }
}

/// An entry as a part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransactionPart<'a> {
    /// Which transaction.
    pub session: Session<'a>,
    /// The entry before in the transaction.
    pub previous: Option<ClusterTime>,
    /// What.
    pub step: TransactionStep<'a>,
}

/// What one entry does to a transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TransactionStep<'a> {
    /// Adds operations, and ends it or prepares it if no more are to follow.
    Operations(ApplyOps<'a>),
    /// Commits it after it was prepared.
    Commit {
        /// When it takes effect; earlier than the entry itself.
        commit_time: ClusterTime,
    },
    /// Undoes it.
    Abort,
}

/// Keeps the first value of a field; one of a wrong type is an error.
fn set<T>(slot: &mut Option<T>, value: Option<T>, name: &'static str) -> Result<(), Malformed> {
    let value = value.ok_or(Malformed(name))?;
    slot.get_or_insert(value);
    Ok(())
}

/// The time in `{ts, t}`.
fn op_time(element: &Element<'_>) -> Result<ClusterTime, Malformed> {
    let document = element.document().ok_or(Malformed("prevOpTime"))?;
    let time = raw::field(document, "ts")?.and_then(|ts| ts.timestamp());
    time.ok_or(Malformed("prevOpTime"))
}
