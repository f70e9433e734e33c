//! How long a snapshot is kept, in units of the calendar.

use std::{fmt, str::FromStr};

use jiff::{Span, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::WallTime;

const DAY_MS: i64 = 86_400_000;

/// A unit of retention. Months and years are those of the calendar, in UTC: a month from January 31st on ends on the last
/// day of February.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetentionUnit {
    /// 24 hours.
    Days,
    /// Seven days.
    Weeks,
    /// Months of the calendar.
    Months,
    /// Years of the calendar.
    Years,
}

impl RetentionUnit {
    /// All units, shortest first.
    pub const ALL: [Self; 4] = [Self::Days, Self::Weeks, Self::Months, Self::Years];

    /// The word of a schedule's policy items.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Days => "days",
            Self::Weeks => "weeks",
            Self::Months => "months",
            Self::Years => "years",
        }
    }

    /// The word of the change of one snapshot's retention, which Atlas writes in capitals.
    pub const fn as_upper_str(self) -> &'static str {
        match self {
            Self::Days => "DAYS",
            Self::Weeks => "WEEKS",
            Self::Months => "MONTHS",
            Self::Years => "YEARS",
        }
    }

    /// `value` of these after `from`; none when that is past the calendar.
    pub fn later(self, from: WallTime, value: i64) -> Option<WallTime> {
        let span = match self {
            Self::Days => Span::new().try_days(value),
            Self::Weeks => Span::new().try_weeks(value),
            Self::Months => Span::new().try_months(value),
            Self::Years => Span::new().try_years(value),
        };
        let start = Timestamp::from_millisecond(from.0).ok()?.to_zoned(TimeZone::UTC);
        let end = start.checked_add(span.ok()?).ok()?;
        Some(WallTime(end.timestamp().as_millisecond()))
    }

    /// Its length in a common year, in twelfths of a day: the coarsest scale on which twelve months are a year.
    const fn twelfths_of_a_day(self) -> u32 {
        match self {
            Self::Days => 12,
            Self::Weeks => 7 * 12,
            Self::Months => 365,
            Self::Years => 365 * 12,
        }
    }
}

impl FromStr for RetentionUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|unit| unit.as_str() == text);
        found.ok_or_else(|| format!("a retention is told in days, weeks, months or years, not in {text:?}"))
    }
}

/// How long something is kept: at least one unit, and at most a hundred years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Retention {
    unit: RetentionUnit,
    value: u32,
}

impl Retention {
    /// The longest retention in days: a hundred years.
    pub const DAYS_MAX: u32 = 36_500;

    /// So many units.
    ///
    /// # Errors
    /// [`BadRetention`] when that is nothing, or more than a hundred years.
    pub const fn new(unit: RetentionUnit, value: u32) -> Result<Self, BadRetention> {
        if value == 0 {
            return Err(BadRetention::Nothing);
        }
        let longest = Self::DAYS_MAX * 12 / unit.twelfths_of_a_day();
        if value > longest { Err(BadRetention::TooLong { unit, value }) } else { Ok(Self { unit, value }) }
    }

    /// The unit.
    pub const fn unit(self) -> RetentionUnit {
        self.unit
    }

    /// How many of it.
    pub const fn value(self) -> u32 {
        self.value
    }

    /// How many days it has when it begins at `from`.
    pub fn days_from(self, from: WallTime) -> u32 {
        let end = self.unit.later(from, i64::from(self.value));
        let days = end.map(|end| end.0.saturating_sub(from.0) / DAY_MS);
        days.and_then(|days| u32::try_from(days).ok()).unwrap_or(Self::DAYS_MAX)
    }

    /// Its length for comparisons that know no date: twelve months are as long as a year, and a month as a twelfth of it.
    pub(crate) const fn nominal(self) -> u32 {
        self.value.saturating_mul(self.unit.twelfths_of_a_day())
    }

