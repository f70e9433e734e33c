//! Timelines: where an unbroken record of a deployment's operations begins and ends, and which times it makes
//! restorable.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ClusterTime;

/// An entry of the oplog of one replica set, told apart from those that other primaries wrote at the same time and that
/// were rolled back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OplogPosition {
    /// When.
    pub time: ClusterTime,
    /// The election term of the primary that wrote it.
    pub term: i64,
}

impl OplogPosition {
    /// Whether an entry at `next` may follow this one in one oplog: time ascends, and the term never falls.
    pub const fn precedes(self, next: Self) -> bool {
        self.time.as_u64() < next.time.as_u64() && self.term <= next.term
    }
}

impl fmt::Display for OplogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.time, self.term)
    }
}

/// Why a timeline ended. What comes after it is on another one; the gap is never papered over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TimelineEnd {
    /// The deployment's oplog no longer had the entry after the last one that was captured.
    RolledOver,
    /// Entries that had been captured are not in the deployment's oplog any more.
    RolledBack,
    /// Another deployment answers under this name: its replica set was initiated anew.
    OtherReplicaSet,
    /// Something in the record cannot be read.
    Damaged,
    /// Continuous backup was switched off, or the deployment was removed.
    SwitchedOff,
}

impl TimelineEnd {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RolledOver, Self::RolledBack, Self::OtherReplicaSet, Self::Damaged, Self::SwitchedOff];

    /// The word in the catalog and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RolledOver => "rolledOver",
            Self::RolledBack => "rolledBack",
            Self::OtherReplicaSet => "otherReplicaSet",
            Self::Damaged => "damaged",
            Self::SwitchedOff => "switchedOff",
        }
    }

    /// Whether the deployment went another way than was recorded. Whoever reads it then, even at a time that the timeline
    /// covers, sees a state of that other way.
    pub const fn is_fork(self) -> bool {
        matches!(self, Self::RolledBack | Self::OtherReplicaSet)
    }
}

impl FromStr for TimelineEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|end| end.as_str() == text)
            .ok_or_else(|| format!("unknown end of a timeline {text:?}"))
    }
}

/// What one timeline has: every operation after `start` and up to `end` is in the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its first slice follows this time.
    pub start: ClusterTime,
    /// Its last durable slice ends here.
    pub end: ClusterTime,
}

/// From this time to that, both included, every state can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorableRange {
    /// The first state.
    pub from: ClusterTime,
    /// The last state.
    pub to: ClusterTime,
}

impl RestorableRange {
    /// Whether the state at `time` is one of these.
    pub fn contains(&self, time: ClusterTime) -> bool {
        self.from <= time && time <= self.to
    }
}

/// What a timeline makes restorable with the snapshots of these cluster times: everything from the first one that lies
/// on it. A snapshot before the start has operations after it that nobody recorded.
pub fn restorable(
    timeline: Extent,
    snapshots: impl IntoIterator<Item = ClusterTime>,
) -> Option<RestorableRange> {
    let on_it = |time: &ClusterTime| timeline.start <= *time && *time <= timeline.end;
    let from = snapshots.into_iter().filter(on_it).min()?;
    Some(RestorableRange { from, to: timeline.end })
}

/// The snapshot that a fold to `time` begins with: the last one at or before it that lies on the timeline.
pub fn base_for(
    timeline: Extent,
    time: ClusterTime,
    snapshots: impl IntoIterator<Item = ClusterTime>,
) -> Option<ClusterTime> {
    if time > timeline.end {
        return None;
    }
    snapshots.into_iter().filter(|base| timeline.start <= *base && *base <= time).max()
}

/// A point in time at which a client asks for a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PointInTime {
    /// After the operation at this cluster time (`oplogTs`, `oplogInc`).
    Operation(ClusterTime),
    /// At the beginning of this second since the epoch (`pointInTimeUTCSeconds`).
    Second(u32),
}

impl PointInTime {
    /// The state wanted is that of all operations at or before this time. Increments begin with 1, so nothing that
    /// happened in the second itself is at or before its increment 0.
    pub const fn time(self) -> ClusterTime {
        match self {
            Self::Operation(time) => time,
            Self::Second(seconds) => ClusterTime { seconds, increment: 0 },
        }
    }
}

/// The forms in which a point in time is typed, for people.
pub const POINT_IN_TIME_FORMS: &str =
    "an operation as SECONDS,INCREMENT, a time such as 2026-01-02T03:04:05Z, or seconds since the epoch";

