//! Raw BSON as Extended JSON, in the order of the bytes.
//!
//! The metadata files of a dump carry options and index specs in this form, and people are shown documents in it. The
//! order of fields is part of an index's meaning, and a general JSON value would sort them, so the raw elements are
//! written one by one. Source: the MongoDB Extended JSON v2 specification.

use base64::Engine as _;
use history::{Malformed, raw};

/// Nesting deeper than a server takes is refused rather than recursed into.
const DEPTH_MAX: usize = 200;

/// The last moment that relaxed dates are written as text: 9999-12-31T23:59:59.999Z.
const RELAXED_DATE_MAX: i64 = 253_402_300_799_999;

/// How much of the types is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All: what is read back is the same.
    Canonical,
    /// Numbers and dates as people write them; `1`, `1.0` and `NumberLong(1)` look much the same.
    Relaxed,
}

/// Appends a document in canonical form.
///
/// # Errors
/// [`Malformed`] when the bytes are no BSON document.
pub(crate) fn push_document(out: &mut String, document: &[u8]) -> Result<(), Malformed> {
    push_elements(out, document, false, 0, Mode::Canonical)
}

/// A document as text.
///
/// # Errors
/// [`Malformed`] when the bytes are no BSON document.
pub(crate) fn document(document: &[u8], mode: Mode) -> Result<String, Malformed> {
    let mut out = String::with_capacity(2 * document.len());
    push_elements(&mut out, document, false, 0, mode)?;
    Ok(out)
}

/// A value of BSON type `kind` as text.
///
/// # Errors
/// [`Malformed`] when the bytes are no such value.
pub(crate) fn value(kind: u8, value: &[u8], mode: Mode) -> Result<String, Malformed> {
    let mut out = String::new();
    push_value(&mut out, kind, value, 0, mode)?;
    Ok(out)
}

fn push_elements(
    out: &mut String,
    document: &[u8],
    array: bool,
    depth: usize,
    mode: Mode,
) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nested too deep"));
    }
    out.push(if array { '[' } else { '{' });
    for (position, element) in raw::elements(document).enumerate() {
        let element = element?;
        if position > 0 {
            out.push(',');
        }
        if !array {
            push_text(out, &String::from_utf8_lossy(element.name));
            out.push(':');
        }
        push_value(out, element.kind, element.value, depth, mode)?;
    }
    out.push(if array { ']' } else { '}' });
    Ok(())
}

