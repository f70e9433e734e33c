//! Results for people and for programs.

use serde_json::Value;

use crate::{
    args::Output,
    out::{self, say},
};

/// One column of a table: its title, and where its text comes from.
pub(crate) type Column = (&'static str, fn(&Value) -> String);

/// Prints a list as a table or as a JSON array.
pub(crate) fn list(output: Output, rows: &[Value], columns: &[Column]) {
    match output {
        Output::Json => json(&Value::Array(rows.to_vec())),
        Output::Text => out::text(&table(rows, columns)),
    }
}

/// Prints one thing as `name: value` lines or as JSON.
pub(crate) fn one(output: Output, value: &Value) {
    match output {
        Output::Json => json(value),
        Output::Text => out::text(&lines(value, 0)),
    }
}

/// Prints a sentence for people, or JSON for programs.
pub(crate) fn said(output: Output, sentence: &str, value: &Value) {
    match output {
        Output::Json => json(value),
        Output::Text => say!("{sentence}"),
    }
}

/// Text of a field, `-` when there is none.
pub(crate) fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Bytes with a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

fn json(value: &Value) {
    say!("{}", serde_json::to_string_pretty(value).expect("a JSON value is always written"));
}

/// Lines of columns.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()];
    cells.extend(rows.iter().map(|row| columns.iter().map(|(_, text)| text(row)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    cells
        .iter()
        .map(|row| {
            let line: String =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}

fn lines(value: &Value, indent: usize) -> String {
    let Value::Object(fields) = value else { return format!("{value}\n") };
    let pad = " ".repeat(indent);
    fields
        .iter()
        .filter(|(name, _)| *name != "links")
        .map(|(name, value)| match value {
            Value::Object(_) => format!("{pad}{name}:\n{}", lines(value, indent + 2)),
            Value::String(text) => format!("{pad}{name}: {text}\n"),
            other => format!("{pad}{name}: {other}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_align_and_say_what_is_absent() {
        let rows = [json!({ "id": "1", "state": "completed" }), json!({ "id": "22" })];
        let text = table(&rows, &[("ID", |r| field(r, "id")), ("STATE", |r| field(r, "state"))]);
        assert_eq!(text, "ID  STATE\n1   completed\n22  -\n");
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(
            (bytes(0), bytes(1536), bytes(3 << 30)),
            ("0 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
    }
}
