//! Sort keys: bytes whose order is MongoDB's order of `_id` values.
//!
//! Source: the comparison order of the server (`canonicalizeBSONType`, `BSONElement::compareElements`) with
//! the simple collation. Values that the server holds equal (`1`, `1.0`, `NumberLong(1)`; a string and a
//! symbol of the same text) have equal keys, so a key identifies a document in its collection.

use std::fmt;

use crate::{Malformed, number, raw};

/// Nesting that the server itself refuses to store.
const DEPTH_MAX: usize = 250;

/// The sort key of one `_id` value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SortKey(Vec<u8>);

impl SortKey {
    /// The key of a document: that of its `_id`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no document or have no `_id`.
    pub fn of_document(document: &[u8]) -> Result<Self, Malformed> {
        let mut key = Vec::with_capacity(24);
        push_document_key(&mut key, document)?;
        Ok(Self(key))
    }

    /// The key of a value of BSON type `kind`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no such value.
    pub fn of_value(kind: u8, value: &[u8]) -> Result<Self, Malformed> {
        let mut key = Vec::with_capacity(24);
        push_value(&mut key, kind, value, 0)?;
        Ok(Self(key))
    }

    /// Takes bytes that were a key before.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Whether a collation may find it equal to another one: strings, and what may have some inside.
    pub fn is_collated(&self) -> bool {
        let ranks = [0x02, 0x03, 0x04].map(|kind| rank(kind).ok());
        ranks.contains(&self.0.first().copied())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SortKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Appends the key of a document's `_id` to `out`, without an allocation of its own.
///
/// # Errors
/// [`Malformed`] when the bytes are no document or have no `_id`.
pub fn push_document_key(out: &mut Vec<u8>, document: &[u8]) -> Result<(), Malformed> {
    // The server stores `_id` first; only system collections may differ.
    let id = raw::field(document, "_id")?.ok_or(Malformed("a document without _id"))?;
    push_value(out, id.kind, id.value, 0)
}

/// Where a BSON type stands in the order of types.
fn rank(kind: u8) -> Result<u8, Malformed> {
    Ok(match kind {
        0xFF => 0x05,
        0x06 => 0x08,
        0x0A => 0x0A,
        0x01 | 0x10 | 0x12 | 0x13 => 0x14,
        0x02 | 0x0E => 0x1E,
        0x03 => 0x28,
        0x04 => 0x32,
        0x05 => 0x3C,
        0x07 => 0x46,
        0x08 => 0x50,
        0x09 => 0x5A,
        0x11 => 0x5E,
        0x0B => 0x64,
        0x0C => 0x6E,
        0x0D => 0x78,
        0x0F => 0x82,
        0x7F => 0xFA,
        _ => return Err(Malformed("unknown element type")),
    })
}

fn push_value(out: &mut Vec<u8>, kind: u8, value: &[u8], depth: usize) -> Result<(), Malformed> {
    out.push(rank(kind)?);
    push_untyped(out, kind, value, depth)
}

fn push_untyped(out: &mut Vec<u8>, kind: u8, value: &[u8], depth: usize) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nested too deeply"));
    }
    match kind {
        0x01 => number::push_double(out, f64::from_le_bytes(fixed(value)?)),
        0x10 => number::push_integer(out, i32::from_le_bytes(fixed(value)?).into()),
        0x12 => number::push_integer(out, i64::from_le_bytes(fixed(value)?)),
        0x13 => number::push_decimal(out, fixed(value)?),
        0x02 | 0x0D | 0x0E => push_text(out, text(value)?),
        0x03 | 0x04 => push_object(out, value, kind == 0x03, depth)?,
        0x05 => {
            let (length, rest) = value.split_at_checked(4).ok_or(Malformed("binary"))?;
            out.extend(length.iter().rev());
            out.extend(rest);
        }
        0x07 => out.extend(value),
        0x08 => out.push(u8::from(value.first().is_some_and(|&b| b != 0))),
        0x09 => out.extend((i64::from_le_bytes(fixed(value)?) as u64 ^ 1 << 63).to_be_bytes()),
        0x11 => out.extend(u64::from_le_bytes(fixed(value)?).to_be_bytes()),
        0x0B => out.extend(value),
        0x0C => {
            out.extend((value.len() as u32).to_be_bytes());
            out.extend(value);
        }
        0x0F => push_code_with_scope(out, value, depth)?,
        // MinKey, MaxKey, null and undefined have no value.
        _ => {}
    }
    Ok(())
}

/// Elements compare by type, then by name, then by value; the shorter object comes first.
fn push_object(out: &mut Vec<u8>, object: &[u8], with_names: bool, depth: usize) -> Result<(), Malformed> {
    for element in raw::elements(object) {
        let element = element?;
        out.push(rank(element.kind)?);
        if with_names {
            out.extend(element.name);
            out.push(0);
        }
        push_untyped(out, element.kind, element.value, depth + 1)?;
    }
    out.push(0);
    Ok(())
}

