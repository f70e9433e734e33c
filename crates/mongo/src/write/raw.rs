//! Putting raw BSON together out of raw parts.
//!
//! The bson crate builds documents out of values that it understands. Options, index specifications and user
//! documents must pass without being understood, so this builder copies elements as they are.

use bson::{RawDocumentBuf, spec::BinarySubtype};
use history::raw::Element;

use crate::{Error, Result};

const DOUBLE: u8 = 0x01;
const STRING: u8 = 0x02;
const DOCUMENT: u8 = 0x03;
const ARRAY: u8 = 0x04;
const BINARY: u8 = 0x05;
const BOOLEAN: u8 = 0x08;
const INT32: u8 = 0x10;
const TIMESTAMP: u8 = 0x11;
const INT64: u8 = 0x12;

/// A document under construction. Names are ours or come out of a document, so they hold no NUL.
#[derive(Debug, Clone)]
pub(crate) struct RawBuilder(Vec<u8>);

impl RawBuilder {
    pub(crate) fn new() -> Self {
        Self(vec![0; 4])
    }

    /// Any element by its parts.
    pub(crate) fn part(mut self, kind: u8, name: &[u8], value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend_from_slice(name);
        self.0.push(0);
        self.0.extend_from_slice(value);
        self
    }

    /// An element of another document as it is.
    pub(crate) fn element(self, element: &Element<'_>) -> Self {
        self.part(element.kind, element.name, element.value)
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        let mut bytes = Vec::with_capacity(value.len() + 5);
        bytes.extend_from_slice(&length(value.len() + 1));
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.part(STRING, name.as_bytes(), &bytes)
    }

    pub(crate) fn int32(self, name: &str, value: i32) -> Self {
        self.part(INT32, name.as_bytes(), &value.to_le_bytes())
    }

    pub(crate) fn int64(self, name: &str, value: i64) -> Self {
        self.part(INT64, name.as_bytes(), &value.to_le_bytes())
    }

    pub(crate) fn boolean(self, name: &str, value: bool) -> Self {
        self.part(BOOLEAN, name.as_bytes(), &[u8::from(value)])
    }

    pub(crate) fn timestamp(self, name: &str, value: bson::Timestamp) -> Self {
        let value = u64::from(value.time) << 32 | u64::from(value.increment);
        self.part(TIMESTAMP, name.as_bytes(), &value.to_le_bytes())
    }

    pub(crate) fn document(self, name: &str, document: &[u8]) -> Self {
        self.part(DOCUMENT, name.as_bytes(), document)
    }

    pub(crate) fn array<'a>(self, name: &str, documents: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let items = documents
            .into_iter()
            .enumerate()
            .fold(Self::new(), |items, (index, document)| items.document(&index.to_string(), document));
        self.part(ARRAY, name.as_bytes(), &items.finish())
    }

    pub(crate) fn uuid(self, name: &str, uuid: [u8; 16]) -> Self {
        let mut bytes = length(uuid.len()).to_vec();
        bytes.push(BinarySubtype::Uuid.into());
        bytes.extend_from_slice(&uuid);
        self.part(BINARY, name.as_bytes(), &bytes)
    }

    /// The bytes of the document.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.push(0);
        let whole = length(self.0.len());
        self.0[..4].copy_from_slice(&whole);
        self.0
    }

    /// The document as the driver and the wire want commands.
    pub(crate) fn command(self) -> Result<RawDocumentBuf> {
        RawDocumentBuf::from_bytes(self.finish()).map_err(|error| Error::Protocol(error.to_string()))
    }
}

/// Lengths of BSON are 32 bits; what we build is bounded far below by the size of a message.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// A whole number, however it is typed.
pub(crate) fn number(element: &Element<'_>) -> Option<i64> {
    match element.kind {
        INT32 => Some(i32::from_le_bytes(element.value.try_into().ok()?).into()),
        INT64 => Some(i64::from_le_bytes(element.value.try_into().ok()?)),
        // Options of a server are small; a fraction of a second does not matter to any of them.
        #[allow(clippy::cast_possible_truncation)]
        DOUBLE => Some(f64::from_le_bytes(element.value.try_into().ok()?) as i64),
        _ => None,
    }
}

/// A string, its invalid parts replaced: for messages and names of the server's own.
pub(crate) fn text(element: &Element<'_>) -> Option<String> {
    let body = element.value.get(4..)?.strip_suffix(&[0])?;
    (element.kind == STRING).then(|| String::from_utf8_lossy(body).into_owned())
}

/// The string called `name`.
pub(crate) fn text_field(document: &[u8], name: &str) -> Option<String> {
    text(&history::raw::field(document, name).ok()??)
}

/// The document without the elements called `names`.
pub(crate) fn without(document: &[u8], names: &[&str]) -> Result<Vec<u8>> {
    let mut kept = RawBuilder::new();
    for element in history::raw::elements(document) {
        let element = element.map_err(malformed)?;
        if !names.iter().any(|name| name.as_bytes() == element.name) {
            kept = kept.element(&element);
        }
    }
    Ok(kept.finish())
}

/// Bytes that should be BSON and are not.
pub(crate) fn malformed(error: history::Malformed) -> Error {
    Error::Protocol(format!("malformed BSON: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn builds_what_the_bson_crate_builds() {
        let uuid = [7; 16];
        let inner = rawdoc! { "x": 1 };
        let built = RawBuilder::new()
            .text("s", "text")
            .int32("i", -5)
            .int64("l", 1 << 40)
            .boolean("b", true)
            .document("d", inner.as_bytes())
            .array("a", [inner.as_bytes(), inner.as_bytes()])
            .uuid("u", uuid)
            .timestamp("t", bson::Timestamp { time: 5, increment: 6 })
            .command()
            .unwrap();
        let wanted = rawdoc! {
            "s": "text", "i": -5, "l": 1_i64 << 40, "b": true, "d": inner.clone(), "a": [inner.clone(), inner],
            "u": bson::Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() },
            "t": bson::Timestamp { time: 5, increment: 6 },
        };
        assert_eq!(built, wanted);
    }

    #[test]
    fn leaves_out_by_name_and_keeps_the_rest_in_place() {
        let document = rawdoc! { "v": 2, "ns": "a.b", "key": { "ns": 1 } };
        let wanted = rawdoc! { "v": 2, "key": { "ns": 1 } };
        assert_eq!(without(document.as_bytes(), &["ns", "nothing"]).unwrap(), wanted.as_bytes());
        assert!(without(b"\x07\0\0\0\x63a\0", &[]).is_err());
    }
}
