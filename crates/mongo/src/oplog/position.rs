//! Which entry of the oplog.

use std::fmt;

use history::raw;

use crate::{ClusterTime, Error, Result};

/// The term of an entry that has none.
const NO_TERM: i64 = -1;

/// An entry of the oplog of one replica set. The time alone does not tell it from one that another primary wrote at the
/// same time and that was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// When.
    pub time: ClusterTime,
    /// The term of the primary that wrote it; -1 where the entry has none.
    pub term: i64,
}

impl Position {
    /// Whether an entry at `next` may follow this one in one oplog: time ascends, and the term never falls.
    pub fn precedes(self, next: Self) -> bool {
        self.time < next.time && self.term <= next.term
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{} of term {}", self.time.time, self.time.increment, self.term)
    }
}

/// The position of a raw entry. Looks at the names of its fields only, until both are found.
///
/// # Errors
/// [`Error::Protocol`] when it is no entry.
pub fn position_of(entry: &[u8]) -> Result<Position> {
    let (mut time, mut term) = (None, None);
    for element in raw::elements(entry) {
        let element = element.map_err(|_| Error::protocol("an oplog entry that is no document"))?;
        match element.name {
            b"ts" => {
                let ts =
                    element.timestamp().ok_or_else(|| Error::protocol("an oplog entry without a time"))?;
                time = Some(ClusterTime { time: ts.seconds, increment: ts.increment });
            }
            b"t" => {
                let no_number = || Error::protocol("an oplog entry with a term that is no number");
                term = Some(element.integer().ok_or_else(no_number)?);
            }
            _ => continue,
        }
        if time.is_some() && term.is_some() {
            break;
        }
    }
    let time = time.ok_or_else(|| Error::protocol("an oplog entry without a time"))?;
    Ok(Position { time, term: term.unwrap_or(NO_TERM) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{raw::RawDocument, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn at(time: u32, increment: u32, term: i64) -> Position {
        Position { time: ClusterTime { time, increment }, term }
    }

    #[test]
    fn is_read_wherever_it_stands_in_the_entry() {
        let ts = ClusterTime { time: 7, increment: 9 };
        // Documents may have fields of the same names.
        let o = rawdoc! { "ts": ClusterTime { time: 1, increment: 1 }, "t": 99_i64 };
        for entry in [
            rawdoc! { "ts": ts, "t": 3_i64, "op": "i", "o": o.clone() },
            rawdoc! { "op": "i", "o": o.clone(), "o2": o.clone(), "ts": ts, "t": 3_i64, "v": 2_i64, "wall": 5 },
            rawdoc! { "t": 3, "op": "n", "o": {}, "ts": ts },
        ] {
            assert_eq!(position_of(entry.as_bytes()).unwrap(), at(7, 9, 3));
        }
        assert_eq!(position_of(rawdoc! { "ts": ts, "o": o }.as_bytes()).unwrap(), at(7, 9, -1));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let ts = ClusterTime { time: 7, increment: 9 };
        for entry in [
            rawdoc! {},
            rawdoc! { "t": 3_i64 },
            rawdoc! { "ts": 5_i64, "t": 3_i64 },
            rawdoc! { "ts": ts, "t": "3" },
        ] {
            assert!(position_of(entry.as_bytes()).is_err(), "{entry:?}");
        }
    }

    #[test]
    fn follows_only_what_is_earlier_and_of_no_later_term() {
        assert!(at(5, 1, 1).precedes(at(5, 2, 1)) && at(5, 9, 1).precedes(at(6, 1, 4)));
        assert!(!at(5, 1, 1).precedes(at(5, 1, 1)) && !at(5, 1, 1).precedes(at(5, 1, 2)));
        assert!(!at(5, 2, 1).precedes(at(5, 1, 1)) && !at(5, 1, 2).precedes(at(6, 1, 1)));
        assert_eq!(at(5, 1, 2).to_string(), "5,1 of term 2");
    }

    proptest! {
        #[test]
        fn bytes_from_the_network_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = position_of(&bytes);
        }

        #[test]
        fn an_entry_that_lost_its_end_is_refused(cut in 0_usize..60) {
            let entry = rawdoc! { "op": "i", "o": { "x": 1 }, "ts": ClusterTime { time: 7, increment: 9 }, "t": 3_i64 };
            let bytes = entry.as_bytes();
            if cut < bytes.len() {
                prop_assert!(position_of(&bytes[..cut]).is_err());
            }
            prop_assert!(RawDocument::from_bytes(bytes).is_ok() && position_of(bytes).is_ok());
        }
    }
}
