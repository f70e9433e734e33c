//! Where one segment ends and the next begins: decided by the content.
//!
//! A *strong* cut is a property of one document alone, so readers that start anywhere agree on it; it resets
//! the state. Between strong cuts a *weak* cut comes after a minimum of bytes, again decided by the hash of a
//! document's key, or by a maximum. So the segments are a function of the sorted documents alone: cutting the
//! same data twice, or in parallel ranges, gives the same segments, and a change moves only boundaries near it.

use xxhash_rust::xxh3::xxh3_128;

/// No weak cut before a segment holds this much.
pub const SEGMENT_BYTES_MIN: usize = 8 << 20;
/// No document joins a segment that would grow past this, unless it is the first.
pub const SEGMENT_BYTES_MAX: usize = 20 << 20;
/// Expected bytes from the minimum to a weak cut.
const WEAK_BYTES: u64 = 8 << 20;
/// Expected bytes between strong cuts.
const STRONG_BYTES: u64 = 64 << 20;

/// Whether to end the segment before the document offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The document joins the segment at hand.
    Stay,
    /// A new segment starts with this document.
    Weak,
    /// A new segment starts with this document wherever reading began.
    Strong,
}

/// Decides the cuts of one sorted stream.
#[derive(Debug, Clone, Default)]
pub struct Cutter {
    bytes: usize,
}

impl Cutter {
    /// At the start of a collection, or at a strong cut.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about the next document, given its sort key and its length.
    pub fn offer(&mut self, key: &[u8], document_bytes: usize) -> Cut {
        let cut = self.decide(key, document_bytes);
        if cut != Cut::Stay {
            self.bytes = 0;
        }
        self.bytes += document_bytes;
        cut
    }

    fn decide(&self, key: &[u8], document_bytes: usize) -> Cut {
        let (strong, weak) = draws(key);
        if drawn(strong, document_bytes, STRONG_BYTES) {
            return Cut::Strong;
        }
        if self.bytes == 0 {
            return Cut::Stay;
        }
        let full = self.bytes + document_bytes > SEGMENT_BYTES_MAX;
        let large = self.bytes >= SEGMENT_BYTES_MIN && drawn(weak, document_bytes, WEAK_BYTES);
        if full || large { Cut::Weak } else { Cut::Stay }
    }
}

/// Whether a document starts a segment wherever reading began.
pub fn is_strong(key: &[u8], document_bytes: usize) -> bool {
    drawn(draws(key).0, document_bytes, STRONG_BYTES)
}

/// Two independent draws from a key.
fn draws(key: &[u8]) -> (u64, u64) {
    let hash = xxh3_128(key);
    (hash as u64, (hash >> 64) as u64)
}

/// True with a chance of `document_bytes / expected_bytes`.
fn drawn(draw: u64, document_bytes: usize, expected_bytes: u64) -> bool {
    let threshold = (u64::MAX / expected_bytes).saturating_mul(document_bytes as u64);
    draw < threshold
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sorted stream: keys 0..n, lengths drawn from a seed.
    fn stream(seed: u64, count: u64) -> Vec<(Vec<u8>, usize)> {
        (0..count)
            .map(|n| {
                let hash = xxh3_128(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
                let length = 10_000 + (hash % 256) as usize * 2_000;
                (n.to_be_bytes().to_vec(), length)
            })
            .collect()
    }

    /// Starts of segments when reading begins at `from` as a range reader does: at the first strong cut.
    fn starts(stream: &[(Vec<u8>, usize)], from: usize) -> Vec<usize> {
        let Some(skip) = stream[from..].iter().position(|(key, length)| is_strong(key, *length)) else {
            return vec![];
        };
        let mut cutter = Cutter::new();
        (from + skip..stream.len())
            .filter(|&n| cutter.offer(&stream[n].0, stream[n].1) != Cut::Stay)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn readers_that_start_anywhere_agree(seed in any::<u64>(), at in 0usize..3000) {
            let stream = stream(seed, 3000);
            let mut cutter = Cutter::new();
            let whole: Vec<usize> = (0..stream.len()).filter(|&n| cutter.offer(&stream[n].0, stream[n].1) != Cut::Stay).collect();
            let part = starts(&stream, at);
            let first = part.first().copied().unwrap_or(usize::MAX);
            let expected: Vec<usize> = whole.into_iter().filter(|&n| n >= first).collect();
            prop_assert_eq!(part, expected);
        }

        #[test]
        fn segments_keep_to_their_bounds(seed in any::<u64>()) {
            let mut cutter = Cutter::new();
            let mut sizes = vec![];
            let mut bytes = 0;
            for (key, length) in stream(seed, 3000) {
                if cutter.offer(&key, length) != Cut::Stay {
                    sizes.push(bytes);
                    bytes = 0;
                }
                bytes += length;
            }
            prop_assert!(sizes.iter().all(|&size| size <= SEGMENT_BYTES_MAX));
            let mean = sizes.iter().sum::<usize>() / sizes.len().max(1);
            prop_assert!((6 << 20..20 << 20).contains(&mean), "mean {mean}");
        }
    }

    #[test]
    fn a_huge_document_stands_alone() {
        let mut cutter = Cutter::new();
        cutter.offer(b"a", 100);
        assert_ne!(cutter.offer(b"b", SEGMENT_BYTES_MAX), Cut::Stay);
    }
}
