//! Walking raw BSON without decoding it.
//!
//! The walker accepts whatever a server stores: duplicate names, deprecated types, invalid UTF-8. It
//! checks lengths only, so that it never reads past the end. Source: the BSON specification 1.1.

pub mod value;
pub mod write;

use crate::Malformed;

pub use value::kind;

/// BSON documents that the server stores reach 16 MiB; oplog entries and internal ones 16 KiB more.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024 + 16 * 1024;
/// An empty document: its length and its end.
pub const DOCUMENT_BYTES_MIN: usize = 5;

/// One element of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The BSON type byte.
    pub kind: u8,
    /// The name without its end; not necessarily UTF-8.
    pub name: &'a [u8],
    /// The value as it is stored, lengths included.
    pub value: &'a [u8],
}

/// Iterates over the elements of a document. Stops after the first error.
pub fn elements(document: &[u8]) -> Elements<'_> {
    match body(document) {
        Ok(rest) => Elements { rest, broken: None },
        Err(error) => Elements { rest: &[], broken: Some(error) },
    }
}

/// See [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    broken: Option<Malformed>,
}

impl<'a> Elements<'a> {
    /// The bytes of the elements that were not given yet.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.broken.take() {
            self.rest = &[];
            return Some(Err(error));
        }
        if self.rest.is_empty() {
            return None;
        }
        match split_element(self.rest) {
            Ok((element, rest)) => {
                self.rest = rest;
                Some(Ok(element))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The value of the first element called `name`.
///
/// # Errors
/// [`Malformed`] when the document is broken before the element is met.
pub fn field<'a>(document: &'a [u8], name: &str) -> Result<Option<Element<'a>>, Malformed> {
    for element in elements(document) {
        let element = element?;
        if element.name == name.as_bytes() {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// The length that a document at the start of `bytes` says it has, checked against what is there.
///
/// # Errors
/// [`Malformed`] when there is no whole document.
pub fn document_length(bytes: &[u8]) -> Result<usize, Malformed> {
    let length = length_at(bytes, 0)?;
    if length < DOCUMENT_BYTES_MIN || length > bytes.len() {
        return Err(Malformed("document length"));
    }
    if bytes[length - 1] != 0 {
        return Err(Malformed("document without end"));
    }
    Ok(length)
}

/// Iterates over documents that lie back to back.
pub fn documents(bytes: &[u8]) -> Documents<'_> {
    Documents { rest: bytes }
}

/// See [`documents`].
#[derive(Debug, Clone)]
pub struct Documents<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Documents<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match document_length(self.rest) {
            Ok(length) => {
                let (document, rest) = self.rest.split_at(length);
                self.rest = rest;
                Some(Ok(document))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The elements' bytes: a document without its length and its end.
fn body(document: &[u8]) -> Result<&[u8], Malformed> {
    if document_length(document)? != document.len() {
        return Err(Malformed("bytes after the document"));
    }
    Ok(&document[4..document.len() - 1])
}

fn split_element(bytes: &[u8]) -> Result<(Element<'_>, &[u8]), Malformed> {
    let kind = bytes[0];
    let name_length = bytes[1..].iter().position(|&b| b == 0).ok_or(Malformed("element name without end"))?;
    let name = &bytes[1..=name_length];
    let after_name = &bytes[name_length + 2..];
    let length = value_length(kind, after_name)?;
    if length > after_name.len() {
        return Err(Malformed("value longer than its document"));
    }
    let (value, rest) = after_name.split_at(length);
    Ok((Element { kind, name, value }, rest))
}

/// How many bytes the value at the start of `bytes` takes.
fn value_length(kind: u8, bytes: &[u8]) -> Result<usize, Malformed> {
    Ok(match kind {
        0x06 | 0x0A | 0x7F | 0xFF => 0,
        0x08 => 1,
        0x10 => 4,
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x07 => 12,
        0x13 => 16,
        0x02 | 0x0D | 0x0E => 4 + string_length(bytes)?,
        0x0C => 4 + string_length(bytes)? + 12,
        0x05 => 5 + length_at(bytes, 0)?,
        0x03 | 0x04 | 0x0F => {
            let length = length_at(bytes, 0)?;
            if length < DOCUMENT_BYTES_MIN {
                return Err(Malformed("embedded document length"));
            }
            length
        }
        0x0B => {
            let pattern = cstring_length(bytes)?;
            pattern + cstring_length(&bytes[pattern..])?
        }
        _ => return Err(Malformed("unknown element type")),
    })
}

fn string_length(bytes: &[u8]) -> Result<usize, Malformed> {
    match length_at(bytes, 0)? {
        0 => Err(Malformed("string length")),
        length => Ok(length),
    }
}

/// A non-negative length, read from four bytes.
fn length_at(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    let four = bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).ok_or(Malformed("length"))?;
    usize::try_from(i32::from_le_bytes(four)).map_err(|_| Malformed("negative length"))
}

/// Length of a C string with its end.
fn cstring_length(bytes: &[u8]) -> Result<usize, Malformed> {
    bytes.iter().position(|&b| b == 0).map(|at| at + 1).ok_or(Malformed("text without end"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_come_in_order_with_their_bytes() {
        let document = bson::rawdoc! { "a": 1, "b": "x", "b": { "c": [true, null] }, "d": bson::Regex { pattern: "p".try_into().unwrap(), options: "i".try_into().unwrap() } };
        let names: Vec<_> = elements(document.as_bytes())
            .map(|e| (e.as_ref().unwrap().kind, e.unwrap().name.to_vec()))
            .collect();
        assert_eq!(
            names,
            [(0x10, b"a".to_vec()), (0x02, b"b".to_vec()), (0x03, b"b".to_vec()), (0x0B, b"d".to_vec())]
        );
        assert_eq!(field(document.as_bytes(), "b").unwrap().unwrap().value, b"\x02\0\0\0x\0");
        assert_eq!(field(document.as_bytes(), "z").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = elements(&bytes).count();
            let _ = documents(&bytes).count();
        }

        #[test]
        fn a_good_frame_with_any_inside_is_walked_without_panic(inside in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = ((inside.len() + 5) as i32).to_le_bytes().to_vec();
            bytes.extend(&inside);
            bytes.push(0);
            let walked: usize = elements(&bytes).map_while(Result::ok).map(|e| e.name.len() + e.value.len() + 2).sum();
            prop_assert!(walked <= inside.len());
        }
    }
}
