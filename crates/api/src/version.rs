//! Version negotiation by media type: a date in `Accept` selects, per operation, the newest resource
//! version that is not younger than it.

use http::{HeaderMap, HeaderValue, header::ACCEPT};
use model::WallTime;

use crate::error::{Answer, Code, Problem};

/// The newest date that MongoDB had published when this server was written: always accepted, so that
/// a machine with a wrong clock still serves today's clients.
const NEWEST_PUBLISHED: Date = Date::new(2025, 3, 12);

/// More `Accept` values than any client sends.
const ACCEPT_VALUES_MAX: usize = 32;

/// A calendar date of a resource version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Date(u32);

impl Date {
    pub(crate) const fn new(year: u32, month: u32, day: u32) -> Self {
        Self(year * 10_000 + month * 100 + day)
    }

    /// Parses `yyyy-MM-dd`; none when it is not a day of the calendar.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        jiff::civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
            .ok()?;
        Some(Self::new(year, month, day))
    }

    fn of(now: WallTime) -> Self {
        Self::parse(now.to_rfc3339().get(..10).unwrap_or_default()).unwrap_or(NEWEST_PUBLISHED)
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

/// One resource version of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    pub(crate) date: Date,
    /// `Deprecation` as Atlas writes it (an HTTP date whose day is not padded).
    pub(crate) deprecation: Option<&'static str>,
    /// `Sunset`, likewise.
    pub(crate) sunset: Option<&'static str>,
}

impl Version {
    /// A current version.
    pub(crate) const fn current(year: u32, month: u32, day: u32) -> Self {
        Self { date: Date::new(year, month, day), deprecation: None, sunset: None }
    }

    /// A deprecated version that goes on being served.
    pub(crate) const fn deprecated(mut self, since: &'static str, sunset: Option<&'static str>) -> Self {
        self.deprecation = Some(since);
        self.sunset = sunset;
        self
    }
}

/// How the version of a request is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// From `Accept` (`/api/atlas/v2`).
    Accept,
    /// Fixed by the path (`/api/atlas/v1.0`, `v1.5`): no `Accept` needed, plain JSON answered.
    Fixed(Date),
    /// Not versioned (`/api/ebbtide/v1`).
    None,
}

/// The version that a request gets, and the media type that says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected {
    pub(crate) version: Option<Version>,
    vendor: bool,
}

impl Selected {
    /// The resource date, for operations whose shape depends on it.
    pub(crate) fn date(&self) -> Date {
        self.version.map_or(NEWEST_PUBLISHED, |version| version.date)
    }

    /// `Content-Type` of a success.
    pub(crate) fn content_type(&self) -> HeaderValue {
        let plain = HeaderValue::from_static("application/json");
        match self.version {
            Some(version) if self.vendor => {
                let text = format!("application/vnd.atlas.{}+json;charset=utf-8", version.date);
                HeaderValue::from_str(&text).unwrap_or(plain)
            }
            _ => plain,
        }
    }
}

/// Selects the resource version, or answers 406.
pub(crate) fn select(
    rule: Rule,
    versions: &[Version],
    headers: &HeaderMap,
    now: WallTime,
) -> Answer<Selected> {
    let refuse = || Problem::new(Code::InvalidVersionDate);
    let (asked, vendor) = match rule {
        Rule::None => return Ok(Selected { version: None, vendor: false }),
        Rule::Fixed(date) => (date, false),
        Rule::Accept => (asked_date(headers).ok_or_else(refuse)?, true),
    };
    if vendor && asked > Date::of(now).max(NEWEST_PUBLISHED) {
        return Err(refuse());
    }
    let version = versions.iter().filter(|v| v.date <= asked).max_by_key(|v| v.date);
    // A fixed path is an alias from before versions by date: it never lacks one.
    let version = if vendor { version } else { version.or(versions.iter().min_by_key(|v| v.date)) };
    Ok(Selected { version: Some(*version.ok_or_else(refuse)?), vendor })
}

