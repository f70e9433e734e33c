//! Chains of slices: what a slice may hold, what a fold needs of a chain, and what of it may go.

use crate::{ClusterTime, OplogPosition};

/// What a slice holds: every entry after `after` and up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceSpan {
    /// The last entry before it.
    pub after: OplogPosition,
    /// Its first entry.
    pub first: OplogPosition,
    /// Its last entry.
    pub last: OplogPosition,
    /// Whoever folds what comes after `last`, and knows of no transaction that is open there, reads the entries from
    /// this time on, this one included.
    pub read_from: ClusterTime,
}

impl SliceSpan {
    /// What in it cannot be true together.
    pub fn contradiction(&self) -> Option<&'static str> {
        if !self.after.precedes(self.first) {
            Some("its first entry does not follow what is said to be before it")
        } else if self.first != self.last && !self.first.precedes(self.last) {
            Some("its last entry does not follow its first one")
        } else if self.read_from > self.last.time {
            Some("who goes on after it would begin to read behind it")
        } else {
            None
        }
    }
}

/// A snapshot as the beginning of folds. Collections that cannot be read at one time are as of later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// No collection is as of an earlier time: operations after it are needed.
    pub at: ClusterTime,
    /// No collection is as of a later time: a fold to any time from here on is a state.
    pub complete_at: ClusterTime,
}

/// Where the record of a timeline begins now: what is older than its restore window is dropped from its front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// Every entry after this one is there.
    pub start: ClusterTime,
    /// Nothing was dropped yet.
    pub whole: bool,
}

impl Front {
    /// From which time on a fold from `base` reads the record, that time included; nothing, when the record does not
    /// reach back so far. `before` is [`SliceSpan::read_from`] of the last slice that ends at or before the base.
    ///
    /// The time that a slice tells may be that of its own last entry, as the beginning of a transaction or for want of
    /// one; nobody can tell which, so the entry has to be there.
    pub fn needed(&self, base: &Base, before: Option<ClusterTime>) -> Option<ClusterTime> {
        if base.at < self.start {
            return None;
        }
        match before {
            Some(read_from) => (read_from > self.start).then_some(read_from),
            // The base lies inside the first slice that there is, and only the first one ever follows no transaction.
            None => self.whole.then_some(self.start),
        }
    }
}

/// Slices that end before the time given may go: they lie before the window, and no fold to a time in it reads them.
///
/// `base` is what the last fold-worthy snapshot at or before the window's beginning needs, or else the first one on the
/// timeline; `next` what a snapshot would need that is taken now, for there will be one.
pub fn expendable_before(
    window_begins: ClusterTime,
    base: Option<ClusterTime>,
    next: ClusterTime,
) -> ClusterTime {
    window_begins.min(base.unwrap_or(next)).min(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u32) -> ClusterTime {
        ClusterTime { seconds, increment: 1 }
    }

    const fn position(seconds: u32, term: i64) -> OplogPosition {
        OplogPosition { time: at(seconds), term }
    }

    #[test]
    fn slices_that_contradict_themselves_are_told() {
        let good = SliceSpan {
            after: position(1, 1),
            first: position(2, 1),
            last: position(4, 2),
            read_from: at(3),
        };
        assert_eq!(good.contradiction(), None);
        let single = SliceSpan { first: good.last, ..good };
        assert_eq!(single.contradiction(), None);
        for bad in [
            SliceSpan { after: position(2, 1), ..good },
            SliceSpan { after: position(1, 2), ..good },
            SliceSpan { last: position(1, 1), ..good },
            SliceSpan { last: position(2, 2), ..good },
            SliceSpan { last: position(4, 0), ..good },
            SliceSpan { read_from: at(5), ..good },
        ] {
            assert!(bad.contradiction().is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_base_needs_the_transactions_that_are_open_at_it() {
        let base = |seconds| Base { at: at(seconds), complete_at: at(seconds) };
        let whole = Front { start: at(10), whole: true };
        assert_eq!(whole.needed(&base(9), None), None, "operations between the two were not recorded");
        assert_eq!(whole.needed(&base(10), None), Some(at(10)));
        assert_eq!(whole.needed(&base(25), Some(at(15))), Some(at(15)));
        assert_eq!(whole.needed(&base(25), Some(at(9))), None, "a transaction began before the record");
        let trimmed = Front { start: at(20), whole: false };
        assert_eq!(trimmed.needed(&base(25), None), None);
        assert_eq!(trimmed.needed(&base(25), Some(at(20))), None, "the entry at its very start is gone");
        assert_eq!(trimmed.needed(&base(25), Some(at(21))), Some(at(21)));
    }

    #[test]
    fn what_goes_lies_before_the_window_and_before_all_that_is_needed() {
        assert_eq!(expendable_before(at(50), Some(at(40)), at(90)), at(40));
        assert_eq!(expendable_before(at(50), Some(at(60)), at(90)), at(50));
        assert_eq!(expendable_before(at(50), None, at(90)), at(50));
        assert_eq!(expendable_before(at(50), None, at(30)), at(30));
    }
}
