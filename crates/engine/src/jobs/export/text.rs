//! Whether everything in a document that ought to be text is.

use history::{Malformed, raw};

/// Nesting deeper than a server takes is refused rather than recursed into.
const DEPTH_MAX: usize = 200;

/// Whether all names and strings of a document are UTF-8. Servers store what they are sent.
pub(super) fn is_text(document: &[u8]) -> Result<bool, Malformed> {
    is_text_at(document, 0)
}

fn is_text_at(document: &[u8], depth: usize) -> Result<bool, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nested too deep"));
    }
    for element in raw::elements(document) {
        let element = element?;
        let is_text = match element.kind {
            0x03 | 0x04 => is_text_at(element.value, depth + 1)?,
            // Strings, code and symbols: a length, the text, a zero. Regular expressions: two texts.
            0x02 | 0x0D | 0x0E => is_utf8(element.value.get(4..)),
            0x0B => is_utf8(Some(element.value)),
            0x0C => is_utf8(element.value.len().checked_sub(12).and_then(|end| element.value.get(4..end))),
            0x0F => is_text_with_scope(element.value, depth)?,
            _ => true,
        };
        if !is_text || std::str::from_utf8(element.name).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Code with a scope: a length, a string, a document.
fn is_text_with_scope(value: &[u8], depth: usize) -> Result<bool, Malformed> {
    let bytes = value.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    let end = bytes.and_then(|bytes| usize::try_from(bytes).ok()?.checked_add(8));
    let parts = end.and_then(|end| Some((value.get(8..end)?, value.get(end..)?)));
    let (code, scope) = parts.ok_or(Malformed("code longer than its element"))?;
    Ok(is_utf8(Some(code)) && is_text_at(scope, depth + 1)?)
}

fn is_utf8(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Documents with one text each, which is `??`, in every place that a text may have.
    fn documents() -> Vec<Vec<u8>> {
        let mark = "??".to_owned();
        let scoped = bson::JavaScriptCodeWithScope { code: "f()".to_owned(), scope: bson::doc! {"x": &mark} };
        let code = bson::JavaScriptCodeWithScope { code: mark.clone(), scope: bson::doc! {} };
        let regex = bson::Regex { pattern: "??".try_into().unwrap(), options: "i".try_into().unwrap() };
        [
            bson::doc! {"a": &mark},
            bson::doc! {&mark: 1},
            bson::doc! {"a": [{"b": &mark}]},
            bson::doc! {"a": bson::Bson::JavaScriptCode(mark.clone())},
            bson::doc! {"a": bson::Bson::Symbol(mark)},
            bson::doc! {"a": scoped},
            bson::doc! {"a": code},
            bson::doc! {"a": regex},
        ]
        .iter()
        .map(|document| bson::serialize_to_vec(document).unwrap())
        .collect()
    }

    #[test]
    fn a_byte_that_is_no_text_is_found_wherever_it_is() {
        for mut document in documents() {
            assert!(is_text(&document).unwrap(), "{document:?}");
            let at = document.windows(2).position(|two| two == b"??").unwrap();
            document[at] = 0xFF;
            assert!(!is_text(&document).unwrap(), "{document:?}");
        }
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0xFF; 4] };
        assert!(is_text(&bson::serialize_to_vec(&bson::doc! {"a": binary}).unwrap()).unwrap());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = is_text(&bytes);
        }
    }
}
