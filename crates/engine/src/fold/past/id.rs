//! The `_id` of a document, as people type it.

use std::fmt;

use bson::{Bson, Document, RawDocumentBuf};
use history::{SortKey, raw};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::PastError;
use crate::extjson::{self, Mode};

/// Longest id that is read; keys in an index were never longer than that by default.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// So much of an id that is not understood is shown back.
const SHOWN_CHARACTERS: usize = 64;

/// The `_id` of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentId {
    key: SortKey,
    shown: String,
}

impl DocumentId {
    /// Reads an id: 24 hexadecimal digits are an ObjectId; what is JSON is what it says, extended JSON included; anything
    /// else is a string.
    ///
    /// # Errors
    /// [`PastError::Id`], with what to type instead.
    pub fn parse(text: &str) -> Result<Self, PastError> {
        let refused = |why: String| {
            let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
            PastError::Id(format!("{shown:?} is no _id: {why}"))
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(refused("it is too long".to_owned()));
        }
        let value = read(text.trim()).map_err(refused)?;
        let document = RawDocumentBuf::try_from(&bson::doc! { "_id": value });
        let document = document.map_err(|error| refused(error.to_string()))?;
        let malformed = |error: history::Malformed| refused(error.to_string());
        let id = raw::field(document.as_bytes(), "_id").map_err(malformed)?;
        let id = id.ok_or_else(|| refused("it is empty".to_owned()))?;
        Ok(Self {
            key: SortKey::of_value(id.kind, id.value).map_err(malformed)?,
            shown: extjson::value(id.kind, id.value, Mode::Canonical).map_err(malformed)?,
        })
    }

    /// What identifies the document in its collection.
    pub(super) fn key(&self) -> &SortKey {
        &self.key
    }

    /// As extended JSON: how it was read.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

fn read(text: &str) -> Result<Bson, String> {
    if text.len() == 24
        && let Ok(id) = bson::oid::ObjectId::parse_str(text)
    {
        return Ok(id.into());
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err()
    {
        return Err("a number of more than 64 bits is typed {\"$numberDecimal\":\"…\"}".to_owned());
    }
    let value = match serde_json::from_str::<Json>(text) {
        Ok(value) => value,
        // What begins like JSON was meant as JSON.
        Err(error) if text.starts_with(['{', '[', '"']) => return Err(format!("as JSON: {error}")),
        Err(_) if text.is_empty() => return Err("it is empty; an empty string is typed \"\"".to_owned()),
        Err(_) => return Ok(text.into()),
    };
    match value.into_bson().map_err(|error| format!("as extended JSON: {error}"))? {
        Bson::Array(_) => Err("no _id is an array".to_owned()),
        Bson::RegularExpression(_) => Err("no _id is a regular expression".to_owned()),
        Bson::Undefined => Err("no _id is undefined".to_owned()),
        value => Ok(value),
    }
}

/// JSON that keeps the order of fields, which is part of an `_id` that is a document.
enum Json {
    Scalar(Value),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    fn into_bson(self) -> Result<Bson, bson::error::Error> {
        match self {
            Self::Scalar(value) => Bson::try_from(value),
            Self::Array(items) => {
                Ok(Bson::Array(items.into_iter().map(Self::into_bson).collect::<Result<_, _>>()?))
            }
            Self::Object(fields) if fields.iter().any(|(name, _)| name.starts_with('$')) => {
                let plain = fields.iter().map(|(name, value)| (name.clone(), value.plain()));
                match Bson::try_from(Value::Object(plain.collect()))? {
                    Bson::Document(_) => Self::document(fields),
                    typed => Ok(typed),
                }
            }
            Self::Object(fields) => Self::document(fields),
        }
    }

    fn document(fields: Vec<(String, Self)>) -> Result<Bson, bson::error::Error> {
        let mut document = Document::new();
        for (name, value) in fields {
            document.insert(name, value.into_bson()?);
        }
        Ok(document.into())
    }

    fn plain(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::Array(items) => items.iter().map(Self::plain).collect(),
            Self::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), value.plain())).collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = from.next_entry::<String, Json>()? {
            if fields.iter().any(|(there, _)| *there == name) {
                return Err(A::Error::custom(format!("the field {name} is there twice")));
            }
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(text: &str) -> String {
        DocumentId::parse(text).unwrap().shown().to_owned()
    }

    #[test]
    fn an_id_is_read_as_documented() {
        for (text, read) in [
            ("5f2b0c9d8e7a6b5c4d3e2f10", r#"{"$oid":"5f2b0c9d8e7a6b5c4d3e2f10"}"#),
            ("123456789012345678901234", r#"{"$oid":"123456789012345678901234"}"#),
            ("\"5f2b0c9d8e7a6b5c4d3e2f10\"", r#""5f2b0c9d8e7a6b5c4d3e2f10""#),
            (r#"{"$oid":"5f2b0c9d8e7a6b5c4d3e2f10"}"#, r#"{"$oid":"5f2b0c9d8e7a6b5c4d3e2f10"}"#),
            ("5", r#"{"$numberInt":"5"}"#),
            (" -5 ", r#"{"$numberInt":"-5"}"#),
            ("5000000000", r#"{"$numberLong":"5000000000"}"#),
            ("1.5", r#"{"$numberDouble":"1.5"}"#),
            ("\"5\"", r#""5""#),
            ("order-17", r#""order-17""#),
            ("a b", r#""a b""#),
            ("true", "true"),
            ("null", "null"),
            ("\"true\"", "\"true\""),
            ("\"\"", "\"\""),
            (
                r#"{"b":1,"a":{"$date":"1970-01-01T00:00:00Z"}}"#,
                r#"{"b":{"$numberInt":"1"},"a":{"$date":{"$numberLong":"0"}}}"#,
            ),
            (r#"{"$numberDecimal":"1.10"}"#, r#"{"$numberDecimal":"1.10"}"#),
            (r#"{"$ref":"x","$id":"y"}"#, r#"{"$ref":"x","$id":"y"}"#),
        ] {
            assert_eq!(shown(text), read, "{text}");
        }
        let uuid = DocumentId::parse(r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}"#).unwrap();
        assert!(uuid.shown().contains(r#""subType":"04""#), "{}", uuid.shown());
    }

    #[test]
    fn equal_numbers_are_one_document() {
        let key = |text: &str| DocumentId::parse(text).unwrap().key;
        assert_eq!(key("5"), key("5.0"));
        assert_eq!(key("5"), key(r#"{"$numberLong":"5"}"#));
        assert_eq!(key("5"), key(r#"{"$numberDecimal":"5.00"}"#));
        assert_ne!(key("5"), key("\"5\""));
    }

    #[test]
    fn what_is_no_id_is_told_why() {
        for (text, why) in [
            ("", "empty"),
            ("  ", "empty"),
            ("{\"$oid\":\"5\"}", "extended JSON"),
            ("{", "as JSON"),
            (r#"{"a":1,"a":2}"#, "twice"),
            ("\"abc", "as JSON"),
            ("[1]", "array"),
            ("99999999999999999999", "$numberDecimal"),
            (r#"{"$regularExpression":{"pattern":"a","options":""}}"#, "regular expression"),
        ] {
            let error = DocumentId::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = DocumentId::parse(&"x".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().to_string();
        assert!(long.contains("too long") && long.len() < 200, "{long}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = DocumentId::parse(&text);
        }
    }
}
