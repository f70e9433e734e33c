//! The frame of an OP_MSG: written from parts, read into one buffer.

use bson::raw::RawDocument;
use history::raw::document_length;

use crate::{Error, Result};

const OP_MSG: i32 = 2013;
/// Length, request id, response to, opcode.
pub(super) const HEADER_BYTES: usize = 16;
/// Flag bits and the kind of the first section.
const PREFIX_BYTES: usize = 5;
/// Where the body begins in what follows the header.
pub(super) const BODY_OFFSET: usize = PREFIX_BYTES;
/// Replies carry one document of at most 16 MB and a little; a longer one is not a reply of a mongod.
const REPLY_BYTES_MAX: usize = 48_000_000 + 64 * 1024;

/// Everything of a message that comes before the documents of its sequence.
///
/// The caller writes `sequence.1` right after it, so documents are never copied.
pub(super) fn head(request_id: i32, body: &RawDocument, sequence: Option<(&str, &[u8])>) -> Result<Vec<u8>> {
    let body = body.as_bytes();
    let sequence_bytes = sequence.map_or(0, |(name, documents)| 4 + name.len() + 1 + documents.len());
    let kind_bytes = usize::from(sequence.is_some());
    let length = HEADER_BYTES + PREFIX_BYTES + body.len() + kind_bytes + sequence_bytes;
    let word =
        |bytes: usize| i32::try_from(bytes).map_err(|_| Error::protocol("a message longer than 2 GiB"));
    let mut head = Vec::with_capacity(HEADER_BYTES + PREFIX_BYTES + body.len() + 64);
    for field in [word(length)?, request_id, 0, OP_MSG] {
        head.extend(field.to_le_bytes());
    }
    head.extend([0; PREFIX_BYTES]);
    head.extend(body);
    if let Some((name, _)) = sequence {
        head.push(1);
        head.extend(word(sequence_bytes)?.to_le_bytes());
        head.extend(name.as_bytes());
        head.push(0);
    }
    Ok(head)
}

/// Checks a reply's header and returns how many bytes follow it.
pub(super) fn reply_length(header: [u8; HEADER_BYTES], request_id: i32) -> Result<usize> {
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        i32::from_le_bytes(bytes)
    };
    let length = usize::try_from(word(0)).unwrap_or(0).saturating_sub(HEADER_BYTES);
    if word(12) != OP_MSG {
        return Err(Error::protocol(format!("opcode {} in a reply; is this a MongoDB server?", word(12))));
    }
    if word(8) != request_id {
        return Err(Error::protocol("a reply to another request"));
    }
    if !(PREFIX_BYTES + 5..=REPLY_BYTES_MAX).contains(&length) {
        return Err(Error::protocol(format!("a reply of {length} bytes")));
    }
    Ok(length)
}

/// The body document of a reply, header already taken off.
pub(super) fn body(reply: &[u8]) -> Result<&RawDocument> {
    let malformed = || Error::protocol("a malformed message");
    let (prefix, rest) = reply.split_at_checked(PREFIX_BYTES).ok_or_else(malformed)?;
    if prefix[4] != 0 {
        return Err(Error::protocol("a reply that does not begin with its body"));
    }
    let length = document_length(rest).map_err(|_| malformed())?;
    RawDocument::from_bytes(&rest[..length]).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_and_its_sequence_are_one_whole_message() {
        let document = rawdoc! { "_id": 1 };
        let sequence = [document.as_bytes(), document.as_bytes()].concat();
        let command = rawdoc! { "insert": "c", "$db": "d" };
        let mut message = head(7, &command, Some(("documents", &sequence))).unwrap();
        message.extend(&sequence);
        let length = i32::from_le_bytes(message[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), message.len());
        assert_eq!(body(&message[HEADER_BYTES..]).unwrap(), &*command);
        let section = &message[HEADER_BYTES + PREFIX_BYTES + command.as_bytes().len()..];
        assert_eq!(section[0], 1);
        let section_length = i32::from_le_bytes(section[1..5].try_into().unwrap());
        assert_eq!(usize::try_from(section_length).unwrap(), section.len() - 1);
    }

    #[test]
    fn refuses_replies_that_are_not_ours() {
        let header = |length: i32, to: i32, opcode: i32| {
            let mut header = [0; HEADER_BYTES];
            header[..4].copy_from_slice(&length.to_le_bytes());
            header[8..12].copy_from_slice(&to.to_le_bytes());
            header[12..].copy_from_slice(&opcode.to_le_bytes());
            header
        };
        assert_eq!(reply_length(header(26, 3, OP_MSG), 3).unwrap(), 10);
        for wrong in [
            header(26, 4, OP_MSG),
            header(26, 3, 1),
            header(20, 3, OP_MSG),
            header(-1, 3, OP_MSG),
            header(i32::MAX, 3, OP_MSG),
        ] {
            assert!(reply_length(wrong, 3).is_err());
        }
    }

    proptest! {
        #[test]
        fn bytes_from_the_network_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = body(&bytes);
        }
    }
}
