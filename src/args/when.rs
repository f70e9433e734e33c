//! A point in time, as it is typed.

use model::{ClusterTime, timeline::PointInTime};

const FORMS: &str =
    "an operation as SECONDS,INCREMENT, a time such as 2026-01-02T03:04:05Z, or seconds since the epoch";

/// Reads `SECONDS,INCREMENT` (the state after that operation), or an RFC 3339 time or seconds since the epoch (the state
/// at the beginning of that second).
pub(super) fn parse(text: &str) -> Result<PointInTime, String> {
    if text.contains(',') {
        let time: ClusterTime = text.parse().map_err(|_| format!("{text:?} is not {FORMS}"))?;
        if time.increment == 0 {
            return Err("operations are counted from 1 on in each second".to_owned());
        }
        return Ok(PointInTime::Operation(time));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_| format!("{text} seconds since the epoch are too many"))?;
        return Ok(PointInTime::Second(seconds));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is not {FORMS}"))?;
    if time.subsec_nanosecond() != 0 {
        return Err(
            "a time is a whole second; within one, name the operation as SECONDS,INCREMENT".to_owned()
        );
    }
    let seconds = u32::try_from(time.as_second());
    seconds.map(PointInTime::Second).map_err(|_| format!("no operation was or will be recorded at {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_typed_in_three_ways() {
        let operation = ClusterTime { seconds: 1_767_323_045, increment: 7 };
        assert_eq!(parse("1767323045,7"), Ok(PointInTime::Operation(operation)));
        for same in
            ["1767323045", "2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05.000Z"]
        {
            assert_eq!(parse(same), Ok(PointInTime::Second(1_767_323_045)), "{same}");
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
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
