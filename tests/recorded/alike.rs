//! Whether an answer is the one that was recorded, but for what is another one's by nature: ids, times, sizes, ports.

use serde_json::Value;

/// Numbers that are measured or counted by somebody else, and so are others each time.
const MEASURED: [&str; 3] = ["storageSizeBytes", "exportedCollections", "increment"];
/// What a job gets as it goes on. A client that saw a job begin may see it further on now.
const PROGRESS: [&str; 7] =
    ["finishedAt", "deliveryUrl", "status", "state", "storageSizeBytes", "expiresAt", "timestamp"];
/// Computed beside everything else, unless the archive is gone before.
const LATE: &str = "hashes";
/// From its beginning to its end.
const STATES: [&[&str]; 3] = [
    &["queued", "inProgress", "completed"],
    &["Queued", "InProgress", "Successful"],
    &["QUEUED", "RUNNING", "COMPLETED"],
];

/// How an answer differs from what was recorded, in which the names that are known are those of today. What is asked for only once
/// `may_be_behind` what was seen then.
pub fn difference(recorded: &Value, found: &Value, may_be_behind: bool) -> Option<String> {
    let mut differences = Vec::new();
    compare(("", ""), recorded, found, may_be_behind, &mut differences);
    (!differences.is_empty()).then(|| differences.join("; "))
}

fn compare(
    (path, key): (&str, &str),
    recorded: &Value,
    found: &Value,
    may_be_behind: bool,
    differences: &mut Vec<String>,
) {
    match (recorded, found) {
        (Value::Object(recorded), Value::Object(found)) => {
            for (name, value) in recorded {
                let path = format!("{path}/{name}");
                match found.get(name) {
                    Some(other) => compare((&path, name), value, other, may_be_behind, differences),
                    None if name == LATE => {}
                    None if may_be_behind && PROGRESS.contains(&name.as_str()) => {}
                    None => differences.push(format!("{path} is missing")),
                }
            }
            let more = found.keys().filter(|name| !recorded.contains_key(*name));
            let more = more.filter(|name| *name != LATE && !PROGRESS.contains(&name.as_str()));
            differences.extend(more.map(|name| format!("{path}/{name} was not there")));
        }
        (Value::Array(recorded), Value::Array(found)) if recorded.len() == found.len() => {
            for (at, (one, other)) in recorded.iter().zip(found).enumerate() {
                compare((&format!("{path}/{at}"), key), one, other, may_be_behind, differences);
            }
        }
        (Value::Array(recorded), Value::Array(_)) if recorded.is_empty() && PROGRESS.contains(&key) => {}
        (Value::Number(_), Value::Number(_)) if MEASURED.contains(&key) => {}
        (Value::String(recorded), Value::String(found)) if are_alike(key, recorded, found, may_be_behind) => {
        }
        _ if recorded == found => {}
        _ => differences.push(format!("{path} is {found} and was {recorded}")),
    }
}

fn are_alike(key: &str, recorded: &str, found: &str, may_be_behind: bool) -> bool {
    let progress = STATES.iter().any(|states| {
        let place = |state: &str| states.iter().position(|other| *other == state);
        place(recorded).zip(place(found)).is_some_and(|(before, now)| may_be_behind || before <= now)
    });
    let are_times = [recorded, found].iter().all(|text| text.parse::<jiff::Timestamp>().is_ok());
    // Texts for people tell times.
    recorded == found || progress || are_times || ["detail", "prefix"].contains(&key)
}

/// Names of the recording and what has taken their place, as far as an answer tells: ids, and where archives are.
pub fn renamed(recorded: &Value, found: &Value, names: &mut Vec<(String, String)>) {
    match (recorded, found) {
        (Value::Object(recorded), Value::Object(found)) => {
            for (name, value) in recorded {
                found.get(name).into_iter().for_each(|other| renamed(value, other, names));
            }
        }
        (Value::Array(recorded), Value::Array(found)) => {
            recorded.iter().zip(found).for_each(|(one, other)| renamed(one, other, names));
        }
        (Value::String(recorded), Value::String(found)) if recorded != found => {
            let are_ids = [recorded, found].iter().all(|text| is_id(text));
            let are_archives = [recorded, found].iter().all(|text| text.ends_with(".tar.gz"));
            let is_known = |names: &[(String, String)]| names.iter().any(|(_, now)| now == recorded);
            if (are_ids || are_archives) && !is_known(names) {
                names.push((path_of(recorded).to_owned(), path_of(found).to_owned()));
            }
        }
        _ => {}
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(url)
}

#[test]
fn what_differs_by_nature_is_alike_and_nothing_else() {
    use serde_json::json;
    let recorded = json!({
        "id": "a", "status": "queued", "createdAt": "2026-01-01T00:00:00Z", "failed": false, "n": 3,
        "storageSizeBytes": 5, "list": [1],
    });
    let with = |changes: Value| {
        let mut other = recorded.clone();
        let fields = other.as_object_mut().unwrap();
        changes.as_object().unwrap().iter().for_each(|(name, value)| {
            fields.insert(name.clone(), value.clone());
        });
        difference(&recorded, &other, false)
    };
    for alike in [
        json!({}),
        json!({"status": "completed", "finishedAt": "2026-01-01T00:00:00Z"}),
        json!({"createdAt": "2027-01-01T00:00:00Z"}),
        json!({"storageSizeBytes": 6}),
    ] {
        assert_eq!(with(alike.clone()), None, "{alike}");
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
    ] {
        assert!(with(other.clone()).is_some(), "{other}");
    }
    assert_eq!(difference(&json!({"id": 1}), &json!({}), true).as_deref(), Some("/id is missing"));
    let [ended, begun] =
        [json!({"status": "completed", "finishedAt": "2026-01-01T00:00:00Z"}), json!({"status": "queued"})];
    assert!(difference(&ended, &begun, false).is_some(), "it went back");
    assert_eq!(difference(&ended, &begun, true), None);
}

#[test]
fn names_are_learnt_from_answers() {
    use serde_json::json;
    let [old, new] = ["a".repeat(24), "b".repeat(24)];
    let answer = |id: &str, host: &str| json!({"id": id, "name": "main", "deliveryUrl": [format!("http://{host}/x-{id}/restore.tar.gz")]});
    let mut names = Vec::new();
    renamed(&answer(&old, "one"), &answer(&new, "two"), &mut names);
    let path = |id: &str| format!("/x-{id}/restore.tar.gz");
    // In the order of the fields' names.
    assert_eq!(names, [(path(&old), path(&new)), (old, new)]);
}
