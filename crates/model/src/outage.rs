//! How long a restore keeps its target from its users: an estimate, to be told before it begins.

/// What is loaded inside the cut-over is written, read back and indexed at about this speed: half of what was measured
/// on two cores, since nobody minds an outage that is shorter than announced.
const BYTES_PER_SECOND: u64 = 30_000_000;
/// Raising the fence, listing, and waiting for a majority.
const SECONDS_MIN: u64 = 2;
/// Collections that are renamed, or views that are made, in a second.
const COLLECTIONS_PER_SECOND: u64 = 100;

/// Seconds of outage when so many bytes are loaded inside the cut-over of a snapshot with so many collections.
pub const fn estimated_seconds(bytes_loaded: u64, collections: u64) -> u64 {
    SECONDS_MIN + bytes_loaded.div_ceil(BYTES_PER_SECOND) + collections.div_ceil(COLLECTIONS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_grows_with_what_is_loaded_in_it() {
        assert_eq!(estimated_seconds(0, 0), SECONDS_MIN);
        assert_eq!(estimated_seconds(0, 250), SECONDS_MIN + 3);
        assert_eq!(estimated_seconds(3_000_000_000, 1), SECONDS_MIN + 100 + 1);
    }
}
