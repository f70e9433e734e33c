//! Cutting documents by what they weigh in the oplog: that of small ones is mostly entries.

use bytes::Bytes;
use history::{Malformed, raw};

use super::ledger::weight;

/// Cuts documents that lie back to back into pieces of no more than this weight, but for single documents that have more.
pub(super) fn cut(documents: &Bytes, most: u64) -> Result<Vec<Bytes>, Malformed> {
    let mut pieces = Vec::new();
    let (mut begin, mut end, mut heavy) = (0, 0, 0);
    while end < documents.len() {
        let length = raw::document_length(&documents[end..])?;
        let more = weight(1, length as u64);
        if end > begin && heavy + more > most {
            pieces.push(documents.slice(begin..end));
            (begin, heavy) = (end, 0);
        }
        end += length;
        heavy += more;
    }
    pieces.push(documents.slice(begin..));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_no_heavier_than_they_may_be_and_lose_nothing(
            sizes in proptest::collection::vec(prop_oneof![5 => 0_usize..50, 1 => 900_usize..3_000], 1..40),
        ) {
            const MOST: u64 = 2_000;
            let document = |size: &usize| bson::rawdoc! { "a": "x".repeat(*size) }.into_bytes();
            let documents: Vec<_> = sizes.iter().map(document).collect();
            let pieces = cut(&documents.concat().into(), MOST).unwrap();
            prop_assert_eq!(pieces.concat(), documents.concat());
            for (at, piece) in pieces.iter().enumerate() {
                let inside: Vec<_> = raw::documents(piece).map(Result::unwrap).collect();
                let heavy = weight(inside.len() as u64, piece.len() as u64);
                prop_assert!(inside.len() == 1 || heavy <= MOST, "{heavy}");
                if let Some(next) = pieces.get(at + 1) {
                    let first = raw::document_length(next).unwrap() as u64;
                    prop_assert!(heavy + weight(1, first) > MOST, "it had room for another one");
                }
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(cut(&Bytes::from_static(b"\x05\0\0\0\0\x09"), 1).is_err());
    }
}
