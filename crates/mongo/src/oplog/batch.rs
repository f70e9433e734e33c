//! Entries of the oplog in the reply that brought them.

use super::{Position, position_of};
use crate::{ClusterTime, Error, Result, read::Batch};

/// Consecutive entries, raw. Empty when nothing came in time. Owns the buffer; give it back with
/// [`super::Tail::recycle`].
#[derive(Debug)]
pub struct TailBatch {
    batch: Batch,
    positions: Vec<Position>,
    /// Entries at the front that are not part of it: the one that the tail follows.
    skipped: usize,
    committed: Option<ClusterTime>,
}

impl TailBatch {
    /// `positions` is memory to be used again.
    pub(super) fn new(
        batch: Batch,
        mut positions: Vec<Position>,
        committed: Option<ClusterTime>,
    ) -> Result<Self> {
        positions.clear();
        for entry in batch.documents() {
            positions.push(position_of(entry)?);
        }
        Ok(Self { batch, positions, skipped: 0, committed })
    }

    /// Takes the first entry away if it is the one at `position`; whether it was.
    pub(super) fn begins_with(&mut self, position: Position) -> bool {
        let found = self.positions.first() == Some(&position);
        if found {
            self.positions.remove(0);
            self.skipped += 1;
        }
        found
    }

    /// Refuses entries that do not follow `last` and one another.
    pub(super) fn check_follows(&self, last: Position) -> Result<()> {
        let mut last = last;
        for next in &self.positions {
            if !last.precedes(*next) {
                return Err(Error::OplogDisorder { last, next: *next });
            }
            last = *next;
        }
        Ok(())
    }

    /// The entries with their positions, in the order of the oplog. Nothing is left out, no-ops neither.
    pub fn entries(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.positions.iter().copied().zip(self.batch.documents().skip(self.skipped))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether nothing came in time.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        let skipped: usize = self.batch.documents().take(self.skipped).map(<[u8]>::len).sum();
        self.batch.bytes() - skipped
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.batch.memory() + self.positions.capacity() * size_of::<Position>()
    }

    /// The last entry's.
    pub fn last(&self) -> Option<Position> {
        self.positions.last().copied()
    }

    /// The time up to which the member knew entries to be on a majority of the members when it answered; how far the
    /// batch is behind it is the lag. Not to be taken for the time up to which everything was given: the entries are
    /// read before the member looks at its time.
    pub fn committed(&self) -> Option<ClusterTime> {
        self.committed
    }

    pub(super) fn into_memory(self) -> (Vec<u8>, Vec<Position>) {
        (self.batch.into_buffer(), self.positions)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    fn position(increment: u32, term: i64) -> Position {
        Position { time: ClusterTime { time: 5, increment }, term }
    }

    fn batch(positions: &[(u32, i64)]) -> TailBatch {
        let entries: bson::raw::RawArrayBuf = positions
            .iter()
            .map(|(increment, term)| rawdoc! { "o": {}, "ts": position(*increment, 0).time, "t": *term })
            .collect();
        let reply = rawdoc! { "cursor": { "firstBatch": entries, "id": 7_i64 }, "ok": 1.0 };
        let bytes = reply.into_bytes();
        let body = 0..bytes.len();
        TailBatch::new(Batch::new(bytes, body, None).unwrap().0, Vec::new(), None).unwrap()
    }

    #[test]
    fn the_entry_that_it_follows_is_no_part_of_it() {
        let mut found = batch(&[(1, 1), (2, 1), (9, 3)]);
        let all = found.bytes();
        assert!(!found.begins_with(position(1, 2)) && !found.begins_with(position(2, 1)));
        assert_eq!(found.len(), 3);
        assert!(found.begins_with(position(1, 1)));
        let entries: Vec<_> = found.entries().collect();
        assert_eq!((entries.len(), entries[0].0, entries[1].0), (2, position(2, 1), position(9, 3)));
        for (at, entry) in entries {
            assert_eq!(position_of(entry).unwrap(), at);
        }
        assert_eq!((found.bytes(), found.last()), (all / 3 * 2, Some(position(9, 3))));
        assert!(batch(&[]).is_empty() && !batch(&[]).begins_with(position(1, 1)));
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let last = position(4, 2);
        batch(&[(5, 2), (6, 2), (7, 3)]).check_follows(last).unwrap();
        batch(&[]).check_follows(last).unwrap();
        for (wrong, at) in [
            (batch(&[(4, 2)]), 4),
            (batch(&[(3, 2)]), 3),
            (batch(&[(5, 1)]), 5),
            (batch(&[(5, 2), (6, 3), (7, 2)]), 7),
            (batch(&[(5, 2), (6, 2), (6, 2)]), 6),
        ] {
            let error = wrong.check_follows(last).unwrap_err();
            assert!(
                matches!(error, Error::OplogDisorder { next, .. } if next.time.increment == at),
                "{error}"
            );
        }
    }
}