/// The date of the first `application/vnd.atlas.…` value, whatever its quality.
fn asked_date(headers: &HeaderMap) -> Option<Date> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = values
        .flat_map(|value| value.split(','))
        .take(ACCEPT_VALUES_MAX)
        .map(|value| value.split(';').next().unwrap_or_default().trim())
        .find_map(|value| strip_prefix_ignoring_case(value, "application/vnd.atlas."))?;
    Date::parse(first.strip_suffix("+json")?)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_763_769_600_000); // 2025-11-22
    const VERSIONS: &[Version] = &[
        Version::current(2023, 1, 1).deprecated("Mon, 5 Aug 2024 00:00:00 GMT", None),
        Version::current(2024, 8, 5),
    ];

    fn accept(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(text).unwrap());
        headers
    }

    fn selected(text: &str) -> Option<String> {
        select(Rule::Accept, VERSIONS, &accept(text), NOW).ok().map(|s| s.date().to_string())
    }

    #[test]
    fn d4_the_newest_version_not_after_the_date_is_taken() {
        for (asked, got) in [
            ("application/vnd.atlas.2023-01-01+json", Some("2023-01-01")),
            ("application/vnd.atlas.2024-05-30+json", Some("2023-01-01")),
            ("application/vnd.atlas.2024-08-05+json", Some("2024-08-05")),
            ("application/vnd.atlas.2024-11-13+json", Some("2024-08-05")),
            ("application/vnd.atlas.2025-01-01+json", Some("2024-08-05")),
            ("application/vnd.atlas.2025-03-12+json", Some("2024-08-05")),
            (
                "text/html, application/vnd.atlas.2023-02-01+json;q=0.2, application/vnd.atlas.2025-03-12+json",
                Some("2023-01-01"),
            ),
            ("application/vnd.atlas.2022-12-31+json", None),
            ("application/vnd.atlas.2099-01-01+json", None),
            ("application/vnd.atlas.2023-13-45+json", None),
            ("application/vnd.atlas.2023-02-30+json", None),
            ("application/vnd.atlas.20230101+json", None),
            ("application/vnd.atlas.v2+json", None),
            ("application/vnd.atlas.preview+json", None),
            ("application/vnd.atlas.upcoming+json", None),
            ("application/vnd.atlas.2025-03-12.upcoming+json", None),
            ("application/vnd.atlas.2025-03-12+csv", None),
            ("application/json", None),
            ("*/*", None),
            ("text/html", None),
        ] {
            assert_eq!(selected(asked).as_deref(), got, "{asked}");
        }
        assert!(select(Rule::Accept, VERSIONS, &HeaderMap::new(), NOW).is_err());
    }

    #[test]
    fn d6_success_names_the_resource_version_and_not_the_date_asked_for() {
        let chosen =
            select(Rule::Accept, VERSIONS, &accept("application/vnd.atlas.2025-03-12+json"), NOW).unwrap();
        assert_eq!(chosen.content_type(), "application/vnd.atlas.2024-08-05+json;charset=utf-8");
    }

    #[test]
    fn d13_the_old_paths_need_no_accept_and_answer_plain_json() {
        let rule = Rule::Fixed(Date::new(2023, 1, 1));
        let chosen = select(rule, VERSIONS, &accept("*/*"), NOW).unwrap();
        assert_eq!(chosen.content_type(), "application/json");
        assert_eq!(chosen.date(), Date::new(2023, 1, 1));
    }

    #[test]
    fn a_clock_that_is_wrong_still_serves_published_dates() {
        let chosen =
            select(Rule::Accept, VERSIONS, &accept("application/vnd.atlas.2025-03-12+json"), WallTime(0));
        assert!(chosen.is_ok());
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(ACCEPT, value);
                let _ = select(Rule::Accept, VERSIONS, &headers, NOW);
            }
        }

        #[test]
        fn near_misses_do_not_panic(tail in "\\PC{0,24}") {
            let _ = Date::parse(&tail);
            if let Ok(value) = HeaderValue::from_str(&format!("application/vnd.atlas.{tail}")) {
                let mut headers = HeaderMap::new();
                headers.insert(ACCEPT, value);
                let _ = select(Rule::Accept, VERSIONS, &headers, NOW);
            }
        }
    }
}
