//! Documents as lines of canonical Extended JSON, compressed while they come.

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};
use history::{Malformed, raw};

use super::text;
use crate::extjson;

/// Level 1: a higher one costs many times more for a tenth of the size.
const GZIP_LEVEL: u32 = 1;
/// So much memory for the text of one document is kept for the next one.
const TEXT_BYTES_KEPT: usize = 1 << 20;

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    /// The bytes are no document.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The compressor failed.
    #[error(transparent)]
    Compressor(#[from] io::Error),
}

/// A file that grows.
pub(super) struct Lines {
    gzip: GzEncoder<Vec<u8>>,
    text: String,
    documents: u64,
    not_text: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        let gzip = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
        Self { gzip, text: String::new(), documents: 0, not_text: 0 }
    }

    /// Adds documents that lie back to back.
    pub(super) fn append(&mut self, documents: &[u8]) -> Result<(), Unwritable> {
        for document in raw::documents(documents) {
            let document = document?;
            self.text.clear();
            extjson::push_document(&mut self.text, document)?;
            // What is no text shows as this character, which may as well have been there.
            if self.text.contains(char::REPLACEMENT_CHARACTER) && !text::is_text(document)? {
                self.not_text += 1;
            }
            self.text.push('\n');
            self.gzip.write_all(self.text.as_bytes())?;
            self.documents += 1;
        }
        self.text.clear();
        self.text.shrink_to(TEXT_BYTES_KEPT);
        Ok(())
    }

    /// How long the file is by now; what the compressor still holds comes on top.
    pub(super) fn bytes(&self) -> usize {
        self.gzip.get_ref().len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// The file, and how many of its documents have strings that are not UTF-8.
    pub(super) fn finish(self) -> io::Result<(Vec<u8>, u64)> {
        Ok((self.gzip.finish()?, self.not_text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use bson::rawdoc;

    use super::*;

    #[test]
    fn each_document_is_a_line() {
        let mut lines = Lines::new();
        assert!(lines.is_empty());
        let documents = [rawdoc! {"_id": 1_i32, "text": "two\nlines"}, rawdoc! {"_id": 2_i64}];
        lines.append(&documents.map(bson::RawDocumentBuf::into_bytes).concat()).unwrap();
        lines.append(rawdoc! {"_id": "\u{fffd}"}.as_bytes()).unwrap();
        let (content, not_text) = lines.finish().unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(content.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"_id":{"$numberInt":"1"},"text":"two\u000alines"}"#,
                "\n",
                r#"{"_id":{"$numberLong":"2"}}"#,
                "\n{\"_id\":\"\u{fffd}\"}\n"
            )
        );
        assert_eq!(not_text, 0, "a character that is meant is text");
    }

    #[test]
    fn what_is_no_text_is_counted_and_what_is_no_document_refused() {
        let mut bytes = rawdoc! {"_id": 1_i32, "a": ["??"]}.into_bytes();
        let at = bytes.windows(2).position(|two| two == b"??").unwrap();
        bytes[at] = 0xFF;
        let mut lines = Lines::new();
        lines.append(&bytes).unwrap();
        assert_eq!(lines.finish().unwrap().1, 1);
        assert!(matches!(Lines::new().append(&bytes[..10]), Err(Unwritable::Malformed(_))));
    }
}
