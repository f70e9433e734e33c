//! The `_id` of a document, as its bytes.

use bson::raw::{RawDocument, RawDocumentBuf};
use history::raw::field;

use crate::{Error, Result};

/// A document's `_id`, kept as the document `{_id: …}`. Never decoded: `_id`s of deprecated types and with invalid
/// UTF-8 exist.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentId(RawDocumentBuf);

impl DocumentId {
    /// Takes the `_id` out of a document.
    ///
    /// # Errors
    /// `Protocol` when there is none.
    pub fn of(document: &[u8]) -> Result<Self> {
        let id = field(document, "_id").map_err(|error| Error::protocol(error.to_string()))?;
        let id = id.ok_or_else(|| Error::protocol("a document without _id"))?;
        Ok(Self(named("_id", id.kind, id.value)?))
    }

    /// `{_id: …}`, from which a sort key can be made.
    pub fn as_document(&self) -> &RawDocument {
        &self.0
    }

    /// `{_id: …}` as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is `document`'s `_id`, byte for byte.
    pub(super) fn is_id_of(&self, document: &[u8]) -> bool {
        let (Ok(Some(ours)), Ok(Some(theirs))) = (field(self.as_bytes(), "_id"), field(document, "_id"))
        else {
            return false;
        };
        ours.kind == theirs.kind && ours.value == theirs.value
    }

    /// Whether this is the greatest value there is.
    pub(super) fn is_max_key(&self) -> bool {
        const MAX_KEY: u8 = 0x7f;
        matches!(field(self.as_bytes(), "_id"), Ok(Some(id)) if id.kind == MAX_KEY)
    }

    /// `{_id: {operator: …}}`.
    pub(super) fn comparison(&self, operator: &str) -> RawDocumentBuf {
        let compared = field(self.as_bytes(), "_id")
            .ok()
            .flatten()
            .and_then(|id| named(operator, id.kind, id.value).ok());
        compared.map_or_else(RawDocumentBuf::new, |inner| bson::rawdoc! { "_id": inner })
    }
}

fn named(name: &str, kind: u8, value: &[u8]) -> Result<RawDocumentBuf> {
    let length = 4 + 1 + name.len() + 1 + value.len() + 1;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(i32::try_from(length).map_err(|_| Error::protocol("an _id of 2 GiB"))?.to_le_bytes());
    bytes.push(kind);
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.extend(value);
    bytes.push(0);
    RawDocumentBuf::from_bytes(bytes).map_err(|_| Error::protocol("a malformed _id"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn is_found_wherever_it_lies_and_compared_by_bytes() {
        let document = rawdoc! { "a": 1, "_id": { "x": 1.5 } };
        let id = DocumentId::of(document.as_bytes()).unwrap();
        assert_eq!(id.as_document(), &*rawdoc! { "_id": { "x": 1.5 } });
        assert!(id.is_id_of(document.as_bytes()));
        assert!(!id.is_id_of(rawdoc! { "_id": 1 }.as_bytes()));
        assert_eq!(id.comparison("$gte"), rawdoc! { "_id": { "$gte": { "x": 1.5 } } });
        let one = DocumentId::of(rawdoc! { "_id": 1 }.as_bytes()).unwrap();
        assert!(!one.is_id_of(rawdoc! { "_id": 1_i64 }.as_bytes()));
        assert!(DocumentId::of(rawdoc! {}.as_bytes()).is_err());
    }
}
