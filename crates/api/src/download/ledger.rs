//! Which bytes of which archive were delivered, across all requests of this process. When all were, that is one download;
//! after as many as the link is good for it is used up: at once in memory, and in the catalog right after.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::id::RestoreJobId;

/// Archives remembered; a project has 20 active downloads at most.
const ARCHIVES_MAX: usize = 4_096;
/// Separate intervals remembered per archive. The shortest is forgotten first: it has to be fetched again.
const INTERVALS_MAX: usize = 256;

/// All archives.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<RestoreJobId, Arc<Progress>>>);

impl Ledger {
    /// What was delivered of an archive of `size` bytes, whose link is good for so many downloads more.
    pub(crate) fn of(&self, id: RestoreJobId, size: u64, left: u64) -> Arc<Progress> {
        let mut archives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if archives.len() >= ARCHIVES_MAX && !archives.contains_key(&id) {
            // Those in use by a response are kept alive by it, but a response to come must find them too.
            archives.retain(|_, progress| Arc::strong_count(progress) > 1);
        }
        let fresh =
            || Arc::new(Progress { size, delivered: Mutex::new(Delivered { left, ..Delivered::default() }) });
        Arc::clone(archives.entry(id).or_insert_with(fresh))
    }

    /// Whether the link is used up, as far as this process knows.
    pub(crate) fn is_used_up(&self, id: RestoreJobId) -> bool {
        let archives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        archives.get(&id).is_some_and(|progress| progress.delivered().left == 0)
    }
}

/// What was delivered of one archive.
pub(crate) struct Progress {
    size: u64,
    delivered: Mutex<Delivered>,
}

#[derive(Default)]
struct Delivered {
    /// Downloads that the link is still good for.
    left: u64,
    /// What was delivered since the last complete download.
    intervals: Vec<(u64, u64)>,
    /// What was handed over since then, on connections that ended before it is known to have left. How much of it has arrived only
    /// the reader knows.
    open: Vec<(u64, u64)>,
}

impl Progress {
    /// Records delivered bytes; `true` for the call that completes a download that the link was good for. Those that are on
    /// their way then go on to their end.
    pub(crate) fn cover(&self, from: u64, to: u64) -> bool {
        let mut delivered = self.delivered();
        if delivered.left == 0 {
            return false;
        }
        merge(&mut delivered.intervals, from, to);
        let complete = delivered.intervals.first().is_some_and(|(from, to)| *from == 0 && *to >= self.size);
        if complete {
            delivered.left -= 1;
            delivered.intervals.clear();
            delivered.open.clear();
        }
        complete
    }

    /// Records bytes that were handed over to a connection that has ended since.
    pub(crate) fn leave_open(&self, from: u64, to: u64) {
        let open = &mut self.delivered().open;
        if open.len() < INTERVALS_MAX {
            open.push((from, to));
        }
    }

    /// Records that a reader goes on from there, within what was left open: so it has what is before. `true` as
    /// [`Progress::cover`].
    pub(crate) fn go_on(&self, at: u64) -> bool {
        let mut delivered = self.delivered();
        let found = delivered.open.iter().position(|&(from, to)| from < at && at <= to);
        let Some((from, _)) = found.map(|place| delivered.open.swap_remove(place)) else { return false };
        drop(delivered);
        self.cover(from, at)
    }

    fn delivered(&self) -> MutexGuard<'_, Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds an interval to a sorted list of disjoint ones.
fn merge(intervals: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    let (mut from, mut to) = (from, to);
    intervals.retain(|(start, end)| {
        let apart = *end < from || *start > to;
        if !apart {
            from = from.min(*start);
            to = to.max(*end);
        }
        apart
    });
    let at = intervals.partition_point(|(start, _)| *start < from);
    intervals.insert(at, (from, to));
    if intervals.len() > INTERVALS_MAX {
        let shortest = (0..intervals.len()).min_by_key(|at| intervals[*at].1 - intervals[*at].0);
        if let Some(shortest) = shortest {
            intervals.remove(shortest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_archive_is_complete_once_and_only_when_all_was_delivered() {
        let ledger = Ledger::default();
        let id = RestoreJobId::from_parts(1, [1; 8]);
        let progress = ledger.of(id, 100, 1);
        assert!(!progress.cover(50, 100));
        assert!(!progress.cover(0, 49));
        assert!(!ledger.is_used_up(id));
        assert!(ledger.of(id, 100, 1).cover(40, 60));
        assert!(ledger.is_used_up(id));
        assert!(!progress.cover(0, 100), "completed twice");
    }

    #[test]
    fn a_link_is_good_for_as_many_downloads_as_it_may_have() {
        let ledger = Ledger::default();
        let id = RestoreJobId::from_parts(1, [1; 8]);
        let progress = ledger.of(id, 100, 3);
        for left in [2, 1, 0] {
            assert!(!progress.cover(0, 60), "a half is no download");
            assert!(progress.cover(60, 100));
            assert_eq!(ledger.is_used_up(id), left == 0);
        }
        assert!(!progress.cover(0, 100), "one more than it is good for");
    }

    #[test]
    fn who_goes_on_from_somewhere_has_what_was_handed_out_before() {
        let ledger = Ledger::default();
        let id = RestoreJobId::from_parts(1, [1; 8]);
        let progress = ledger.of(id, 100, 1);
        assert!(!progress.cover(0, 20), "the connection breaks before more of it is known to have left");
        progress.leave_open(20, 60);
        assert!(!progress.go_on(40));
        assert!(progress.cover(40, 100));
        assert!(ledger.is_used_up(id));
        // Nothing was handed out before this: whoever reads in pieces may not have them yet.
        let progress = ledger.of(RestoreJobId::from_parts(1, [2; 8]), 100, 1);
        progress.leave_open(0, 20);
        assert!(!progress.go_on(40));
        assert!(!progress.cover(40, 100));
        assert!(!progress.cover(0, 30));
        assert!(progress.cover(30, 40));
    }

    proptest! {
        #[test]
        fn intervals_are_the_union(pieces in proptest::collection::vec((0_u64..64, 1_u64..16), 1..40)) {
            let mut intervals = Vec::new();
            let mut covered = [false; 96];
            for (from, length) in pieces {
                merge(&mut intervals, from, from + length);
                covered[from as usize..(from + length) as usize].fill(true);
            }
            for (at, covered) in covered.iter().enumerate() {
                let found = intervals.iter().any(|(from, to)| (*from..*to).contains(&(at as u64)));
                prop_assert_eq!(found, *covered);
            }
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
