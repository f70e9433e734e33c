//! Changes as bytes: in runs that are spilled to disk by a sort, and in the deltas of vaults, whose format it is part of
//! (`docs/format.md`).

use super::{Change, Position, Write};
use crate::{ClusterTime, CollectionId, Malformed, SortKey, raw::document_length};

const INSERT: u8 = 0;
const REPLACE: u8 = 1;
const PATCH: u8 = 2;
const DELETE: u8 = 3;
const REAPPLY: u8 = 4;
/// The collection, the time, the order, the kind and two lengths.
const HEAD: usize = 16 + 8 + 8 + 1 + 4 + 4;

/// Appends a change.
pub fn push_record(out: &mut Vec<u8>, change: &Change<'_>) {
    let (kind, payload, second): (u8, &[u8], &[u8]) = match &change.write {
        Write::Insert(document) => (INSERT, document, &[]),
        Write::Replace(document) => (REPLACE, document, &[]),
        Write::Patch(diff) => (PATCH, diff, &[]),
        Write::Delete => (DELETE, &[], &[]),
        Write::Reapply { new, diff } => (REAPPLY, new, diff),
    };
    let key = change.key.as_bytes();
    out.reserve(HEAD + key.len() + payload.len() + second.len());
    out.extend(change.collection.0);
    out.extend(change.position.time.to_le_bytes());
    out.extend(change.position.order.to_le_bytes());
    out.push(kind);
    // Keys and documents are far below 4 GiB.
    out.extend((key.len() as u32).to_le_bytes());
    out.extend(((payload.len() + second.len()) as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(payload);
    out.extend_from_slice(second);
}

/// How many bytes [`push_record`] appends.
pub fn record_bytes(change: &Change<'_>) -> usize {
    HEAD + change.key.as_bytes().len() + change.write.bytes()
}

/// The change at the start of `bytes`, and what is after it; none when less than a whole one is there.
///
/// # Errors
/// [`Malformed`] when the bytes were not written by [`push_record`].
pub fn split_record(bytes: &[u8]) -> Result<Option<(Change<'_>, &[u8])>, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
    let (collection, head) = take::<16>(head)?;
    let (time, head) = take::<8>(head)?;
    let (order, head) = take::<8>(head)?;
    let ([kind], head) = take::<1>(head)?;
    let (key_length, head) = take::<4>(head)?;
    let (payload_length, _) = take::<4>(head)?;
    let (key_length, payload_length) =
        (u32::from_le_bytes(key_length) as usize, u32::from_le_bytes(payload_length) as usize);
    let Some((key, rest)) = rest.split_at_checked(key_length) else { return Ok(None) };
    let Some((payload, rest)) = rest.split_at_checked(payload_length) else { return Ok(None) };
    let change = Change {
        collection: CollectionId(collection),
        key: SortKey::from_bytes(key.to_vec()),
        position: Position { time: ClusterTime::from_le_bytes(time), order: u64::from_le_bytes(order) },
        write: match kind {
            INSERT => Write::Insert(payload.into()),
            REPLACE => Write::Replace(payload.into()),
            PATCH => Write::Patch(payload.into()),
            DELETE if payload.is_empty() => Write::Delete,
            DELETE => return Err(Malformed("a deletion with a document")),
            REAPPLY => {
                let (new, diff) = payload.split_at(document_length(payload)?);
                Write::Reapply { new: new.into(), diff: diff.into() }
            }
            _ => return Err(Malformed("a change of an unknown kind")),
        },
    };
    Ok(Some((change, rest)))
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Malformed> {
    bytes.split_first_chunk::<N>().map(|(first, rest)| (*first, rest)).ok_or(Malformed("a short change"))
}