fn push_value(out: &mut String, kind: u8, value: &[u8], depth: usize, mode: Mode) -> Result<(), Malformed> {
    match kind {
        0x01 | 0x09 | 0x10 | 0x12 if mode == Mode::Relaxed && push_relaxed(out, kind, value)? => {}
        0x01 => push_wrapped(out, "$numberDouble", &double_text(f64::from_le_bytes(fixed(value)?))),
        0x02 => push_text(out, &string(value)?),
        0x03 => push_elements(out, value, false, depth + 1, mode)?,
        0x04 => push_elements(out, value, true, depth + 1, mode)?,
        0x05 => push_binary(out, value)?,
        0x06 => out.push_str(r#"{"$undefined":true}"#),
        0x07 => push_wrapped(out, "$oid", &hex::encode(value)),
        0x08 => out.push_str(if value.first() == Some(&0) { "false" } else { "true" }),
        0x09 => {
            let milliseconds = i64::from_le_bytes(fixed(value)?);
            out.push_str(&format!(r#"{{"$date":{{"$numberLong":"{milliseconds}"}}}}"#));
        }
        0x0A => out.push_str("null"),
        0x0B => push_regular_expression(out, value)?,
        0x0C => push_pointer(out, value)?,
        0x0D => push_wrapped(out, "$code", &string(value)?),
        0x0E => push_wrapped(out, "$symbol", &string(value)?),
        0x0F => push_code_with_scope(out, value, depth, mode)?,
        0x10 => push_wrapped(out, "$numberInt", &i32::from_le_bytes(fixed(value)?).to_string()),
        0x11 => {
            let value = u64::from_le_bytes(fixed(value)?);
            out.push_str(&format!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, value >> 32, value as u32));
        }
        0x12 => push_wrapped(out, "$numberLong", &i64::from_le_bytes(fixed(value)?).to_string()),
        0x13 => push_wrapped(out, "$numberDecimal", &bson::Decimal128::from_bytes(fixed(value)?).to_string()),
        0xFF => out.push_str(r#"{"$minKey":1}"#),
        0x7F => out.push_str(r#"{"$maxKey":1}"#),
        _ => return Err(Malformed("unknown element type")),
    }
    Ok(())
}

/// Writes what has a relaxed form that tells it; whether this one has.
fn push_relaxed(out: &mut String, kind: u8, value: &[u8]) -> Result<bool, Malformed> {
    match kind {
        0x10 => out.push_str(&i32::from_le_bytes(fixed(value)?).to_string()),
        0x12 => out.push_str(&i64::from_le_bytes(fixed(value)?).to_string()),
        0x01 => match f64::from_le_bytes(fixed(value)?) {
            number if number.is_finite() => out.push_str(&double_text(number)),
            _ => return Ok(false),
        },
        _ => {
            let milliseconds = i64::from_le_bytes(fixed(value)?);
            let date = (0..=RELAXED_DATE_MAX).contains(&milliseconds);
            let date = date.then(|| jiff::Timestamp::from_millisecond(milliseconds).ok()).flatten();
            let Some(date) = date else { return Ok(false) };
            push_wrapped(out, "$date", &date.to_string());
        }
    }
    Ok(true)
}

fn push_wrapped(out: &mut String, name: &str, text: &str) {
    out.push_str("{\"");
    out.push_str(name);
    out.push_str("\":");
    push_text(out, text);
    out.push('}');
}

/// Appends a JSON string.
pub(crate) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

fn double_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else {
        // `{:?}` is the shortest text that reads back as the same number, with a point or an exponent in it.
        format!("{value:?}")
    }
}

fn push_binary(out: &mut String, value: &[u8]) -> Result<(), Malformed> {
    let subtype = *value.get(4).ok_or(Malformed("binary too short"))?;
    let data = base64::engine::general_purpose::STANDARD.encode(&value[5..]);
    out.push_str(&format!(r#"{{"$binary":{{"base64":"{data}","subType":"{subtype:02x}"}}}}"#));
    Ok(())
}

fn push_regular_expression(out: &mut String, value: &[u8]) -> Result<(), Malformed> {
    let mut parts = value.split(|byte| *byte == 0);
    let (Some(pattern), Some(options)) = (parts.next(), parts.next()) else {
        return Err(Malformed("regular expression without its ends"));
    };
    out.push_str(r#"{"$regularExpression":{"pattern":"#);
    push_text(out, &String::from_utf8_lossy(pattern));
    out.push_str(r#","options":"#);
    push_text(out, &String::from_utf8_lossy(options));
    out.push_str("}}");
    Ok(())
}

fn push_pointer(out: &mut String, value: &[u8]) -> Result<(), Malformed> {
    let at = value.len().checked_sub(12).ok_or(Malformed("pointer too short"))?;
    out.push_str(r#"{"$dbPointer":{"$ref":"#);
    push_text(out, &string(&value[..at])?);
    out.push_str(r#","$id":"#);
    push_wrapped(out, "$oid", &hex::encode(&value[at..]));
    out.push_str("}}");
    Ok(())
}

fn push_code_with_scope(out: &mut String, value: &[u8], depth: usize, mode: Mode) -> Result<(), Malformed> {
    let rest = value.get(4..).ok_or(Malformed("code with scope too short"))?;
    let code_bytes = u32::from_le_bytes(fixed(rest.get(..4).unwrap_or_default())?) as usize;
    let end = code_bytes
        .checked_add(4)
        .filter(|end| *end <= rest.len())
        .ok_or(Malformed("code longer than its element"))?;
    out.push_str(r#"{"$code":"#);
    push_text(out, &string(&rest[..end])?);
    out.push_str(r#","$scope":"#);
    push_elements(out, &rest[end..], false, depth + 1, mode)?;
    out.push('}');
    Ok(())
}

/// A BSON string: length, bytes, a zero.
fn string(value: &[u8]) -> Result<String, Malformed> {
    let bytes = value.get(4..value.len().saturating_sub(1)).ok_or(Malformed("string too short"))?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed("number of the wrong length"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Bson, rawdoc};

    use super::*;

    #[test]
    fn order_and_types_are_kept() {
        let document = rawdoc! {
            "key": {"b": 1_i32, "a": -1.0, "c": 1_i64}, "z": [true, null, "q\"\\\n"], "nan": f64::NAN,
            "when": bson::DateTime::from_millis(-5), "stamp": bson::Timestamp { time: 7, increment: 8 },
        };
        let mut out = String::new();
        push_document(&mut out, document.as_bytes()).unwrap();
        assert_eq!(
            out,
            concat!(
                r#"{"key":{"b":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"},"c":{"$numberLong":"1"}},"#,
                r#""z":[true,null,"q\"\\\u000a"],"nan":{"$numberDouble":"NaN"},"#,
                r#""when":{"$date":{"$numberLong":"-5"}},"stamp":{"$timestamp":{"t":7,"i":8}}}"#
            )
        );
    }

    #[test]
    fn relaxed_numbers_and_dates_are_as_people_write_them() {
        let shown = rawdoc! {
            "int": 1, "long": 2_i64, "double": 1.5, "whole": 3.0, "nan": f64::NAN,
            "date": bson::DateTime::from_millis(1_767_323_045_250), "early": bson::DateTime::from_millis(-1),
            "in": { "x": [1_i64] },
        };
        assert_eq!(
            document(shown.as_bytes(), Mode::Relaxed).unwrap(),
            concat!(
                r#"{"int":1,"long":2,"double":1.5,"whole":3.0,"nan":{"$numberDouble":"NaN"},"#,
                r#""date":{"$date":"2026-01-02T03:04:05.25Z"},"early":{"$date":{"$numberLong":"-1"}},"in":{"x":[1]}}"#
            )
        );
    }

    #[test]
    fn the_driver_reads_back_what_was_written() {
        let document = bson::doc! {
            "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] },
            "id": bson::oid::ObjectId::new(), "regex": bson::Regex { pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap() },
            "min": Bson::MinKey, "max": Bson::MaxKey, "code": Bson::JavaScriptCode("f()".to_owned()), "symbol": Bson::Symbol("s".to_owned()),
            "scoped": bson::JavaScriptCodeWithScope { code: "g()".to_owned(), scope: bson::doc! {"x": 1} },
            "decimal": "1.50E+3".parse::<bson::Decimal128>().unwrap(), "big": 1e300, "undefined": Bson::Undefined,
        };
        let mut out = String::new();
        push_document(&mut out, &bson::serialize_to_vec(&document).unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(Bson::try_from(value).unwrap(), Bson::Document(document));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut out = String::new();
            let _ = push_document(&mut out, &bytes);
        }
    }
}
