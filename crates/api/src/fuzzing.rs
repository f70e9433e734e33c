//! What a stranger may send before it is known who it is: targets for a fuzzer, and for the test below, which needs none.
//!
//! Whatever is in a head or in the form of a token request gives an answer, never a panic.

use http::{HeaderMap, HeaderValue, Uri, header};
use model::WallTime;

use crate::{
    auth::{digest::Credentials, oauth},
    download::range::{self, Wanted},
    params::Params,
    query::{Query, decode},
    version::{Date, Rule, Version, select},
};

/// A target: takes any bytes, and panics when something does not hold.
pub type Target = fn(&[u8]);

/// The targets of this package and their names, which are those of their seeds.
pub const TARGETS: [(&str, Target); 5] = [
    ("authorization", authorization),
    ("accept", accept),
    ("query", query),
    ("target", target),
    ("range", range),
];

const VERSIONS: &[Version] =
    &[Version::current(2023, 1, 1), Version::current(2023, 2, 1), Version::current(2024, 8, 5)];

/// `Authorization`: an answer to our challenge, or a client's id and secret.
pub fn authorization(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let _ = oauth::basic(&value);
    let Some((_, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else { return };
    let Some(credentials) = Credentials::parse(rest) else { return };
    assert!(
        !credentials.proves("GET", &[0; 16]) || !credentials.proves("POST", &[0; 16]),
        "one proof for all methods"
    );
    assert_eq!(Credentials::parse(rest), Some(credentials));
}

/// `Accept`: one of the versions that there are, or a refusal.
pub fn accept(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, value);
    for rule in [Rule::Accept, Rule::Fixed(Date::new(2023, 1, 1)), Rule::None] {
        let selected = select(rule, VERSIONS, &headers, WallTime(1_763_769_600_000));
        if let (Ok(selected), Rule::Accept) = (&selected, rule) {
            assert!(
                VERSIONS.iter().any(|version| version.date == selected.date()),
                "a version that is not served"
            );
        }
        let _ = selected.map(|selected| selected.content_type());
    }
}

/// A query string, or the form of a token request.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let query = Query::parse(text);
    let pairs: Vec<&str> = query.raw_without(&[]).collect();
    assert!(pairs.iter().all(|pair| text.contains(pair)), "a link has what nobody asked for");
    assert!(
        Query::parse(&pairs.join("&")).raw_without(&[]).eq(pairs.iter().copied()),
        "a link is another question"
    );
    let _ = (query.check(), query.layout(), query.envelope(), query.flag("a", false));
    let _ = (query.number("pageNum", 1, u64::MAX), query.number("itemsPerPage", 1, 500));
    if !text.contains(['%', '+']) {
        assert_eq!(decode(text), text);
    }
}

/// The target of a request: its path as ids of anything, and its query.
pub fn target(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    for segment in uri.path().split('/') {
        let value = decode(segment);
        for name in ["groupId", "orgId", "clusterName", "snapshotId", "restoreJobId", "credentialId", "other"]
        {
            let params = Params::of(&[(name, &value)]);
            if params.check().is_ok() && !matches!(name, "clusterName" | "other") {
                assert!(
                    value.len() == 24 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{value:?} is no id"
                );
            }
        }
    }
    query(uri.query().unwrap_or_default().as_bytes());
}

/// `Range` and `If-Range` of a download.
pub fn range(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    for size in [0, 1, 10_000, u64::MAX] {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, value.clone());
        match range::wanted(&headers, size, "\"tag\"") {
            Wanted::Part(part) => assert!(part.start < part.end && part.end <= size, "{part:?} of {size}"),
            Wanted::Whole | Wanted::Impossible(_) => {}
        }
        headers.insert(header::IF_RANGE, value.clone());
        let _ = range::wanted(&headers, size, "\"tag\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_true_holds_for_seeds_and_what_becomes_of_them() {
        for (name, target) in TARGETS {
            testbed::mutation::around(name, target);
        }
    }
}
