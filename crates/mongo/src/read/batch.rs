//! A batch of documents in the reply that brought them.

use std::ops::Range;

use bson::{
    RawDocumentBuf,
    raw::{RawBsonRef, RawDocument},
};
use history::raw::document_length;

use super::DocumentId;
use crate::{Error, Result};

/// Documents of one reply. Owns the buffer; give it back with [`super::Cursor::recycle`].
#[derive(Debug)]
pub struct Batch {
    buffer: Vec<u8>,
    /// Where the elements of the batch's array lie, checked when the batch was made.
    elements: Range<usize>,
    documents: usize,
    bytes: usize,
    resume_token: Option<RawDocumentBuf>,
    /// The last document of the range was met.
    pub(super) ended: bool,
}

impl Batch {
    /// `body` is where the reply lies in `buffer`. Documents after `through` are left out.
    pub(crate) fn new(
        buffer: Vec<u8>,
        body: Range<usize>,
        through: Option<&DocumentId>,
    ) -> Result<(Self, i64)> {
        let malformed = || Error::protocol("a reply that is not a batch");
        let reply = RawDocument::from_bytes(&buffer[body]).map_err(|_| malformed())?;
        let cursor = reply.get_document("cursor").map_err(|_| malformed())?;
        let id = cursor.get_i64("id").map_err(|_| malformed())?;
        let array = match (cursor.get("nextBatch"), cursor.get("firstBatch")) {
            (Ok(Some(RawBsonRef::Array(array))), _) | (_, Ok(Some(RawBsonRef::Array(array)))) => {
                array.as_bytes()
            }
            _ => return Err(malformed()),
        };
        let resume_token = cursor.get_document("postBatchResumeToken").ok().map(RawDocument::to_owned);
        // The array is a part of the buffer; its place there outlives the borrow.
        let start = array.as_ptr().addr() - buffer.as_ptr().addr() + 4;
        let measured = measure(&array[4..array.len() - 1], through)?;
        let elements = start..start + measured.length;
        let Measured { documents, bytes, ended, .. } = measured;
        Ok((Self { buffer, elements, documents, bytes, resume_token, ended }, id))
    }

    /// The documents, raw, in the cursor's order.
    pub fn documents(&self) -> Documents<'_> {
        Documents { rest: &self.buffer[self.elements.clone()] }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Whether there are none, which happens in the middle of a collection too.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where a natural read can go on after this batch; see [`super::NaturalRange::resume`].
    pub fn resume_token(&self) -> Option<&RawDocument> {
        self.resume_token.as_deref()
    }

    /// Where one of its documents lies in the bytes that [`AsRef`] shows, for those who keep the batch and come back.
    pub fn place_of(&self, document: &[u8]) -> Range<usize> {
        let start = document.as_ptr().addr().saturating_sub(self.buffer.as_ptr().addr());
        start..start + document.len()
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

impl AsRef<[u8]> for Batch {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

/// Iterates over the documents of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Documents<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Documents<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        // Checked by `measure`, so that errors cannot come up any more.
        let (document, rest) = split(self.rest).ok()??;
        self.rest = rest;
        Some(document)
    }
}

struct Measured {
    length: usize,
    documents: usize,
    bytes: usize,
    ended: bool,
}

/// Walks over the elements of an array of documents once, checks each length, and stops after `through`.
fn measure(elements: &[u8], through: Option<&DocumentId>) -> Result<Measured> {
    let mut measured = Measured { length: 0, documents: 0, bytes: 0, ended: false };
    let mut rest = elements;
    while let Some((document, after)) = split(rest)? {
        measured.documents += 1;
        measured.bytes += document.len();
        rest = after;
        if through.is_some_and(|through| through.is_id_of(document)) {
            measured.ended = true;
            break;
        }
    }
    measured.length = elements.len() - rest.len();
    Ok(measured)
}

/// The first document of some array elements, and the other elements.
fn split(elements: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    const DOCUMENT: u8 = 3;
    let Some((kind, rest)) = elements.split_first() else {
        return Ok(None);
    };
    let malformed = || Error::protocol("a batch with something in it that is no document");
    let name = rest.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
    let value = &rest[name + 1..];
    let length = document_length(value).map_err(|_| malformed())?;
    if *kind != DOCUMENT {
        return Err(malformed());
    }
    Ok(Some(value.split_at(length)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;
    use proptest::prelude::*;

    use super::*;

    fn batch(reply: &RawDocument, through: Option<&DocumentId>) -> Result<(Batch, i64)> {
        let mut buffer = vec![0xff; 5];
        buffer.extend(reply.as_bytes());
        let body = 5..buffer.len();
        buffer.extend([0xff; 9]);
        Batch::new(buffer, body, through)
    }

    #[test]
    fn gives_the_documents_and_nothing_after_the_end_of_the_range() {
        let documents: Vec<_> = (0..20).map(|id| rawdoc! { "_id": id, "x": "y" }).collect();
        let array: bson::raw::RawArrayBuf = documents.iter().cloned().collect();
        let reply = rawdoc! { "cursor": { "nextBatch": array, "id": 7_i64, "postBatchResumeToken": { "$recordId": 20_i64 } }, "ok": 1.0 };
        let (whole, id) = batch(&reply, None).unwrap();
        assert_eq!(id, 7);
        assert!(whole.documents().eq(documents.iter().map(|document| document.as_bytes())));
        for document in whole.documents() {
            assert_eq!(&whole.as_ref()[whole.place_of(document)], document);
        }
        assert_eq!((whole.len(), whole.ended), (20, false));
        assert_eq!(whole.bytes(), documents.iter().map(|document| document.as_bytes().len()).sum::<usize>());
        assert!(whole.resume_token().is_some());
        let (part, _) = batch(&reply, Some(&DocumentId::of(documents[12].as_bytes()).unwrap())).unwrap();
        assert!(part.documents().eq(documents[..=12].iter().map(|document| document.as_bytes())));
        assert_eq!((part.len(), part.ended), (13, true));
    }

    #[test]
    fn refuses_replies_that_are_no_batches() {
        for reply in [
            rawdoc! { "ok": 1 },
            rawdoc! { "cursor": { "id": 0_i64 } },
            rawdoc! { "cursor": { "id": 0_i64, "firstBatch": [1, 2] } },
            rawdoc! { "cursor": { "firstBatch": [] } },
        ] {
            assert!(batch(&reply, None).is_err());
        }
        assert!(batch(&rawdoc! { "cursor": { "id": 0_i64, "firstBatch": [] } }, None).unwrap().0.is_empty());
    }

    proptest! {
        #[test]
        fn bytes_from_the_network_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = measure(&bytes, None);
        }
    }
}
