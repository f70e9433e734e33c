//! Putting raw documents together out of raw elements.

use super::Element;

/// Begins a document at the end of `out`; what is returned goes to [`close`].
pub fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend([0; 4]);
    start
}

/// Ends the document that was begun at `start`.
///
/// A document of more than 2 GiB would get a wrong length; callers keep far below.
pub fn close(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends an element as it is.
pub fn push(out: &mut Vec<u8>, element: &Element<'_>) {
    push_as(out, element.kind, element.name, element.value);
}

/// Appends an element of any type, name and value.
pub fn push_as(out: &mut Vec<u8>, kind: u8, name: &[u8], value: &[u8]) {
    push_head(out, kind, name);
    out.extend_from_slice(value);
}

/// Appends type and name; the value is to follow.
pub fn push_head(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    out.push(kind);
    out.extend_from_slice(name);
    out.push(0);
}
