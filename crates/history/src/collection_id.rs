//! What names a collection for as long as it lives: its UUID. A namespace is an attribute that DDL changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The UUID that a server gave to a collection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CollectionId(pub [u8; 16]);

impl fmt::Display for CollectionId {
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

impl fmt::Debug for CollectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectionId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::CollectionId;

    #[test]
    fn reads_as_servers_write_it() {
        assert_eq!(CollectionId([0xab; 16]).to_string(), "abababab-abab-abab-abab-abababababab");
    }
}
