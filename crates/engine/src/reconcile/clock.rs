//! Whether our clock may decide what is too old to be kept.
//!
//! What has expired is deleted for good, and a clock that is a year ahead, as after a start without a network, makes everything
//! expire at once. So nothing expires by a clock that has just jumped: ahead of what the catalog remembers of the time before this
//! process, or of what the process itself has seen pass. After a while it counts: a server may have been off for days, and what
//! sets clocks right does it within minutes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use model::WallTime;

use super::{is_due, remember};
use crate::{engine::Services, lease::JobError};

/// When it was looked at last, in the catalog's settings.
const LAST_SEEN: &str = "clock.lastSeenAt";
/// That is written down no more often than this.
const REMEMBERED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Off for longer than this is a jump.
const OFF_FOR: Duration = Duration::from_secs(24 * 3600);
/// The process's own two clocks may differ by this between two looks.
const DRIFT: Duration = Duration::from_secs(5 * 60);
/// For so long a clock that has jumped decides nothing.
const DOUBTED_FOR: Duration = Duration::from_secs(10 * 60);

/// What a process has seen of its clock.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    last: Option<(Instant, WallTime)>,
    jumped: Option<Instant>,
}

impl Seen {
    /// Looks at it; whether it may decide. `before` is what the catalog remembers.
    fn look(&mut self, before: Option<WallTime>, at: Instant, now: WallTime) -> bool {
        let (expected, may_differ) = match self.last {
            Some((then, was)) => (Some(was.plus_ms(millis(at.duration_since(then)))), DRIFT),
            None => (before, OFF_FOR),
        };
        if expected.is_some_and(|expected| now > expected.plus_ms(millis(may_differ))) {
            self.jumped = Some(at);
        }
        self.last = Some((at, now));
        self.jumped = self.jumped.filter(|jumped| at.duration_since(*jumped) < DOUBTED_FOR);
        self.jumped.is_none()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether things may expire by our clock.
pub(super) async fn may_decide(services: &Services) -> Result<bool, JobError> {
    let before = services.catalog.settings().get(LAST_SEEN).await?;
    let before = before.and_then(|text| text.parse().ok()).map(WallTime);
    let now = services.now();
    let may =
        services.clock.0.lock().unwrap_or_else(PoisonError::into_inner).look(before, Instant::now(), now);
    if !may {
        let now = now.to_rfc3339();
        tracing::warn!(
            now,
            "our clock has jumped ahead, to {now}; until it has shown the time for {} minutes, nothing expires",
            DOUBTED_FOR.as_secs() / 60
        );
    } else if is_due(services, LAST_SEEN, REMEMBERED_EVERY).await?
        || before.is_some_and(|before| before > now)
    {
        remember(services, LAST_SEEN).await?;
    }
    Ok(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_763_769_600_000);
    const DAY_MS: i64 = 86_400_000;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_clock_decides_where_it_goes_as_time_does() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(seen.look(None, start, NOW), "nothing is known that it contradicts");
        for n in 1..10 {
            assert!(seen.look(Some(NOW), start + minutes(n), NOW.plus_ms(millis(minutes(n)))));
        }
        // Back is no danger.
        assert!(seen.look(Some(NOW), start + minutes(10), NOW.plus_ms(-DAY_MS)));
    }

    #[test]
    fn one_that_jumped_decides_after_a_while() {
        // At the start, and while the process runs.
        for known in [false, true] {
            let (mut seen, start) = (Seen::default(), Instant::now());
            if known {
                assert!(seen.look(Some(NOW), start, NOW));
            }
            let ahead = NOW.plus_ms(400 * DAY_MS);
            assert!(!seen.look(Some(NOW), start, ahead));
            assert!(!seen.look(Some(NOW), start + minutes(9), ahead.plus_ms(millis(minutes(9)))));
            assert!(seen.look(Some(NOW), start + minutes(10), ahead.plus_ms(millis(minutes(10)))));
        }
    }

    #[test]
    fn one_that_is_set_right_again_is_watched_on() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(!seen.look(Some(NOW), start, NOW.plus_ms(400 * DAY_MS)));
        assert!(!seen.look(Some(NOW), start + minutes(1), NOW.plus_ms(millis(minutes(1)))));
        assert!(!seen.look(Some(NOW), start + minutes(2), NOW.plus_ms(400 * DAY_MS)), "again");
        assert!(!seen.look(Some(NOW), start + minutes(11), NOW.plus_ms(400 * DAY_MS + millis(minutes(9)))));
    }
}
