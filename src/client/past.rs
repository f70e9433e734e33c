//! `ebbtide doc …` and `ebbtide diff`.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::timeline::PointInTime;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Client, cluster, http, print, timeline};
use crate::{
    args::{Diff, Doc, Document, Output, Server, Target},
    out::{self, say},
};

/// Documents as they came: a JSON value would lose the order of their fields.
type Raw = Box<RawValue>;

/// Runs one of the commands.
pub(crate) async fn doc(command: Doc, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Doc::Show { document, at, relaxed, bson } => {
            let mut query = Query::of(&document);
            query.add("at", &at.to_string());
            query.flag("relaxed", relaxed);
            query.flag("bson", bson.is_some());
            let text = client.get_text(&query.path(&document.target, "document")).await?;
            let shown: Shown = serde_json::from_str(&text).context("understand the server's answer")?;
            if let (Some(file), Some(bytes)) = (&bson, &shown.bson) {
                let bytes = STANDARD.decode(bytes).context("understand the server's answer")?;
                std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))?;
            }
            match output {
                Output::Json => say!("{text}"),
                Output::Text => {
                    let at = timeline::time(&shown.at);
                    eprintln!(
                        "{} {} at {at}, from snapshot {}",
                        document.namespace, shown.id, shown.snapshot
                    );
                    say!("{}", indented(shown.document.get()));
                }
            }
        }
        Doc::History { document, from, to, limit, documents, relaxed } => {
            let mut query = Query::of(&document);
            query.point("from", from);
            query.point("to", to);
            query.add("limit", &limit.to_string());
            query.flag("documents", documents);
            query.flag("relaxed", relaxed);
            let text = client.get_text(&query.path(&document.target, "document/versions")).await?;
            match output {
                Output::Json => say!("{text}"),
                Output::Text => {
                    let history = serde_json::from_str(&text).context("understand the server's answer")?;
                    out::text(&listed(&history));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `ebbtide diff`.
pub(crate) async fn diff(command: Diff, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    let mut query = Query::default();
    query.add("namespace", &command.namespace);
    query.point("from", Some(command.from));
    query.point("to", Some(command.to));
    query.add("limit", &command.limit.to_string());
    query.flag("relaxed", command.relaxed);
    let text = client.get_text(&query.path(&command.target, "diff")).await?;
    match output {
        Output::Json => say!("{text}"),
        Output::Text => {
            let difference = serde_json::from_str(&text).context("understand the server's answer")?;
            out::text(&compared(&difference));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A query string.
#[derive(Default)]
struct Query(String);

impl Query {
    fn of(document: &Document) -> Self {
        let mut query = Self::default();
        query.add("namespace", &document.namespace);
        query.add("id", &document.id);
        query
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&http::segment(value));
    }

    fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.add(name, "true");
        }
    }

    fn point(&mut self, name: &str, point: Option<PointInTime>) {
        if let Some(point) = point {
            self.add(name, &point.to_string());
        }
    }

    fn path(&self, target: &Target, what: &str) -> String {
        format!("{}/{what}{}", cluster::path(target), self.0)
    }
}

#[derive(Deserialize)]
struct Shown {
    at: Value,
    id: Raw,
    document: Raw,
    bson: Option<String>,
    #[serde(rename = "snapshotId")]
    snapshot: String,
}

#[derive(Deserialize)]
struct History {
    versions: Vec<Version>,
    /// Where the next page begins, if there is one.
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    at: Value,
    operation: String,
    exists: bool,
    wall_time: Option<String>,
    #[serde(default)]
    changed_fields: Vec<String>,
    document: Option<Raw>,
}

fn listed(history: &History) -> String {
    let row = |version: &Version| {
        json!({
            "at": format!("{},{}", version.at["seconds"], version.at["increment"]),
            "time": version.wall_time.clone().unwrap_or_else(|| print::field(&version.at, "date")),
            "operation": version.operation,
            "what": if !version.exists { "gone".to_owned() } else { version.changed_fields.join(", ") },
        })
    };
    let rows: Vec<Value> = history.versions.iter().map(row).collect();
    let columns: [print::Column; 4] = [
        ("AT", |row| print::field(row, "at")),
        ("TIME", |row| print::field(row, "time")),
        ("OPERATION", |row| print::field(row, "operation")),
        ("FIELDS", |row| print::field(row, "what")),
    ];
    let table = print::table(&rows, &columns);
    let mut lines = table.lines();
    let mut text = String::new();
    text.extend(lines.next().map(|title| format!("{title}\n")));
    for (line, version) in lines.zip(&history.versions) {
        text.push_str(line);
        text.push('\n');
        text.extend(version.document.as_ref().map(|document| format!("    {}\n", document.get())));
    }
    if let Some(next) = &history.next {
        // Writing to a string never fails.
        let _ = writeln!(text, "there are earlier versions: go on with --to {next}");
    }
    text
}

#[derive(Deserialize)]
struct Difference {
    definition: Vec<Redefined>,
    documents: Option<Changes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Redefined {
    change: String,
    renamed_to: Option<String>,
    before: Option<Raw>,
    after: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    added: u64,
    removed: u64,
    changed: u64,
    shown: Vec<Changed>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Changed {
    id: Raw,
    before: Option<Raw>,
    after: Option<Raw>,
}

fn compared(difference: &Difference) -> String {
    let mut text = String::new();
    let sides = |text: &mut String, before: Option<&Raw>, after: Option<&Raw>| {
        text.extend(before.map(|before| format!("  - {}\n", before.get())));
        text.extend(after.map(|after| format!("  + {}\n", after.get())));
    };
    for change in &difference.definition {
        let said = match (change.change.as_str(), &change.renamed_to) {
            ("created", _) => "the collection was created".to_owned(),
            ("dropped", _) => "the collection was dropped".to_owned(),
            ("renamed", Some(name)) => format!("the collection was renamed to {name}"),
            ("replaced", _) => "another collection has the name".to_owned(),
            ("options", _) => "the options of the collection are others".to_owned(),
            ("indexAdded", _) => "an index is new".to_owned(),
            ("indexDropped", _) => "an index is gone".to_owned(),
            (other, _) => other.to_owned(),
        };
        text.push_str(&said);
        text.push('\n');
        sides(&mut text, change.before.as_ref(), change.after.as_ref());
    }
    let Some(documents) = &difference.documents else {
        text.push_str("its documents are not compared: it is not the same collection at both times\n");
        return text;
    };
    let Changes { added, removed, changed, shown, has_more } = documents;
    // Writing to a string never fails.
    let _ = writeln!(text, "{added} documents added, {removed} removed, {changed} changed");
    for change in shown {
        let _ = writeln!(text, "{}", change.id);
        sides(&mut text, change.before.as_ref(), change.after.as_ref());
    }
    if *has_more {
        let rest = (added + removed + changed).saturating_sub(shown.len() as u64);
        let _ = writeln!(text, "and {rest} more: ask for more with --limit, or for a shorter time");
    }
    text
}

/// JSON on several lines, its fields in their order.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) =
        (String::with_capacity(2 * json.len()), 0, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        if in_text {
            out.push(character);
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                if characters.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    out.extend(characters.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = usize::saturating_sub(depth, 1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                in_text = other == '"';
                out.push(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_document_is_laid_out_in_its_order() {
        let text = indented(r#"{"z":{"$numberInt":"1"},"a":["x, \"{:\\",{},[]],"e":true}"#);
        let expected = [
            "{",
            "  \"z\": {",
            "    \"$numberInt\": \"1\"",
            "  },",
            "  \"a\": [",
            r#"    "x, \"{:\\","#,
            "    {},",
            "    []",
            "  ],",
            "  \"e\": true",
            "}",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn versions_are_lines_and_the_next_page_is_what_to_type() {
        let history = serde_json::from_value(json!({
            "next": "1767323000,4",
            "versions": [
                {"at": {"seconds": 1_767_323_045, "increment": 7, "date": "2026-01-02T03:04:05Z"}, "operation": "delete",
                 "exists": false, "wallTime": "2026-01-02T03:04:06Z"},
                {"at": {"seconds": 1_767_323_000, "increment": 5, "date": "2026-01-02T03:03:20Z"}, "operation": "update",
                 "exists": true, "changedFields": ["n", "list"]},
            ],
        }));
        let text = listed(&history.unwrap());
        for line in [
            "1767323045,7  2026-01-02T03:04:06Z  delete     gone\n",
            "1767323000,5  2026-01-02T03:03:20Z  update     n, list\n",
            "--to 1767323000,4\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing:\n{text}");
        }
    }

    #[test]
    fn documents_that_differ_are_shown_with_both_sides() {
        let text = r#"{"definition":[{"change":"indexAdded","after":{"name":"n_1"}}],"documents":{"added":1,"removed":0,
            "changed":4,"hasMore":true,"shown":[{"id":1,"before":{"z":1,"a":2},"after":{"z":3}}]}}"#;
        let text = compared(&serde_json::from_str(text).unwrap());
        let expected = "an index is new\n  + {\"name\":\"n_1\"}\n1 documents added, 0 removed, 4 changed\n1\n  - \
                        {\"z\":1,\"a\":2}\n  + {\"z\":3}\nand 4 more: ask for more with --limit, or for a shorter time\n";
        assert_eq!(text, expected);
        let dropped = compared(&serde_json::from_str(r#"{"definition":[{"change":"dropped"}]}"#).unwrap());
        assert!(dropped.contains("was dropped") && dropped.contains("not compared"), "{dropped}");
    }

    #[test]
    fn whatever_is_typed_survives_the_query_string() {
        let mut query = Query::default();
        query.add("id", "{\"$oid\":\"é &=+%\"}");
        assert_eq!(query.0, "?id=%7B%22%24oid%22%3A%22%C3%A9%20%26%3D%2B%25%22%7D");
    }
}
