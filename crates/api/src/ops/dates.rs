//! Retention in calendar units.

use jiff::{Span, Timestamp, tz::TimeZone};
use model::WallTime;

/// A unit of retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Days,
    Weeks,
    Months,
    Years,
}

impl Unit {
    /// As the snapshot's PATCH writes it: in capitals.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "DAYS" => Some(Self::Days),
            "WEEKS" => Some(Self::Weeks),
            "MONTHS" => Some(Self::Months),
            "YEARS" => Some(Self::Years),
            _ => None,
        }
    }
}

/// `from`, `value` units later in UTC; none when that is past the calendar.
pub(super) fn later(from: WallTime, value: i64, unit: Unit) -> Option<WallTime> {
    let span = match unit {
        Unit::Days => Span::new().try_days(value),
        Unit::Weeks => Span::new().try_weeks(value),
        Unit::Months => Span::new().try_months(value),
        Unit::Years => Span::new().try_years(value),
    };
    let start = Timestamp::from_millisecond(from.0).ok()?.to_zoned(TimeZone::UTC);
    let end = start.checked_add(span.ok()?).ok()?;
    Some(WallTime(end.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_calendar() {
        let from = WallTime(1_706_659_200_000); // 2024-01-31
        for (unit, expected) in [
            (Unit::Days, "2024-02-01T00:00:00Z"),
            (Unit::Weeks, "2024-02-07T00:00:00Z"),
            (Unit::Months, "2024-02-29T00:00:00Z"),
            (Unit::Years, "2025-01-31T00:00:00Z"),
        ] {
            assert_eq!(later(from, 1, unit).map(WallTime::to_rfc3339).as_deref(), Some(expected));
        }
        assert_eq!(later(from, i64::MAX, Unit::Days), None);
        assert_eq!(later(from, 19_000, Unit::Years), None);
    }
}
