//! When a slice is closed.

use std::time::Duration;

use model::ClusterTime;

/// A slice is closed when it holds so many bytes of entries.
pub const SLICE_BYTES: u64 = 16 << 20;
/// A slice is closed so long after its first entry came. With what sealing and storing take it has to stay below the
/// five seconds that may be lost.
pub const SLICE_AGE: Duration = Duration::from_secs(3);

/// What the slice that is being filled is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filling {
    /// Bytes of entries.
    pub(super) bytes: u64,
    /// How long ago its first entry came.
    pub(super) age: Duration,
    /// Time of the last entry before it.
    pub(super) after: ClusterTime,
    /// Time of its last entry.
    pub(super) last: ClusterTime,
}

impl Filling {
    /// Whether it is time to close it, when somebody waits for everything up to `wanted` to be stored.
    pub(super) fn is_due(&self, wanted: ClusterTime) -> bool {
        let is_waited_for = self.after < wanted && wanted <= self.last;
        self.bytes >= SLICE_BYTES || self.age >= SLICE_AGE || is_waited_for
    }

    /// How long until it is due if nothing comes.
    pub(super) fn due_in(&self) -> Duration {
        SLICE_AGE.saturating_sub(self.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_closed_by_its_size_its_age_or_whoever_waits_for_it() {
        let at = |increment| ClusterTime { seconds: 7, increment };
        let filling = Filling { bytes: 100, age: Duration::from_millis(10), after: at(2), last: at(5) };
        let nobody = ClusterTime::default();
        assert!(!filling.is_due(nobody));
        assert!(Filling { bytes: SLICE_BYTES, ..filling }.is_due(nobody));
        assert!(Filling { age: SLICE_AGE, ..filling }.is_due(nobody));
        assert!(filling.is_due(at(3)) && filling.is_due(at(5)));
        assert!(!filling.is_due(at(6)), "what is waited for is not in it yet");
        assert!(!filling.is_due(at(2)), "what was waited for is in the one before it");
    }
}
