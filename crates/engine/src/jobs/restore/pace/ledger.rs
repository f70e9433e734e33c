//! How much of the oplog lies between a time and its end, counted in bytes. Pure: what is seen goes in, a number comes out.
//!
//! A server tells how large its oplog is, and not how much of it was written since when. What the job writes itself is
//! counted here; what others write shows as growth, as long as the oplog is not full. That the rest of theirs is not seen
//! is what the margins of [`pause_at`] are for.

use std::collections::VecDeque;

use mongo::{ClusterTime, oplog::OplogWindow};

/// What an entry of one document takes beside the document: its name twice, times, the id once more, and the session.
const ENTRY_BYTES: u64 = 256;
/// Looks that are remembered; then every other one is forgotten, which makes the estimate larger and never smaller.
const SAMPLES_MAX: usize = 4096;
/// What may be on its way when it is decided to wait: on each of four connections, in the queue before it, and in the
/// hands of whoever was let through last, a message each.
pub(super) const IN_FLIGHT_BYTES: u64 = 12 << 20;

/// Bytes of oplog that so many documents make.
pub(super) const fn weight(documents: u64, bytes: u64) -> u64 {
    bytes.saturating_add(documents.saturating_mul(ENTRY_BYTES))
}

/// Nothing is written once so much of an oplog of this size was written and is not recorded: a half, with what may still
/// be on its way.
pub(super) const fn pause_at(oplog: u64) -> u64 {
    let quarter = oplog / 4;
    let in_flight = if IN_FLIGHT_BYTES < quarter { IN_FLIGHT_BYTES } else { quarter };
    oplog / 2 - in_flight
}

/// Writing goes on when it is no more than that.
pub(super) const fn go_on_at(oplog: u64) -> u64 {
    let (third, less) = (oplog / 3, pause_at(oplog) / 3 * 2);
    if third < less { third } else { less }
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The oplog when it was looked at first: for times before that.
    first: OplogWindow,
    /// Everything counted in the number is in the oplog at or before the time; oldest first.
    samples: VecDeque<(ClusterTime, u64)>,
    own: u64,
    others: u64,
    size: u64,
}

impl Ledger {
    /// Begins to count. `own` bytes of the job's were acknowledged before the oplog was looked at.
    pub(super) fn begin(own: u64, window: OplogWindow) -> Self {
        Self {
            first: window,
            samples: VecDeque::from([(window.newest.time, own)]),
            own,
            others: 0,
            size: window.bytes,
        }
    }

    /// Another look.
    pub(super) fn note(&mut self, own: u64, window: &OplogWindow) {
        let grown = window.bytes.saturating_sub(self.size);
        self.others += grown.saturating_sub(own.saturating_sub(self.own));
        (self.own, self.size) = (own, window.bytes);
        let now = (window.newest.time, self.total());
        match self.samples.back_mut() {
            // The same entry is the last one: whatever was counted since came before it.
            Some(last) if last.0 >= now.0 => last.1 = now.1,
            _ => self.samples.push_back(now),
        }
        if self.samples.len() > SAMPLES_MAX {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Bytes written after `time`, as far as is known. Times must not go back from one question to the next by more than
    /// what is remembered; before that, the estimate is that of the oplog as it was at first.
    pub(super) fn behind(&mut self, time: ClusterTime) -> u64 {
        while self.samples.get(1).is_some_and(|next| next.0 <= time) {
            self.samples.pop_front();
        }
        let Some(&(since, counted)) = self.samples.front() else { return 0 };
        let later = self.total().saturating_sub(counted);
        if since <= time {
            return later;
        }
        let room = self.first.bytes_max.max(self.first.bytes);
        later.saturating_add(room / 100 * u64::from(self.first.percent_behind(time)))
    }

    fn total(&self) -> u64 {
        self.own + self.others
    }
}

#[cfg(test)]
mod tests {
    use mongo::oplog::Position;

    use super::*;

    fn at(time: u32) -> ClusterTime {
        ClusterTime { time, increment: 1 }
    }

    fn window(newest: u32, bytes: u64) -> OplogWindow {
        let position = |time| Position { time: at(time), term: 1 };
        OplogWindow { oldest: position(0), newest: position(newest), bytes, bytes_max: 1000 }
    }

    #[test]
    fn what_was_written_after_a_time_is_told_by_the_look_before_it() {
        let mut ledger = Ledger::begin(0, window(100, 1000));
        ledger.note(50, &window(110, 1000));
        ledger.note(90, &window(120, 1000));
        assert_eq!(ledger.behind(at(100)), 90);
        assert_eq!(ledger.behind(at(109)), 90, "nothing was looked at in between");
        assert_eq!(ledger.behind(at(110)), 40);
        assert_eq!(ledger.behind(at(119)), 40);
        assert_eq!(ledger.behind(at(120)), 0);
        assert_eq!(ledger.behind(at(500)), 0);
    }

    #[test]
    fn what_was_there_before_is_estimated_until_it_is_recorded() {
        let mut ledger = Ledger::begin(0, window(100, 1000));
        ledger.note(50, &window(110, 1000));
        assert_eq!(ledger.behind(at(50)), 50 + 500);
        assert_eq!(ledger.behind(at(90)), 50 + 100);
        assert_eq!(ledger.behind(at(100)), 50);
    }

    #[test]
    fn what_others_write_counts_while_the_oplog_grows() {
        let mut ledger = Ledger::begin(0, window(100, 100));
        // 300 more, of which 50 are ours.
        ledger.note(50, &window(110, 400));
        assert_eq!(ledger.behind(at(100)), 300);
        // It lost its first entries: nobody tells what was written meanwhile.
        ledger.note(70, &window(120, 350));
        assert_eq!(ledger.behind(at(100)), 320);
        ledger.note(70, &window(130, 400));
        assert_eq!(ledger.behind(at(120)), 50);
    }

    #[test]
    fn memory_is_bounded_and_the_estimate_errs_upward() {
        let mut ledger = Ledger::begin(0, window(1, 1000));
        for look in 1..20_000 {
            ledger.note(u64::from(look), &window(1 + look, 1000));
        }
        assert!(ledger.samples.len() <= SAMPLES_MAX);
        for time in [5_000, 12_345, 19_999] {
            let exact = 19_999 - u64::from(time - 1);
            let told = ledger.behind(at(time));
            assert!((exact..exact + 200).contains(&told), "{time}: {told} instead of {exact}");
        }
    }

    #[test]
    fn it_goes_on_below_what_it_waits_at() {
        for oplog in [1 << 20, 20 << 20, 64 << 20, 990 << 20, 50 << 30] {
            let (pause, go_on) = (pause_at(oplog), go_on_at(oplog));
            assert!(0 < go_on && go_on < pause && pause < oplog / 2, "{oplog}");
            assert!(go_on <= oplog / 3, "{oplog}");
        }
        assert_eq!(pause_at(990 << 20), (495 << 20) - IN_FLIGHT_BYTES);
        assert_eq!((pause_at(0), go_on_at(0)), (0, 0));
    }
}
