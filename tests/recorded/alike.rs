//! Whether an answer is the one that was recorded, but for what is another one's by nature: ids, times, sizes, ports.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Numbers that are measured: others each time, and nothing where they were nothing.
const MEASURED: [&str; 2] = ["storageSizeBytes", "increment"];
/// What a job gets as it goes on.
const PROGRESS: [&str; 9] = [
    "finishedAt",
    "deliveryUrl",
    "status",
    "state",
    "storageSizeBytes",
    "expiresAt",
    "expired",
    "exportStatus",
    "mongodVersion",
];
/// What a job does not have before.
const AT_THE_END: [&str; 3] = ["finishedAt", "expiresAt", "mongodVersion"];
/// What tells by itself that a job is not as far as it was.
const BEFORE_ITS_END: [&str; 3] = ["deliveryUrl", "exportedCollections", "totalCollections"];
/// A snapshot may be counted from its beginning or its end.
const LIFETIME_DIFFERENCE_SECONDS: u64 = 120;
/// From its beginning to its end.
const STATES: [&[&str]; 3] = [
    &["queued", "inProgress", "completed"],
    &["Queued", "InProgress", "Successful"],
    &["QUEUED", "RUNNING", "COMPLETED"],
];

/// How an answer compares with what was recorded.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    Alike,
    /// A job is not as far as it was then, and may get there.
    Behind(String),
    Different(String),
}

/// Compares an answer with what was recorded, in which the names that are known are those of today.
pub fn compare(recorded: &Value, found: &Value) -> Compared {
    let mut seen = Seen::default();
    seen.compare(("", ""), recorded, found);
    match (seen.different.is_empty(), seen.behind.is_empty()) {
        (true, true) => Compared::Alike,
        (true, false) => Compared::Behind(seen.behind.join("; ")),
        (false, _) => Compared::Different([seen.different, seen.behind].concat().join("; ")),
    }
}

#[derive(Default)]
struct Seen {
    behind: Vec<String>,
    different: Vec<String>,
}

impl Seen {
    fn compare(&mut self, (path, key): (&str, &str), recorded: &Value, found: &Value) {
        match (recorded, found) {
            (Value::Object(recorded), Value::Object(found)) => self.fields(path, recorded, found),
            (Value::Array(recorded), Value::Array(found)) if recorded.len() == found.len() => {
                for (at, (one, other)) in recorded.iter().zip(found).enumerate() {
                    self.compare((&format!("{path}/{at}"), key), one, other);
                }
            }
            (Value::Number(one), Value::Number(other)) if MEASURED.contains(&key) => {
                if (one.as_u64() == Some(0)) != (other.as_u64() == Some(0)) {
                    self.differs(path, key, recorded, found);
                }
            }
            (Value::String(one), Value::String(other)) if are_alike(one, other) => {}
            _ if recorded == found => {}
            _ => self.differs(path, key, recorded, found),
        }
    }

    fn fields(&mut self, path: &str, recorded: &Map<String, Value>, found: &Map<String, Value>) {
        let state = |job: &Map<String, Value>, name| job.get(name).cloned().unwrap_or_default();
        for name in ["state", "status"] {
            let (before, now) = (state(recorded, name), state(found, name));
            if is_further(&now, &before) {
                // All else is looked at when it gets there.
                return self.behind.push(format!("{path}/{name} is {now} and was {before}"));
            }
        }
        let says = |job: &Map<String, Value>, name| job.get(name) == Some(&Value::Bool(true));
        if says(recorded, "expired") && !says(found, "expired") && !says(found, "cancelled") {
            return self.behind.push(format!("{path} has not expired, and had"));
        }
        if let Some((before, now)) = lifetime(recorded).zip(lifetime(found))
            && before.abs_diff(now) > LIFETIME_DIFFERENCE_SECONDS
        {
            self.different.push(format!("{path} expires after {now} s and did after {before} s"));
        }
        // Whoever saw a job begin may see it further on now; one that has ended stays as it is.
        let may_go_on = is_under_way(recorded);
        for (name, value) in recorded {
            let path = format!("{path}/{name}");
            match found.get(name) {
                Some(other) if may_go_on && PROGRESS.contains(&name.as_str()) && is_further(value, other) => {
                }
                Some(other) => self.compare((&path, name), value, other),
                // An archive's sums go with it.
                None if name == "hashes" && is_over(found) => {}
                None if AT_THE_END.contains(&name.as_str()) && is_under_way(found) => {
                    self.behind.push(format!("{path} is missing"));
                }
                None => self.different.push(format!("{path} is missing")),
            }
        }
        for name in found.keys().filter(|name| !recorded.contains_key(*name)) {
            let is_progress = may_go_on && PROGRESS.contains(&name.as_str());
            let is_of_archive = name == "hashes" && is_over(recorded);
            if !is_progress && !is_of_archive {
                self.different.push(format!("{path}/{name} was not there"));
            }
        }
    }

