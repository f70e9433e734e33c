//! What names a collection for as long as it lives.

use std::{fmt, str::FromStr};

/// The UUID that a server gave to a collection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionUuid(pub [u8; 16]);

impl CollectionUuid {
    /// The one that is before all others.
    pub const FIRST: Self = Self([0; 16]);

    /// The one that follows; none after the last.
    pub const fn next(self) -> Option<Self> {
        match u128::from_be_bytes(self.0).checked_add(1) {
            Some(next) => Some(Self(next.to_be_bytes())),
            None => None,
        }
    }
}

impl fmt::Display for CollectionUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CollectionUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectionUuid({self})")
    }
}

impl FromStr for CollectionUuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16);
        match number.map(|number| Self(number.to_be_bytes())) {
            // Whatever else would read as a number is told by what it is written as.
            Ok(read) if read.to_string() == text => Ok(read),
            _ => Err(format!("{text:?} is no UUID of a collection")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_read_as_it_is_written_and_no_other_way() {
        let uuid = CollectionUuid([0xA5; 16]);
        assert_eq!(uuid.to_string(), "a5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        for wrong in ["", "a5", "+5a5a5a5-a5a5-a5a5-a5a5-a5a5a5a5a5a5", "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"] {
            assert!(wrong.parse::<CollectionUuid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_follows_another_in_the_order_of_their_bytes() {
        let mut uuid = CollectionUuid::FIRST;
        uuid.0[15] = 0xFF;
        let next = uuid.next().unwrap();
        assert!(uuid < next);
        assert_eq!((next.0[14], next.0[15]), (1, 0));
        assert_eq!(CollectionUuid([0xFF; 16]).next(), None);
    }
}
