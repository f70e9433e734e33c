//! Cluster time: the only clock that orders data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A BSON timestamp. Orders as the server orders timestamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterTime {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Counts the operations of one second from 1.
    pub increment: u32,
}

impl ClusterTime {
    /// Before every operation; what the server writes where there is no time.
    pub const NONE: Self = Self { seconds: 0, increment: 0 };

    /// From the eight bytes of a BSON timestamp.
    pub fn from_le_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { increment: u32::from_le_bytes([a, b, c, d]), seconds: u32::from_le_bytes([e, f, g, h]) }
    }

    /// The eight bytes of a BSON timestamp.
    pub fn to_le_bytes(self) -> [u8; 8] {
        ((u64::from(self.seconds) << 32) | u64::from(self.increment)).to_le_bytes()
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.seconds, self.increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_before_increments() {
        let (early, late) =
            (ClusterTime { seconds: 1, increment: 9 }, ClusterTime { seconds: 2, increment: 1 });
        assert!(ClusterTime::NONE < early && early < late);
        assert_eq!(ClusterTime::from_le_bytes(late.to_le_bytes()), late);
        assert_eq!(late.to_le_bytes(), [1, 0, 0, 0, 2, 0, 0, 0]);
    }
}
