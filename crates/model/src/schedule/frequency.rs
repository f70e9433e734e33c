//! How often, and on which days, a snapshot is due.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How often. Ordered by how seldom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FrequencyType {
    /// Several times a day.
    Hourly,
    /// Once a day.
    Daily,
    /// On a day of the week.
    Weekly,
    /// On a day of the month.
    Monthly,
    /// On the first day of a month.
    Yearly,
}

impl FrequencyType {
    /// All of them, most often first.
    pub const ALL: [Self; 5] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// Whether a policy has one item of this type at most.
    pub const fn comes_once(self) -> bool {
        matches!(self, Self::Hourly | Self::Daily)
    }

    /// The shortest time between two of its snapshots, in days; those of a day keep each other company.
    pub(super) const fn days_min(self) -> u32 {
        match self {
            Self::Hourly | Self::Daily => 1,
            Self::Weekly => 7,
            Self::Monthly => 28,
            Self::Yearly => 365,
        }
    }
}

impl FromStr for FrequencyType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            format!("a snapshot is taken hourly, daily, weekly, monthly or yearly, not {text:?}")
        })
    }
}

/// How often, and when in that rhythm: what the API calls `frequencyType` and `frequencyInterval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Frequency {
    kind: FrequencyType,
    interval: u8,
}

impl Frequency {
    /// The interval of a monthly frequency that means the last day of the month.
    pub const LAST_DAY: u8 = 40;

    /// A frequency with an interval as Atlas documents it: 1, 2, 4, 6, 8 or 12 hours; 1 for daily; 1 (Monday) to 7
    /// (Sunday); the day of the month from 1 to 28, or 40 for its last; the month from 1 to 12.
    ///
    /// # Errors
    /// [`BadInterval`] when this type of frequency has no such interval.
    pub fn new(kind: FrequencyType, interval: i64) -> Result<Self, BadInterval> {
        let bad = BadInterval { kind, interval };
        let interval = u8::try_from(interval).map_err(|_| bad)?;
        let is_known = match kind {
            FrequencyType::Hourly => matches!(interval, 1 | 2 | 4 | 6 | 8 | 12),
            FrequencyType::Daily => interval == 1,
            FrequencyType::Weekly => (1..=7).contains(&interval),
            FrequencyType::Monthly => (1..=28).contains(&interval) || interval == Self::LAST_DAY,
            FrequencyType::Yearly => (1..=12).contains(&interval),
        };
        if is_known { Ok(Self { kind, interval }) } else { Err(bad) }
    }

    /// When snapshots of a type are taken where nobody says: in the schedule that Atlas begins with.
    pub const fn usual(kind: FrequencyType) -> Self {
        let interval = match kind {
            FrequencyType::Hourly | FrequencyType::Weekly => 6,
            FrequencyType::Daily => 1,
            FrequencyType::Monthly => Self::LAST_DAY,
            FrequencyType::Yearly => 12,
        };
        Self { kind, interval }
    }

    /// How often.
    pub const fn kind(self) -> FrequencyType {
        self.kind
    }

    /// Hours between snapshots, or which day or month: see [`Frequency::new`].
    pub const fn interval(self) -> u8 {
        self.interval
    }
}

/// `weekly/6`: as it stands in the catalog.
impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.interval)
    }
}

impl FromStr for Frequency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, interval) =
            text.split_once('/').ok_or_else(|| format!("{text:?} is no frequency such as weekly/6"))?;
        let interval = interval.parse().map_err(|_| format!("{interval:?} is no interval"))?;
        Self::new(kind.parse()?, interval).map_err(|bad| bad.to_string())
    }
}

impl TryFrom<String> for Frequency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Frequency> for String {
    fn from(frequency: Frequency) -> Self {
        frequency.to_string()
    }
}

/// A type of frequency has no such interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} frequency has the interval {}, not {interval}", article(*kind), known(*kind))]
pub struct BadInterval {
    /// The type.
    pub kind: FrequencyType,
    /// What was given.
    pub interval: i64,
}

const fn article(kind: FrequencyType) -> &'static str {
    match kind {
        FrequencyType::Hourly => "an hourly",
        FrequencyType::Daily => "a daily",
        FrequencyType::Weekly => "a weekly",
        FrequencyType::Monthly => "a monthly",
        FrequencyType::Yearly => "a yearly",
    }
}

