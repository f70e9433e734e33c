//! Request bodies, read strictly: one JSON object, known fields only, `null` as if absent.

use http::{HeaderMap, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::error::{Answer, Code, Problem};

/// Largest body: most are a few hundred bytes, and one that names a hundred databases and a hundred collections, each with
/// another name for it, has up to 80 kB.
pub(crate) const BODY_BYTES_MAX: usize = 128 * 1024;

/// A JSON object whose fields are taken out one by one.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    /// Parses a body. `known` are the fields that exist, read-only ones included.
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8], known: &[&str]) -> Answer<Self> {
        check_content_type(headers)?;
        let malformed = || Problem::new(Code::MalformedJson);
        let value: Value = serde_json::from_slice(body).map_err(|_| malformed())?;
        let Value::Object(map) = value else { return Err(malformed()) };
        Self::of(map, known)
    }

    /// Parses a body that is a list of objects, each read as strictly as a body that is one.
    pub(crate) fn parse_list(headers: &HeaderMap, body: &[u8], known: &[&str]) -> Answer<Vec<Self>> {
        check_content_type(headers)?;
        let malformed = || Problem::new(Code::MalformedJson);
        let value: Vec<Map<String, Value>> = serde_json::from_slice(body).map_err(|_| malformed())?;
        value.into_iter().map(|map| Self::of(map, known)).collect()
    }

    /// The members of an object, if it has no unknown ones.
    fn of(mut map: Map<String, Value>, known: &[&str]) -> Answer<Self> {
        if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
            let shown: String = unknown.chars().take(64).collect();
            return Err(Problem::new(Code::InvalidAttribute).with(shown));
        }
        map.retain(|_, value| !value.is_null());
        Ok(Self { map })
    }

    /// A string field.
    pub(crate) fn text(&mut self, name: &'static str) -> Answer<Option<String>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// A string field that has to be there.
    pub(crate) fn required_text(&mut self, name: &'static str) -> Answer<String> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A flag.
    pub(crate) fn flag(&mut self, name: &'static str) -> Answer<Option<bool>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// A 32-bit integer; a float is refused, even a whole one.
    pub(crate) fn int32(&mut self, name: &'static str) -> Answer<Option<i32>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                let whole = number.as_i64().and_then(|wide| i32::try_from(wide).ok());
                whole.map(Some).ok_or_else(|| wrong_type(name))
            }
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// Milliseconds since the epoch: a float has an error of its own.
    pub(crate) fn epoch_millis(&mut self, name: &'static str) -> Answer<Option<i64>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Number(number)) if number.is_f64() => Err(Problem::new(Code::FractionalTimestamp)),
            Some(Value::Number(number)) => number.as_i64().map(Some).ok_or_else(|| wrong_type(name)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// Seconds since the epoch: as [`Fields::int32`], but a float has an error of its own.
    pub(crate) fn epoch_seconds(&mut self, name: &'static str) -> Answer<Option<i32>> {
        if self.map.get(name).is_some_and(Value::is_f64) {
            return Err(Problem::new(Code::FractionalTimestamp));
        }
        self.int32(name)
    }

    /// An object field, read as strictly as the body itself.
    pub(crate) fn object(&mut self, name: &'static str, known: &[&str]) -> Answer<Option<Self>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Self::of(map, known).map(Some),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// A field of any type.
    pub(crate) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.map.remove(name)
    }

    /// A list of anything.
    pub(crate) fn list(&mut self, name: &'static str) -> Answer<Option<Vec<Value>>> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// A list of objects, each read as strictly as the body itself.
    pub(crate) fn objects(&mut self, name: &'static str, known: &[&str]) -> Answer<Option<Vec<Self>>> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        let object = |item| match item {
            Value::Object(map) => Self::of(map, known),
            _ => Err(wrong_type(name)),
        };
        items.into_iter().map(object).collect::<Answer<Vec<_>>>().map(Some)
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, name: &'static str) -> Answer<Option<Vec<String>>> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(name)),
        };
        items.into_iter().map(text).collect::<Answer<Vec<_>>>().map(Some)
    }
}

/// `MISSING_ATTRIBUTE`.
pub(crate) fn missing(name: &'static str) -> Problem {
    Problem::new(Code::MissingAttribute).with(name)
}

/// `INVALID_ATTRIBUTE`.
pub(crate) fn invalid(name: &'static str) -> Problem {
    Problem::new(Code::InvalidAttribute).with(name)
}

fn wrong_type(name: &'static str) -> Problem {
    Problem::new(Code::InvalidJsonAttribute).with(name)
}

/// JSON under its own name or as a dated vendor type, with or without parameters; an absent header is JSON.
fn check_content_type(headers: &HeaderMap) -> Answer<()> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let vendor = essence.starts_with("application/vnd.atlas.") && essence.ends_with("+json");
    if essence == "application/json" || vendor {
        return Ok(());
    }
    let shown: String = essence.chars().take(64).collect();
    Err(Problem::new(Code::UnsupportedMediaType).with(shown))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const KNOWN: &[&str] = &["a", "n", "t", "links"];

    fn parse(body: &str) -> Answer<Fields> {
        Fields::parse(&HeaderMap::new(), body.as_bytes(), KNOWN)
    }

    fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Code {
        answer.unwrap_err().code()
    }

    #[test]
    fn what_is_not_one_object_is_malformed() {
        for bad in ["", "{", "[]", "1", "null", "\"a\"", "{} {}", "{\"a\":1,}"] {
            assert_eq!(code(parse(bad)), Code::MalformedJson, "{bad:?}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(code(parse(&format!("{{\"a\":{deep}}}"))), Code::MalformedJson);
    }

    #[test]
    fn d16_unknown_fields_are_refused_and_null_is_absent() {
        assert_eq!(code(parse(r#"{"b":null}"#)), Code::InvalidAttribute);
        let mut fields = parse(r#"{"a":null,"n":null,"links":[{"any":"thing"}]}"#).unwrap();
        assert_eq!(fields.text("a").unwrap(), None);
        assert_eq!(fields.int32("n").unwrap(), None);
    }

    #[test]
    fn an_object_in_a_body_is_read_as_strictly() {
        let object = |body: &str| parse(body).unwrap().object("a", &["b"]);
        assert_eq!(code(object(r#"{"a":1}"#)), Code::InvalidJsonAttribute);
        assert_eq!(code(object(r#"{"a":{"b":1,"c":2}}"#)), Code::InvalidAttribute);
        assert!(object("{}").unwrap().is_none() && object(r#"{"a":null}"#).unwrap().is_none());
        let mut inner = object(r#"{"a":{"b":null}}"#).unwrap().unwrap();
        assert_eq!(inner.flag("b").unwrap(), None);
    }

    #[test]
    fn a_list_in_a_body_is_one_of_objects_that_are_known() {
        let objects = |body: &str| parse(body).unwrap().objects("a", &["b"]);
        assert_eq!(code(objects(r#"{"a":{}}"#)), Code::InvalidJsonAttribute);
        assert_eq!(code(objects(r#"{"a":[{},1]}"#)), Code::InvalidJsonAttribute);
        assert_eq!(code(objects(r#"{"a":[{"c":1}]}"#)), Code::InvalidAttribute);
        assert!(objects("{}").unwrap().is_none());
        assert_eq!(objects(r#"{"a":[{"b":true},{}]}"#).unwrap().unwrap().len(), 2);
        assert_eq!(parse(r#"{"a":[1,null]}"#).unwrap().list("a").unwrap().unwrap().len(), 2);
    }

    #[test]
    fn types_are_strict() {
        assert_eq!(code(parse(r#"{"a":1}"#).unwrap().text("a")), Code::InvalidJsonAttribute);
        for bad in ["1.5", "1.0", "1e3", "2147483648", "\"1\"", "true", "[1]"] {
            let mut fields = parse(&format!(r#"{{"n":{bad}}}"#)).unwrap();
            assert_eq!(code(fields.int32("n")), Code::InvalidJsonAttribute, "{bad}");
        }
        assert_eq!(code(parse(r#"{"t":1.5}"#).unwrap().epoch_seconds("t")), Code::FractionalTimestamp);
        assert_eq!(parse(r#"{"t":1199145600}"#).unwrap().epoch_seconds("t").unwrap(), Some(1_199_145_600));
    }

    #[test]
    fn d5_json_by_any_of_its_names() {
        for (name, good) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/vnd.atlas.2023-01-01+json", true),
            ("application/vnd.atlas.2025-03-12+json;charset=utf-8", true),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
            assert_eq!(Fields::parse(&headers, b"{}", KNOWN).is_ok(), good, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(mut fields) = Fields::parse(&HeaderMap::new(), &body, KNOWN) {
                let _ = (fields.text("a"), fields.int32("n"), fields.epoch_seconds("t"), fields.texts("links"));
            }
        }

        #[test]
        fn no_value_makes_it_panic(n in any::<f64>(), text in ".*") {
            let body = serde_json::json!({"n": n, "a": text}).to_string();
            let mut fields = parse(&body).unwrap();
            let _ = (fields.text("a"), fields.int32("n"));
        }
    }
}
