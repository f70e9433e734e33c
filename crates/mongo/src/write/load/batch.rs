//! Cutting a stream of documents into messages, without copying them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use history::raw::{document_length, elements};

use crate::{Result, write::raw::malformed};

/// What goes into one message.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes of documents. One larger document goes alone.
    bytes: usize,
    /// Documents, far below what servers accept (100,000), so that a reply that refuses all of them stays below 16 MB.
    documents: usize,
    /// Documents with a top-level `Timestamp(0,0)`. The server takes much longer for each, and a message has to be answered before
    /// the connection is given up.
    mended: usize,
}

/// The server takes 2 % more of its processor's time for messages of 1 MB than for these, 10 % more for 256 KB, and more again for
/// 12 MB.
const LIMITS: Limits = Limits { bytes: 4 << 20, documents: 10_000, mended: 2_500 };

const TIMESTAMP: u8 = 0x11;

/// Documents of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Back to back.
    pub(super) documents: Bytes,
    pub(super) count: usize,
    /// All of them have a top-level `Timestamp(0,0)`, or none has.
    pub(super) zero_timestamps: bool,
}

/// Cuts documents that lie back to back into batches; in their order, if that matters.
pub(super) fn split(documents: &Bytes, insertion_order: bool) -> Result<Vec<Batch>> {
    split_within(LIMITS, documents, insertion_order)
}

fn split_within(limits: Limits, documents: &Bytes, insertion_order: bool) -> Result<Vec<Batch>> {
    let mut splitter = Splitter { source: documents, batches: Vec::new() };
    let mut runs = [Run::default(), Run::default()];
    let mut start = 0;
    while start < documents.len() {
        let end = start + document_length(&documents[start..]).map_err(malformed)?;
        let zero = has_zero_timestamp(&documents[start..end])?;
        if insertion_order {
            splitter.flush(&mut runs[usize::from(!zero)], !zero);
        }
        let run = &mut runs[usize::from(zero)];
        let most = if zero { limits.mended } else { limits.documents };
        if run.count >= most || (run.count > 0 && run.bytes + end - start > limits.bytes) {
            splitter.flush(run, zero);
        }
        run.push(start..end);
        start = end;
    }
    let [plain, zero] = &mut runs;
    splitter.flush(plain, false);
    splitter.flush(zero, true);
    Ok(splitter.batches)
}

/// Whether the server would put its time in the place of a value when it inserts this document. It leaves `_id`s alone.
fn has_zero_timestamp(document: &[u8]) -> Result<bool> {
    // Text and small numbers have no such byte anywhere, and looking for it is faster than walking a document.
    if !document.contains(&TIMESTAMP) {
        return Ok(false);
    }
    for element in elements(document) {
        let element = element.map_err(malformed)?;
        if element.kind == TIMESTAMP && element.value == [0; 8] && element.name != b"_id" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Documents that will be one batch: stretches of the source, nearly always one.
#[derive(Debug, Default)]
struct Run {
    stretches: Vec<Range<usize>>,
    bytes: usize,
    count: usize,
}

impl Run {
    fn push(&mut self, document: Range<usize>) {
        self.bytes += document.len();
        self.count += 1;
        match self.stretches.last_mut() {
            Some(last) if last.end == document.start => last.end = document.end,
            _ => self.stretches.push(document),
        }
    }
}

struct Splitter<'a> {
    source: &'a Bytes,
    batches: Vec<Batch>,
}

impl Splitter<'_> {
    fn flush(&mut self, run: &mut Run, zero_timestamps: bool) {
        let run = std::mem::take(run);
        let documents = match run.stretches.as_slice() {
            [] => return,
            [one] => self.source.slice(one.clone()),
            several => {
                let mut joined = BytesMut::with_capacity(run.bytes);
                several.iter().for_each(|stretch| joined.extend_from_slice(&self.source[stretch.clone()]));
                joined.freeze()
            }
        };
        self.batches.push(Batch { documents, count: run.count, zero_timestamps });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Timestamp, rawdoc};
    use history::raw;
    use proptest::prelude::*;

    use super::*;

    fn document(id: i32, zero: bool, padding: usize) -> Vec<u8> {
        let time = if zero { 0 } else { 1 };
        rawdoc! { "_id": id, "p": "x".repeat(padding), "t": Timestamp { time, increment: 0 } }.into_bytes()
    }

    #[test]
    fn knows_what_the_server_changes() {
        let zero = Timestamp { time: 0, increment: 0 };
        assert!(has_zero_timestamp(rawdoc! { "_id": 1, "a": zero }.as_bytes()).unwrap());
        for kept in [
            rawdoc! { "_id": zero },
            rawdoc! { "_id": 1, "a": { "b": zero } },
            rawdoc! { "_id": 1, "a": Timestamp { time: 0, increment: 1 } },
            rawdoc! { "_id": 1, "a": 0_i64 },
        ] {
            assert!(!has_zero_timestamp(kept.as_bytes()).unwrap());
        }
    }

    #[test]
    fn a_document_larger_than_a_batch_goes_alone() {
        let stream: Vec<u8> =
            [document(1, false, 5), document(2, false, 2 * LIMITS.bytes), document(3, false, 5)].concat();
        let counts: Vec<_> = split(&stream.into(), false).unwrap().iter().map(|b| b.count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(split(&Bytes::from_static(b"\x05\0\0\0\0\x09"), false).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_order_is_kept_when_it_matters(
            shapes in proptest::collection::vec((proptest::bool::weighted(0.3), prop_oneof![3 => 0_usize..9, 1 => 300_usize..500]), 0..60),
            insertion_order: bool,
        ) {
            let documents: Vec<_> = (0..).zip(&shapes).map(|(id, &(zero, padding))| document(id, zero, padding)).collect();
            let limits = Limits { bytes: 1_000, documents: 7, mended: 3 };
            let batches = split_within(limits, &documents.concat().into(), insertion_order).unwrap();
            let mut loaded = Vec::new();
            for batch in &batches {
                let inside: Vec<_> = raw::documents(&batch.documents).map(|d| d.unwrap().to_vec()).collect();
                prop_assert_eq!(inside.len(), batch.count);
                prop_assert!(batch.count == 1 || batch.documents.len() <= limits.bytes);
                let most = if batch.zero_timestamps { limits.mended } else { limits.documents };
                prop_assert!(batch.count <= most);
                for document in &inside {
                    prop_assert_eq!(has_zero_timestamp(document).unwrap(), batch.zero_timestamps);
                }
                loaded.extend(inside);
            }
            let mut wanted = documents;
            if !insertion_order {
                wanted.sort();
                loaded.sort();
            }
            prop_assert_eq!(loaded, wanted);
        }
    }
}
