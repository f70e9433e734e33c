//! Cluster times order data; wall times only tell people and expiries what o'clock it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A BSON timestamp: the only clock that orders data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClusterTime {
    /// Seconds since the Unix epoch, as the deployment's primary counts them.
    pub seconds: u32,
    /// Ordinal of the operation inside that second.
    pub increment: u32,
}

impl ClusterTime {
    /// The same as one number that sorts alike.
    pub const fn as_u64(self) -> u64 {
        (self.seconds as u64) << 32 | self.increment as u64
    }

    /// Back from [`ClusterTime::as_u64`].
    pub const fn from_u64(value: u64) -> Self {
        Self { seconds: (value >> 32) as u32, increment: value as u32 }
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.seconds, self.increment)
    }
}

/// The text is not `seconds,increment`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster time is SECONDS,INCREMENT, got {0:?}")]
pub struct MalformedClusterTime(pub String);

impl FromStr for ClusterTime {
    type Err = MalformedClusterTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedClusterTime(text.chars().take(64).collect());
        let (seconds, increment) = text.split_once(',').ok_or_else(malformed)?;
        Ok(Self {
            seconds: seconds.parse().map_err(|_| malformed())?,
            increment: increment.parse().map_err(|_| malformed())?,
        })
    }
}

/// A reading of a wall clock: milliseconds since the Unix epoch. Never orders data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time, `milliseconds` later.
    pub const fn plus_ms(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Reads a time of ISO 8601 with its offset; what is below a millisecond is cut off. None when it is no such time.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }

    /// `yyyy-MM-ddTHH:mm:ssZ`, as Atlas writes dates.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.seconds())
            .map(|t| t.to_string())
            .unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_their_offset() {
        for (text, seconds) in [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("1970-01-01T01:00:01+01:00", Some(1)),
            ("1970-01-01T00:00:01.000Z", Some(1)),
            ("1970-01-01", None),
            ("1970-01-01T00:00:01", None),
            ("1970-13-01T00:00:01Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(WallTime::parse_rfc3339(text).map(WallTime::seconds), seconds, "{text}");
        }
    }

    #[test]
    fn dates_are_written_in_utc_without_fractions() {
        assert_eq!(WallTime(1_746_351_720_999).to_rfc3339(), "2025-05-04T09:42:00Z");
    }

    #[test]
    fn cluster_times_sort_by_seconds_then_increment() {
        let a = ClusterTime { seconds: 1, increment: 9 };
        let b = ClusterTime { seconds: 2, increment: 0 };
        assert!(a < b && a.as_u64() < b.as_u64());
        assert_eq!(ClusterTime::from_u64(a.as_u64()), a);
        assert_eq!("1,9".parse(), Ok(a));
        assert!("1".parse::<ClusterTime>().is_err());
    }
}
