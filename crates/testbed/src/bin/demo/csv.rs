//! CSV lines to documents, as far as this data set needs it.

use bson::{Bson, DateTime, Document};

/// Stands for "not available" in the files.
const NOT_AVAILABLE: &str = "NA";
const TEXT_COLUMNS: [&str; 14] = [
    "carrier",
    "name",
    "faa",
    "dst",
    "tzone",
    "tailnum",
    "type",
    "manufacturer",
    "model",
    "engine",
    "origin",
    "dest",
    "station",
    "id",
];

/// The fields of one line; quoted ones may hold commas and doubled quotes.
pub(crate) fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => push(&mut fields, other),
        }
    }
    fields
}

fn push(fields: &mut [String], character: char) {
    if let Some(last) = fields.last_mut() {
        last.push(character);
    }
}

/// One document of one line; values that are not available are absent.
pub(crate) fn document(columns: &[String], line: &str) -> Document {
    let mut document = Document::new();
    for (column, text) in columns.iter().zip(fields(line)) {
        if text != NOT_AVAILABLE && !text.is_empty() {
            document.insert(column.clone(), value(column, text));
        }
    }
    document
}

fn value(column: &str, text: String) -> Bson {
    if TEXT_COLUMNS.contains(&column) {
        return Bson::String(text);
    }
    if column == "time_hour"
        && let Ok(time) = DateTime::parse_rfc3339_str(&text)
    {
        return Bson::DateTime(time);
    }
    if let Ok(number) = text.parse::<i32>() {
        return Bson::Int32(number);
    }
    text.parse::<f64>().map_or(Bson::String(text), Bson::Double)
}

#[cfg(test)]
mod tests {
    use super::{document, fields};
    use bson::doc;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(fields(r#"a,"b, ""c""",,d"#), ["a", r#"b, "c""#, "", "d"]);
    }

    #[test]
    fn values_have_types() {
        let columns = ["carrier", "dep_delay", "temp", "tailnum"].map(str::to_owned);
        assert_eq!(
            document(&columns, "9E,-3,39.02,NA"),
            doc! { "carrier": "9E", "dep_delay": -3, "temp": 39.02 }
        );
    }
}