/// Reads `SECONDS,INCREMENT` (the state after that operation), or an RFC 3339 time or seconds since the epoch (the state
/// at the beginning of that second).
impl FromStr for PointInTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("{:?} is not {POINT_IN_TIME_FORMS}", text.chars().take(64).collect::<String>());
        if text.contains(',') {
            let time: ClusterTime = text.parse().map_err(|_| none())?;
            if time.increment == 0 {
                return Err("operations are counted from 1 on in each second".to_owned());
            }
            return Ok(Self::Operation(time));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds = text.parse();
            return seconds
                .map(Self::Second)
                .map_err(|_| format!("{text:.64} seconds since the epoch are too many"));
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| none())?;
        if time.subsec_nanosecond() != 0 {
            return Err(
                "a time is a whole second; within one, name the operation as SECONDS,INCREMENT".to_owned()
            );
        }
        let seconds = u32::try_from(time.as_second());
        seconds.map(Self::Second).map_err(|_| format!("no operation was or will be recorded at {text}"))
    }
}

/// As it is read.
impl fmt::Display for PointInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(time) => time.fmt(f),
            Self::Second(seconds) => seconds.fmt(f),
        }
    }
}

/// The point whose state holds all operations at or before a time.
impl From<ClusterTime> for PointInTime {
    fn from(time: ClusterTime) -> Self {
        if time.increment == 0 { Self::Second(time.seconds) } else { Self::Operation(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> ClusterTime {
        ClusterTime { seconds, increment: 1 }
    }

    #[test]
    fn an_older_term_never_follows_a_newer_one() {
        let position = |seconds, term| OplogPosition { time: at(seconds), term };
        assert!(position(1, 1).precedes(position(2, 1)));
        assert!(position(1, 1).precedes(position(2, 2)));
        assert!(!position(1, 2).precedes(position(2, 1)));
        assert!(!position(1, 1).precedes(position(1, 1)));
    }

    #[test]
    fn only_snapshots_on_the_timeline_count() {
        let timeline = Extent { start: at(10), end: at(20) };
        assert_eq!(restorable(timeline, [at(9), at(21)]), None);
        let range = restorable(timeline, [at(9), at(15), at(12)]);
        assert_eq!(range, Some(RestorableRange { from: at(12), to: at(20) }));
        assert_eq!(base_for(timeline, at(14), [at(9), at(15), at(12)]), Some(at(12)));
        assert_eq!(base_for(timeline, at(15), [at(9), at(15), at(12)]), Some(at(15)));
        assert_eq!(base_for(timeline, at(11), [at(9), at(15), at(12)]), None);
        assert_eq!(base_for(timeline, at(21), [at(12)]), None);
        let first = restorable(timeline, [at(10)]);
        assert_eq!(first.map(|range| range.from), Some(at(10)));
    }

    #[test]
    fn a_second_begins_before_its_first_operation() {
        let second = PointInTime::Second(7).time();
        assert!(second < ClusterTime { seconds: 7, increment: 1 });
        assert!(second > ClusterTime { seconds: 6, increment: u32::MAX });
    }

    #[test]
    fn ends_keep_their_words() {
        for end in TimelineEnd::ALL {
            assert_eq!(end.as_str().parse(), Ok(end));
        }
    }

    #[test]
    fn a_point_in_time_is_typed_in_three_ways() {
        let operation = ClusterTime { seconds: 1_767_323_045, increment: 7 };
        assert_eq!("1767323045,7".parse(), Ok(PointInTime::Operation(operation)));
        for same in
            ["1767323045", "2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05.000Z"]
        {
            assert_eq!(same.parse(), Ok(PointInTime::Second(1_767_323_045)), "{same}");
        }
    }

    #[test]
    fn what_is_no_point_in_time_is_told_why() {
        for (text, why) in [
            ("", "is not an operation as"),
            ("yesterday", "is not an operation as"),
            ("2026-01-02T03:04:05", "is not an operation as"),
            ("-5", "is not an operation as"),
            ("1767323045,", "is not an operation as"),
            ("1767323045,7,8", "is not an operation as"),
            ("1767323045,0", "counted from 1"),
            ("1767323045000", "too many"),
            ("2026-01-02T03:04:05.5Z", "whole second"),
            ("1969-01-01T00:00:00Z", "no operation"),
            ("2206-01-01T00:00:00Z", "no operation"),
        ] {
            let error = text.parse::<PointInTime>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn points_in_time_read_back_as_they_are_written() {
        let time = |increment| ClusterTime { seconds: 1_767_323_045, increment };
        for time in [time(0), time(7)] {
            let point = PointInTime::from(time);
            assert_eq!(point.to_string().parse(), Ok(point));
            assert_eq!(point.time(), time);
        }
    }
}
