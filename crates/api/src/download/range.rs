//! `Range` and `If-Range` of a download: one range of bytes, or the whole.

use std::ops::Range;

use http::{HeaderMap, header};

/// What a request wants of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Impossible(String),
}

/// Reads the headers. A range that is not understood, or several at once, mean the whole, as RFC 9110 allows.
pub(crate) fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else { return Wanted::Whole };
    // A date, a weak tag or another tag: what the client has is of something else.
    if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
        return Wanted::Whole;
    }
    let Some((unit, spec)) = range.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Too many digits for a number are more than any size.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let impossible = || Wanted::Impossible(spec.chars().take(64).collect());
    match (first, number(first), last, number(last)) {
        ("", None, _, Some(suffix)) if suffix > 0 && size > 0 => {
            Wanted::Part(size.saturating_sub(suffix)..size)
        }
        ("", None, _, Some(_)) => impossible(),
        (_, Some(from), "", None) if from < size => Wanted::Part(from..size),
        (_, Some(from), _, Some(to)) if from <= to && from < size => {
            Wanted::Part(from..to.saturating_add(1).min(size))
        }
        (_, Some(from), _, Some(to)) if from > to => Wanted::Whole,
        (_, Some(_), "", None) | (_, Some(_), _, Some(_)) => impossible(),
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const TAG: &str = "\"aa\"";

    fn of(range: &str, if_range: Option<&str>) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(tag).unwrap());
        }
        wanted(&headers, 100, TAG)
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (range, expected) in [
            ("bytes=0-", Wanted::Part(0..100)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=99-500", Wanted::Part(99..100)),
            ("bytes=-5", Wanted::Part(95..100)),
            ("bytes=-500", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Impossible("100-".into())),
            ("bytes=-0", Wanted::Impossible("-0".into())),
            ("bytes=99999999999999999999-", Wanted::Impossible("99999999999999999999-".into())),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=", Wanted::Whole),
        ] {
            assert_eq!(of(range, None), expected, "{range}");
        }
    }

    #[test]
    fn another_tag_means_the_whole() {
        assert_eq!(of("bytes=1-", Some(TAG)), Wanted::Part(1..100));
        assert_eq!(of("bytes=1-", Some("\"bb\"")), Wanted::Whole);
        assert_eq!(of("bytes=1-", Some("W/\"aa\"")), Wanted::Whole);
        assert_eq!(of("bytes=1-", Some("Sun, 06 Nov 1994 08:49:37 GMT")), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn no_part_leaves_the_archive(text in "bytes=[0-9]{0,4}-[0-9]{0,4}", size in 0_u64..300) {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(&text).unwrap());
            if let Wanted::Part(range) = wanted(&headers, size, TAG) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
