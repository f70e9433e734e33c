//! What the value of one element is, where it is of the type that is asked for.

use super::Element;
use crate::ClusterTime;

/// BSON type bytes that are named in this crate.
pub mod kind {
    /// A 64-bit float.
    pub const DOUBLE: u8 = 0x01;
    /// Text.
    pub const STRING: u8 = 0x02;
    /// An embedded document.
    pub const DOCUMENT: u8 = 0x03;
    /// An array.
    pub const ARRAY: u8 = 0x04;
    /// Bytes with a subtype.
    pub const BINARY: u8 = 0x05;
    /// True or false.
    pub const BOOLEAN: u8 = 0x08;
    /// Milliseconds since 1970.
    pub const DATE: u8 = 0x09;
    /// Null.
    pub const NULL: u8 = 0x0A;
    /// A 32-bit integer.
    pub const INT32: u8 = 0x10;
    /// A cluster time.
    pub const TIMESTAMP: u8 = 0x11;
    /// A 64-bit integer.
    pub const INT64: u8 = 0x12;
}

/// The subtype of UUIDs in the order of their text.
const UUID_SUBTYPE: u8 = 4;

impl<'a> Element<'a> {
    /// An embedded document.
    pub fn document(&self) -> Option<&'a [u8]> {
        (self.kind == kind::DOCUMENT).then_some(self.value)
    }

    /// An array; its elements are read as those of a document.
    pub fn array(&self) -> Option<&'a [u8]> {
        (self.kind == kind::ARRAY).then_some(self.value)
    }

    /// Text that is UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        if self.kind != kind::STRING {
            return None;
        }
        let text = self.value.get(4..)?.split_last()?.1;
        std::str::from_utf8(text).ok()
    }

    /// A cluster time.
    pub fn timestamp(&self) -> Option<ClusterTime> {
        self.fixed(kind::TIMESTAMP).map(ClusterTime::from_le_bytes)
    }

    /// Milliseconds since 1970 of a date.
    pub fn date(&self) -> Option<i64> {
        self.fixed(kind::DATE).map(i64::from_le_bytes)
    }

    /// A number of any binary type, if it is an integer.
    pub fn integer(&self) -> Option<i64> {
        /// Above it a float does not hold every integer.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        match self.kind {
            kind::INT32 => self.fixed(kind::INT32).map(|bytes| i32::from_le_bytes(bytes).into()),
            kind::INT64 => self.fixed(kind::INT64).map(i64::from_le_bytes),
            kind::DOUBLE => {
                let number = self.fixed(kind::DOUBLE).map(f64::from_le_bytes)?;
                (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
            }
            _ => None,
        }
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        self.fixed(kind::BOOLEAN).map(|[byte]| byte != 0)
    }

    /// A UUID.
    pub fn uuid(&self) -> Option<[u8; 16]> {
        if self.kind != kind::BINARY {
            return None;
        }
        let (&subtype, uuid) = self.value.get(4..)?.split_first()?;
        if subtype == UUID_SUBTYPE { uuid.try_into().ok() } else { None }
    }

    fn fixed<const N: usize>(&self, kind: u8) -> Option<[u8; N]> {
        if self.kind == kind { self.value.try_into().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::raw;

    #[test]
    fn values_are_given_only_as_what_they_are() {
        let uuid = bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] };
        let document = bson::rawdoc! {
            "i": 5, "l": 5i64, "f": 5.0, "h": 5.5, "s": "text", "b": true, "d": { "x": 1 }, "a": [1], "u": uuid,
            "t": bson::Timestamp { time: 3, increment: 4 }, "w": bson::DateTime::from_millis(-5), "n": null,
        };
        let get = |name: &str| raw::field(document.as_bytes(), name).unwrap().unwrap();
        assert_eq!([get("i").integer(), get("l").integer(), get("f").integer()], [Some(5); 3]);
        assert_eq!([get("h").integer(), get("s").integer(), get("n").integer()], [None; 3]);
        assert_eq!((get("s").text(), get("i").text()), (Some("text"), None));
        assert_eq!((get("b").boolean(), get("i").boolean()), (Some(true), None));
        assert_eq!(get("t").timestamp(), Some(ClusterTime { seconds: 3, increment: 4 }));
        assert_eq!((get("u").uuid(), get("s").uuid()), (Some([7; 16]), None));
        assert_eq!(get("w").date(), Some(-5));
        assert!(get("d").document().is_some() && get("d").array().is_none() && get("a").array().is_some());
    }
}
