//! A hash of a collection's content that does not depend on the order of its documents.
//!
//! Each document is hashed with XXH3 (128 bits); the hashes are added, lane by lane. Sums of parts add up to the
//! sum of the whole, so the sum of a collection is that of its segments, and what was read back from a server in
//! any order can be compared with it. It guards against accident, and is computed three times for every byte of a
//! backup and its restore, so it is a fast hash and not a cryptographic one: forgery is the business of the vault's
//! keyed names and seals.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// How many documents, how many bytes, and their hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentSum {
    /// Documents counted.
    pub documents: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// The sum of their hashes.
    pub sum: [u64; 2],
}

impl ContentSum {
    /// Counts one raw document.
    pub fn add(&mut self, document: &[u8]) {
        let hash = xxh3_128(document);
        self.sum[0] = self.sum[0].wrapping_add(hash as u64);
        self.sum[1] = self.sum[1].wrapping_add((hash >> 64) as u64);
        self.documents += 1;
        self.bytes += document.len() as u64;
    }

    /// Adds what another part counted.
    pub fn merge(&mut self, other: &Self) {
        for (lane, more) in self.sum.iter_mut().zip(other.sum) {
            *lane = lane.wrapping_add(more);
        }
        self.documents += other.documents;
        self.bytes += other.bytes;
    }

    /// The hash as 32 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.to_string()
    }

    /// Reads back what [`ContentSum::to_hex`] wrote, with the counts beside it.
    pub fn from_hex(hex: &str, documents: u64, bytes: u64) -> Option<Self> {
        if hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        let mut sum = [0; 2];
        for (lane, at) in sum.iter_mut().zip((0..32).step_by(16)) {
            *lane = u64::from_str_radix(&hex[at..at + 16], 16).ok()?;
        }
        Some(Self { documents, bytes, sum })
    }
}

impl fmt::Display for ContentSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sum.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sum_of<'a>(documents: impl IntoIterator<Item = &'a Vec<u8>>) -> ContentSum {
        let mut sum = ContentSum::default();
        documents.into_iter().for_each(|d| sum.add(d));
        sum
    }

    proptest! {
        #[test]
        fn order_and_parts_do_not_matter(mut documents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20), at in any::<prop::sample::Index>()) {
            let whole = sum_of(&documents);
            let at = if documents.is_empty() { 0 } else { at.index(documents.len()) };
            let mut parts = sum_of(&documents[..at]);
            parts.merge(&sum_of(&documents[at..]));
            prop_assert_eq!(parts, whole);
            documents.reverse();
            prop_assert_eq!(sum_of(&documents), whole);
            prop_assert_eq!(ContentSum::from_hex(&whole.to_hex(), whole.documents, whole.bytes), Some(whole));
        }

        #[test]
        fn one_changed_byte_shows(mut documents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 1..20), at in any::<prop::sample::Index>()) {
            let before = sum_of(&documents);
            let at = at.index(documents.len());
            documents[at][0] ^= 1;
            prop_assert_ne!(sum_of(&documents), before);
        }
    }
}