    fn differs(&mut self, path: &str, key: &str, recorded: &Value, found: &Value) {
        let how = format!("{path} is {found} and was {recorded}");
        let behind = BEFORE_ITS_END.contains(&key) && is_further(found, recorded);
        if behind { self.behind.push(how) } else { self.different.push(how) }
    }
}

/// Seconds from when something was made to its end.
fn lifetime(of: &Map<String, Value>) -> Option<i64> {
    let time = |name: &str| of.get(name)?.as_str()?.parse::<jiff::Timestamp>().ok();
    Some(time("expiresAt")?.as_second() - time("createdAt")?.as_second())
}

/// Of a job: neither ended nor cancelled nor failed when it was seen.
fn is_under_way(job: &Map<String, Value>) -> bool {
    let says = |name: &str| job.get(name) == Some(&Value::Bool(true));
    let has_ended = STATES.iter().filter_map(|states| states.last()).any(|last| {
        ["state", "status"].iter().any(|name| job.get(*name).and_then(Value::as_str) == Some(last))
    });
    !has_ended && !job.contains_key("finishedAt") && !["cancelled", "expired", "failed"].into_iter().any(says)
}

/// Of a legacy job: its archive cannot be fetched any more.
fn is_over(job: &Map<String, Value>) -> bool {
    let delivery = job.get("delivery").and_then(|delivery| delivery["statusName"].as_str());
    matches!(delivery, Some("INTERRUPTED" | "MAX_DOWNLOADS_EXCEEDED" | "EXPIRED"))
}

/// Whether a job with `after` in a field is further than one with `before`.
fn is_further(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::String(before), Value::String(after)) => STATES.iter().any(|states| {
            let place = |state: &str| states.iter().position(|other| *other == state);
            place(before).zip(place(after)).is_some_and(|(before, after)| before < after)
        }),
        (Value::Array(before), Value::Array(after)) => before.is_empty() && !after.is_empty(),
        (Value::Bool(before), Value::Bool(after)) => !before && *after,
        (Value::Object(before), Value::Object(_)) => before.values().all(|count| *count == 0),
        (Value::Number(before), Value::Number(after)) => {
            before.as_u64() == Some(0) && after.as_u64() > Some(0)
        }
        _ => false,
    }
}

fn are_alike(recorded: &str, found: &str) -> bool {
    let are_sums = [recorded, found].iter().all(|text| text.len() == 40 && hex(text));
    recorded == found || are_sums || without_times(recorded) == without_times(found)
}

pub fn is_id(text: &str) -> bool {
    text.len() == 24 && hex(text)
}

fn hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The text with a placeholder for every time in it: those of RFC 3339, those of a path of an export, and operation times.
fn without_times(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.+,".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (between, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !is_part(c)).unwrap_or(word.len()));
        let (bare, stop) = word.split_at(word.trim_end_matches(['.', ',']).len());
        out.push_str(between);
        out.push_str(if is_time(bare) { "TIME" } else { bare });
        out.push_str(stop);
        rest = after;
    }
    out + rest
}

fn is_time(word: &str) -> bool {
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    // 2026-11-30T1623; seconds since 1970, and a counter beside them.
    let in_path = || {
        let (date, time) = word.split_once('T')?;
        Some(date.len() == 10 && date.split('-').map(str::len).eq([4, 2, 2]) && digits(time, 4))
    };
    let (seconds, counter) = word.split_once(',').unwrap_or((word, "0"));
    let is_operation = digits(seconds, 10) && digits(counter, counter.len());
    word.parse::<jiff::Timestamp>().is_ok() || in_path() == Some(true) || is_operation
}

/// What was called one way in a recording, and is called another now.
#[derive(Debug, Clone, Default)]
pub struct Names {
    new: BTreeMap<String, String>,
    old: BTreeMap<String, String>,
}

impl Names {
    /// Remembers a pair, unless one of the two has another partner already.
    pub fn learn(&mut self, old: &str, new: &str) {
        if !self.new.contains_key(old) && !self.old.contains_key(new) {
            self.new.insert(old.to_owned(), new.to_owned());
            self.old.insert(new.to_owned(), old.to_owned());
        }
    }

    /// Learns the ids and the addresses of archives in an answer. What the client said `before` it was told is no name that was
    /// given.
    pub fn learn_all(&mut self, recorded: &Value, found: &Value, before: &dyn Fn(&str) -> bool) {
        match (recorded, found) {
            (Value::Object(recorded), Value::Object(found)) => {
                for (name, value) in recorded {
                    found.get(name).into_iter().for_each(|other| self.learn_all(value, other, before));
                }
            }
            (Value::Array(recorded), Value::Array(found)) => {
                recorded.iter().zip(found).for_each(|(one, other)| self.learn_all(one, other, before));
            }
            (Value::String(recorded), Value::String(found)) => {
                if is_id(recorded) && is_id(found) {
                    if !before(recorded) {
                        self.learn(recorded, found);
                    }
                } else if let Some((old, new)) = secret_of(recorded).zip(secret_of(found)) {
                    self.learn(old, new);
                }
            }
            _ => {}
        }
    }