fn push_code_with_scope(out: &mut Vec<u8>, value: &[u8], depth: usize) -> Result<(), Malformed> {
    let code_and_scope = value.get(4..).ok_or(Malformed("code with scope"))?;
    let length = code_and_scope.get(..4).ok_or(Malformed("code with scope"))?;
    let length = u32::from_le_bytes(fixed(length)?) as usize;
    let (code, scope) = code_and_scope.split_at_checked(4 + length).ok_or(Malformed("code with scope"))?;
    push_text(out, text(code)?);
    push_object(out, scope, true, depth)
}

/// A string's bytes without length and end.
fn text(value: &[u8]) -> Result<&[u8], Malformed> {
    if value.len() < 5 { Err(Malformed("string")) } else { Ok(&value[4..value.len() - 1]) }
}

/// Text may hold zero bytes: each becomes `00 FF`, and `00 00` ends it.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend([0, 0]);
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed("value of a wrong length"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::str::FromStr;

    use bson::{Bson, Decimal128, doc};
    use proptest::prelude::*;

    use super::*;

    fn key(id: impl Into<Bson>) -> SortKey {
        let document = bson::RawDocumentBuf::try_from(&doc! { "_id": id.into() }).unwrap();
        SortKey::of_document(document.as_bytes()).unwrap()
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(Decimal128::from_str(text).unwrap())
    }

    /// One value of each class in the order that the server's documentation and sources give.
    #[test]
    fn types_stand_in_the_server_s_order() {
        let ordered: Vec<Bson> = vec![
            Bson::MinKey,
            Bson::Undefined,
            Bson::Null,
            f64::NAN.into(),
            f64::NEG_INFINITY.into(),
            decimal("-1E+6000"),
            f64::MIN.into(),
            i64::MIN.into(),
            (-1.5).into(),
            (-1).into(),
            (-0.1).into(),
            decimal("-0.1").clone(),
            (-f64::from_bits(1)).into(),
            0.into(),
            decimal("1E-6000"),
            f64::from_bits(1).into(),
            decimal("0.1"),
            0.1.into(),
            1.into(),
            decimal("1.0000000000000000000000000000001"),
            2.into(),
            9.into(),
            10.into(),
            i64::MAX.into(),
            9_223_372_036_854_775_808.0.into(),
            f64::MAX.into(),
            decimal("1E+6000"),
            f64::INFINITY.into(),
            "".into(),
            "\0".into(),
            "a".into(),
            "a\0b".into(),
            "aa".into(),
            "b".into(),
            doc! {}.into(),
            doc! { "a": 1 }.into(),
            doc! { "a": 1, "b": 1 }.into(),
            doc! { "a": 2 }.into(),
            doc! { "b": 1 }.into(),
            doc! { "a": "x" }.into(),
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![9] }),
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1] }),
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 0] }),
            bson::oid::ObjectId::from_bytes([1; 12]).into(),
            bson::oid::ObjectId::from_bytes([2; 12]).into(),
            false.into(),
            true.into(),
            bson::DateTime::from_millis(-1).into(),
            bson::DateTime::from_millis(1).into(),
            Bson::Timestamp(bson::Timestamp { time: 1, increment: 9 }),
            Bson::Timestamp(bson::Timestamp { time: 0x8000_0000, increment: 1 }),
            Bson::MaxKey,
        ];
        for pair in ordered.windows(2) {
            assert!(key(pair[0].clone()) < key(pair[1].clone()), "{:?} is not before {:?}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_numbers_of_any_type_are_one_key() {
        for same in [
            vec![Bson::from(1), 1i64.into(), 1.0.into(), decimal("1"), decimal("1.000")],
            vec![0.into(), (-0.0).into(), decimal("-0"), decimal("0E+3")],
            vec![f64::NAN.into(), decimal("NaN")],
            vec![0.5.into(), decimal("0.50")],
            vec![f64::INFINITY.into(), decimal("Infinity")],
        ] {
            assert!(same.windows(2).all(|pair| key(pair[0].clone()) == key(pair[1].clone())), "{same:?}");
        }
        assert_ne!(key(0.1), key(decimal("0.1")));
        assert_eq!(key(Bson::Symbol("a".into())), key("a"));
    }

    #[test]
    fn a_document_without_id_is_refused() {
        assert!(SortKey::of_document(bson::rawdoc! { "a": 1 }.as_bytes()).is_err());
        assert!(SortKey::of_document(b"").is_err());
    }

    proptest! {
        #[test]
        fn integers_and_doubles_sort_by_value(a in any::<i64>(), b in any::<f64>()) {
            prop_assume!(!b.is_nan());
            let exact = if b >= 9.3e18 { std::cmp::Ordering::Less } else if b <= -9.3e18 { std::cmp::Ordering::Greater }
                else { (a as i128).cmp(&(b.trunc() as i128)).then(0.0.partial_cmp(&b.fract()).unwrap()) };
            prop_assert_eq!(key(a).cmp(&key(b)), exact);
        }

        #[test]
        fn doubles_sort_by_value(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(key(a).cmp(&key(b)), a.partial_cmp(&b).unwrap());
        }

        #[test]
        fn texts_sort_by_bytes(a in ".{0,8}", b in ".{0,8}") {
            prop_assert_eq!(key(a.as_str()).cmp(&key(b.as_str())), a.as_bytes().cmp(b.as_bytes()));
        }

        #[test]
        fn no_value_panics(kind in any::<u8>(), value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = SortKey::of_value(kind, &value);
        }
    }
}