    /// So many days on the scale of [`Retention::nominal`].
    pub(crate) const fn nominal_days(days: u32) -> u32 {
        days.saturating_mul(RetentionUnit::Days.twelfths_of_a_day())
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.unit.as_str();
        let word = if self.value == 1 { word.trim_end_matches('s') } else { word };
        write!(f, "{} {word}", self.value)
    }
}

/// No retention is like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRetention {
    /// Zero of something.
    #[error("a retention is at least one day, week, month or year")]
    Nothing,
    /// Rather a slip than a wish.
    #[error("a retention of {value} {unit} is longer than a hundred years", unit = unit.as_str())]
    TooLong {
        /// The unit.
        unit: RetentionUnit,
        /// How many of it.
        value: u32,
    },
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Written {
    unit: RetentionUnit,
    value: u32,
}

impl TryFrom<Written> for Retention {
    type Error = BadRetention;

    fn try_from(written: Written) -> Result<Self, BadRetention> {
        Self::new(written.unit, written.value)
    }
}

impl From<Retention> for Written {
    fn from(retention: Retention) -> Self {
        Self { unit: retention.unit, value: retention.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-01-31T00:00:00Z, in a leap year.
    const JANUARY: WallTime = WallTime(1_706_659_200_000);

    #[test]
    fn units_follow_the_calendar() {
        for (unit, expected) in [
            (RetentionUnit::Days, "2024-02-01T00:00:00Z"),
            (RetentionUnit::Weeks, "2024-02-07T00:00:00Z"),
            (RetentionUnit::Months, "2024-02-29T00:00:00Z"),
            (RetentionUnit::Years, "2025-01-31T00:00:00Z"),
        ] {
            assert_eq!(unit.later(JANUARY, 1).map(WallTime::to_rfc3339).as_deref(), Some(expected));
        }
        assert_eq!(RetentionUnit::Days.later(JANUARY, i64::MAX), None);
        assert_eq!(RetentionUnit::Years.later(JANUARY, 19_000), None);
    }

    #[test]
    fn a_retention_has_the_days_of_the_calendar() -> Result<(), BadRetention> {
        for (unit, value, days) in [
            (RetentionUnit::Days, 7, 7),
            (RetentionUnit::Weeks, 4, 28),
            (RetentionUnit::Months, 1, 29),
            (RetentionUnit::Months, 12, 366),
            (RetentionUnit::Years, 1, 366),
            (RetentionUnit::Years, 2, 731),
        ] {
            assert_eq!(Retention::new(unit, value)?.days_from(JANUARY), days, "{value} {unit:?}");
        }
        Ok(())
    }

    #[test]
    fn a_retention_is_something_and_not_for_ever() -> Result<(), BadRetention> {
        for unit in RetentionUnit::ALL {
            assert_eq!(Retention::new(unit, 0), Err(BadRetention::Nothing));
            assert!(matches!(Retention::new(unit, u32::MAX), Err(BadRetention::TooLong { .. })));
            Retention::new(unit, 1)?;
        }
        Retention::new(RetentionUnit::Years, 100)?;
        assert!(Retention::new(RetentionUnit::Years, 101).is_err());
        assert!(Retention::new(RetentionUnit::Days, Retention::DAYS_MAX + 1).is_err());
        assert_eq!(Retention::new(RetentionUnit::Weeks, 1)?.to_string(), "1 week");
        assert_eq!(Retention::new(RetentionUnit::Months, 12)?.to_string(), "12 months");
        Ok(())
    }

    #[test]
    fn what_is_kept_is_checked_when_it_is_read() {
        let read = |text: &str| serde_json::from_str::<Retention>(text);
        assert!(read(r#"{"unit":"months","value":12}"#).is_ok_and(|kept| kept.value() == 12));
        assert!(read(r#"{"unit":"months","value":0}"#).is_err());
        assert!(read(r#"{"unit":"MONTHS","value":1}"#).is_err());
    }
}