    pub fn renew(&self, text: &str) -> String {
        self.new.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
    }
}

/// The part of an archive's address that nobody can guess.
fn secret_of(url: &str) -> Option<&str> {
    let mut parts = url.strip_suffix(".tar.gz")?.rsplit('/');
    parts.nth(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_by_nature_is_alike_and_nothing_else() {
        let recorded = json!({
            "id": "a", "status": "queued", "createdAt": "2026-01-01T00:00:00Z", "failed": false, "n": 3,
            "storageSizeBytes": 5, "list": [1], "detail": "From 2026-01-01T00:00:00Z (1796055592,51).",
            "prefix": "/exported/2026-01-01T1623/1796055592", "deliveryUrl": [], "expiresAt": "2026-01-04T00:00:00Z",
        });
        let with = |changes: Value| {
            let mut other = recorded.clone();
            other.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            other
        };
        for alike in [
            json!({}),
            json!({"status": "completed", "finishedAt": "2026-01-01T00:00:00Z"}),
            json!({"createdAt": "2027-01-01T00:00:00Z", "expiresAt": "2027-01-04T00:00:09Z"}),
            json!({"storageSizeBytes": 6, "deliveryUrl": ["http://x/a"]}),
            json!({"detail": "From 2026-01-01T00:00:09Z (1796055599,52)."}),
            json!({"prefix": "/exported/2027-01-01T1623/1796055599"}),
        ] {
            assert_eq!(compare(&recorded, &with(alike.clone())), Compared::Alike, "{alike}");
        }
        for other in [
            json!({"id": "b"}),
            json!({"status": "failed"}),
            json!({"createdAt": "yesterday"}),
            json!({"failed": true}),
            json!({"n": 4}),
            json!({"n": "3"}),
            json!({"list": [1, 2]}),
            json!({"more": null}),
            json!({"storageSizeBytes": 0}),
            json!({"expiresAt": "2026-01-02T00:00:00Z"}),
            json!({"detail": "Until 2026-01-01T00:00:09Z (1796055599,51)."}),
            json!({"prefix": "/elsewhere/2027-01-01T1623/1796055599"}),
        ] {
            let found = compare(&recorded, &with(other.clone()));
            assert!(matches!(found, Compared::Different(_)), "{other}: {found:?}");
        }
        assert_eq!(compare(&json!({"id": 1}), &json!({})), Compared::Different("/id is missing".to_owned()));
    }

    #[test]
    fn a_job_that_is_behind_may_get_there_and_one_that_has_ended_goes_nowhere() {
        let ended =
            json!({"status": "completed", "finishedAt": "2026-01-01T00:00:00Z", "deliveryUrl": ["a"]});
        let begun = json!({"status": "queued", "deliveryUrl": []});
        assert!(matches!(compare(&ended, &begun), Compared::Behind(_)));
        assert_eq!(compare(&begun, &ended), Compared::Alike);
        let cancelled = json!({"cancelled": true, "deliveryUrl": []});
        let linked = json!({"cancelled": true, "deliveryUrl": ["a"]});
        assert!(matches!(compare(&cancelled, &linked), Compared::Different(_)), "a link that is dead");
        let expired = json!({"cancelled": false, "expired": true});
        assert!(matches!(
            compare(&expired, &json!({"cancelled": false, "expired": false})),
            Compared::Behind(_)
        ));
    }

    #[test]
    fn names_are_learnt_once_and_each_has_one_partner() {
        let [old, new, third] = ["a", "b", "c"].map(|letter| letter.repeat(24));
        let answer = |id: &str, secret: &str| json!({"id": id, "name": "main", "deliveryUrl": [format!("http://x/{id}/{secret}/restore.tar.gz")]});
        let mut names = Names::default();
        names.learn_all(&answer(&old, "one"), &answer(&new, "two"), &|_| false);
        assert_eq!(names.renew(&format!("/{old}/one/x")), format!("/{new}/two/x"));
        names.learn_all(&json!({"id": old}), &json!({"id": third}), &|_| false);
        names.learn_all(&json!({"id": third}), &json!({"id": new}), &|_| false);
        assert_eq!(names.renew(&format!("{old}{third}")), format!("{new}{third}"));
        names.learn_all(&json!({"role": third}), &json!({"role": old}), &|id| id == third);
        assert_eq!(names.renew(&third), third, "the client chose it");
    }
}