const fn known(kind: FrequencyType) -> &'static str {
    match kind {
        FrequencyType::Hourly => "1, 2, 4, 6, 8 or 12 (hours)",
        FrequencyType::Daily => "1",
        FrequencyType::Weekly => "1 (Monday) to 7 (Sunday)",
        FrequencyType::Monthly => "1 to 28 (day of the month) or 40 (its last day)",
        FrequencyType::Yearly => "1 to 12 (month)",
    }
}

/// The time of day at which everything but the other hours of an hourly frequency is due, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64)", into = "(i64, i64)")]
pub struct ReferenceTime {
    hour: u8,
    minute: u8,
}

impl ReferenceTime {
    /// What Atlas documents for schedules that say nothing else.
    pub const DEFAULT: Self = Self { hour: 18, minute: 0 };

    /// That time of day.
    ///
    /// # Errors
    /// [`BadReferenceTime`] when no day has it.
    pub fn new(hour: i64, minute: i64) -> Result<Self, BadReferenceTime> {
        let within = |value: i64, below: u8| u8::try_from(value).ok().filter(|value| *value < below);
        Ok(Self {
            hour: within(hour, 24).ok_or(BadReferenceTime::Hour(hour))?,
            minute: within(minute, 60).ok_or(BadReferenceTime::Minute(minute))?,
        })
    }

    /// 0 to 23.
    pub const fn hour(self) -> u8 {
        self.hour
    }

    /// 0 to 59.
    pub const fn minute(self) -> u8 {
        self.minute
    }

    /// Seconds since midnight.
    pub(super) const fn seconds(self) -> i64 {
        self.hour as i64 * 3_600 + self.minute as i64 * 60
    }
}

impl Default for ReferenceTime {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<(i64, i64)> for ReferenceTime {
    type Error = BadReferenceTime;

    fn try_from((hour, minute): (i64, i64)) -> Result<Self, BadReferenceTime> {
        Self::new(hour, minute)
    }
}

impl From<ReferenceTime> for (i64, i64) {
    fn from(time: ReferenceTime) -> Self {
        (time.hour.into(), time.minute.into())
    }
}

/// No day has such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReferenceTime {
    /// The hour is none.
    #[error("an hour is 0 to 23, not {0}")]
    Hour(i64),
    /// The minute is none.
    #[error("a minute is 0 to 59, not {0}")]
    Minute(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_interval_is_taken_and_no_other() {
        let documented: [(FrequencyType, &[i64]); 5] = [
            (FrequencyType::Hourly, &[1, 2, 4, 6, 8, 12]),
            (FrequencyType::Daily, &[1]),
            (FrequencyType::Weekly, &[1, 2, 3, 4, 5, 6, 7]),
            (
                FrequencyType::Monthly,
                &[
                    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
                    25, 26, 27, 28, 40,
                ],
            ),
            (FrequencyType::Yearly, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ];
        for (kind, intervals) in documented {
            for interval in -1..300 {
                let taken = Frequency::new(kind, interval);
                assert_eq!(taken.is_ok(), intervals.contains(&interval), "{kind:?} {interval}");
                if let Ok(frequency) = taken {
                    assert_eq!(frequency.to_string().parse(), Ok(frequency));
                }
            }
        }
        let bad = Frequency::new(FrequencyType::Hourly, 3).map_err(|bad| bad.to_string());
        assert_eq!(
            bad,
            Err("an hourly frequency has the interval 1, 2, 4, 6, 8 or 12 (hours), not 3".to_owned())
        );
        for bad in ["weekly", "weekly/8", "ondemand/1", "weekly/x", ""] {
            assert!(bad.parse::<Frequency>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_of_day_have_bounds() {
        assert!(ReferenceTime::new(0, 0).is_ok() && ReferenceTime::new(23, 59).is_ok());
        for hour in [-1, 24, 300, i64::MAX] {
            assert_eq!(ReferenceTime::new(hour, 0), Err(BadReferenceTime::Hour(hour)));
        }
        for minute in [-1, 60, 300, i64::MIN] {
            assert_eq!(ReferenceTime::new(0, minute), Err(BadReferenceTime::Minute(minute)));
        }
        assert!(serde_json::from_str::<ReferenceTime>("[24,0]").is_err());
    }
}
