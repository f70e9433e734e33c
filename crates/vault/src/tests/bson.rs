//! Documents of any types, put together by hand.

use history::raw::{kind, write};

/// A BSON value: its type and its bytes.
pub(super) type Value = (u8, Vec<u8>);

pub(super) fn int(value: i32) -> Value {
    (kind::INT32, value.to_le_bytes().to_vec())
}

pub(super) fn long(value: i64) -> Value {
    (kind::INT64, value.to_le_bytes().to_vec())
}

pub(super) fn double(value: f64) -> Value {
    (kind::DOUBLE, value.to_le_bytes().to_vec())
}

/// `coefficient` × 10^`exponent` as a Decimal128.
pub(super) fn decimal(is_negative: bool, coefficient: u128, exponent: i32) -> Value {
    let exponent = u128::try_from(exponent + 6176).unwrap();
    (0x13, (u128::from(is_negative) << 127 | exponent << 113 | coefficient).to_le_bytes().to_vec())
}

pub(super) fn string(value: &str) -> Value {
    let length = u32::try_from(value.len() + 1).unwrap().to_le_bytes();
    (kind::STRING, [&length[..], value.as_bytes(), &[0]].concat())
}

pub(super) fn binary(subtype: u8, value: &[u8]) -> Value {
    let length = u32::try_from(value.len()).unwrap().to_le_bytes();
    (kind::BINARY, [&length[..], &[subtype], value].concat())
}

pub(super) fn bson(elements: &[(&str, Value)]) -> Vec<u8> {
    let mut document = Vec::new();
    let start = write::open(&mut document);
    for (name, (kind, value)) in elements {
        write::push_as(&mut document, *kind, name.as_bytes(), value);
    }
    write::close(&mut document, start);
    document
}

pub(super) fn inner(elements: &[(&str, Value)]) -> Value {
    (kind::DOCUMENT, bson(elements))
}

pub(super) fn array(values: &[Value]) -> Value {
    let names: Vec<_> = (0..values.len()).map(|at| at.to_string()).collect();
    let elements: Vec<_> = names.iter().map(String::as_str).zip(values.iter().cloned()).collect();
    (kind::ARRAY, bson(&elements))
}

pub(super) fn boolean(value: bool) -> Value {
    (kind::BOOLEAN, vec![u8::from(value)])
}
