//! Digest nonces: stateless to issue and to check, with a small table of the highest `nc` seen for each.
//!
//! A nonce is 4 bytes of time, 4 bytes of a counter and 16 bytes of an HMAC over both, written as 32
//! characters of base64. The key is made at start, so a restart turns all nonces stale and nothing else.
//! The counter makes every nonce unique and numbers its slot in a ring: a nonce that more than
//! [`SLOTS`] younger ones have followed is stale, which bounds the memory without ever letting an
//! old `nc` in a second time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aws_lc_rs::{
    constant_time, hmac,
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::WallTime;

/// How long a nonce may be used.
const LIFETIME_SECONDS: u32 = 600;
/// Nonces whose `nc` is remembered: 2 MiB.
const SLOTS: u32 = 1 << 18;
const MAC_BYTES: usize = 16;

/// What a nonce that came back is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ours, young, and this `nc` was not seen before.
    Fresh,
    /// Ours, but too old, or its `nc` was seen already: the client shall use a new one.
    Stale,
    /// Not ours.
    Foreign,
}

/// Issues and checks nonces.
pub(crate) struct Nonces {
    key: hmac::Key,
    issued: AtomicU32,
    /// Counter in the upper half, highest `nc` in the lower.
    seen: Box<[AtomicU64]>,
}

impl Nonces {
    pub(crate) fn new() -> Self {
        let mut secret = [0_u8; 32];
        SystemRandom::new().fill(&mut secret).expect("the operating system has randomness");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            issued: AtomicU32::new(0),
            seen: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A new nonce.
    pub(crate) fn issue(&self, now: WallTime) -> String {
        // From one on: a slot that was never used holds counter zero.
        let counter = self.issued.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut bytes = [0_u8; 8 + MAC_BYTES];
        bytes[..4].copy_from_slice(&(now.seconds() as u32).to_be_bytes());
        bytes[4..8].copy_from_slice(&counter.to_be_bytes());
        let mac = hmac::sign(&self.key, &bytes[..8]);
        bytes[8..].copy_from_slice(&mac.as_ref()[..MAC_BYTES]);
        STANDARD.encode(bytes)
    }

    /// Whether the nonce is ours, whatever its age. Changes nothing.
    pub(crate) fn is_ours(&self, nonce: &str) -> bool {
        self.read(nonce).is_some()
    }

    /// Uses `nc` of a nonce up. Only for a request whose response was right, so that a stranger can't spend it.
    pub(crate) fn spend(&self, nonce: &str, nc: u32, now: WallTime) -> Verdict {
        let Some((issued_at, counter)) = self.read(nonce) else { return Verdict::Foreign };
        let age = (now.seconds() as u32).wrapping_sub(issued_at);
        let followers = self.issued.load(Ordering::Relaxed).wrapping_sub(counter);
        // A clock that was set back makes the age huge, and the nonce stale.
        if age > LIFETIME_SECONDS || followers >= SLOTS || nc == 0 {
            return Verdict::Stale;
        }
        let slot = &self.seen[(counter % SLOTS) as usize];
        let mine = u64::from(counter) << 32 | u64::from(nc);
        let advance = |held: u64| {
            let (held_counter, held_nc) = ((held >> 32) as u32, held as u32);
            let newer = counter.wrapping_sub(held_counter);
            let allowed = if newer == 0 { nc > held_nc } else { newer < u32::MAX / 2 };
            allowed.then_some(mine)
        };
        match slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance) {
            Ok(_) => Verdict::Fresh,
            Err(_) => Verdict::Stale,
        }
    }

    fn read(&self, nonce: &str) -> Option<(u32, u32)> {
        let mut bytes = [0_u8; 8 + MAC_BYTES];
        if nonce.len() != 32 || STANDARD.decode_slice(nonce, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        let mac = hmac::sign(&self.key, &bytes[..8]);
        constant_time::verify_slices_are_equal(&mac.as_ref()[..MAC_BYTES], &bytes[8..]).ok()?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some((word(0), word(4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_763_769_600_000);

    #[test]
    fn a_nonce_is_32_characters_of_base64_and_unique() {
        let nonces = Nonces::new();
        let made: std::collections::HashSet<String> = (0..1000).map(|_| nonces.issue(NOW)).collect();
        assert_eq!(made.len(), 1000);
        assert!(
            made.iter().all(|nonce| nonce.len() == 32 && STANDARD.decode(nonce).is_ok_and(|b| b.len() == 24))
        );
    }

    #[test]
    fn d3_nc_must_rise_and_may_skip() {
        let nonces = Nonces::new();
        let nonce = nonces.issue(NOW);
        assert_eq!(nonces.spend(&nonce, 1, NOW), Verdict::Fresh);
        assert_eq!(nonces.spend(&nonce, 1, NOW), Verdict::Stale);
        assert_eq!(nonces.spend(&nonce, 2, NOW), Verdict::Fresh);
        assert_eq!(nonces.spend(&nonce, 7, NOW), Verdict::Fresh);
        assert_eq!(nonces.spend(&nonce, 5, NOW), Verdict::Stale);
        assert_eq!(nonces.spend(&nonce, 0, NOW), Verdict::Stale);
    }

    #[test]
    fn age_and_origin_are_told_apart() {
        let nonces = Nonces::new();
        let nonce = nonces.issue(NOW);
        assert_eq!(nonces.spend(&nonce, 1, NOW.plus_ms(601_000)), Verdict::Stale);
        assert_eq!(nonces.spend(&nonce, 1, NOW.plus_ms(-5_000)), Verdict::Stale);
        assert_eq!(Nonces::new().spend(&nonce, 1, NOW), Verdict::Foreign);
        let mut forged = nonce.clone().into_bytes();
        forged[7] = if forged[7] == b'A' { b'B' } else { b'A' };
        assert_eq!(nonces.spend(&String::from_utf8_lossy(&forged), 1, NOW), Verdict::Foreign);
    }

    #[test]
    fn a_nonce_pushed_out_of_the_table_is_stale_and_its_follower_is_not() {
        let nonces = Nonces::new();
        let old = nonces.issue(NOW);
        assert_eq!(nonces.spend(&old, 1, NOW), Verdict::Fresh);
        let mut last = String::new();
        for _ in 0..SLOTS {
            last = nonces.issue(NOW);
        }
        assert_eq!(nonces.spend(&last, 1, NOW), Verdict::Fresh, "takes the slot of the old one");
        assert_eq!(nonces.spend(&old, 2, NOW), Verdict::Stale);
        assert_eq!(nonces.spend(&last, 1, NOW), Verdict::Stale);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,40}", base in "[A-Za-z0-9+/]{32}", nc in any::<u32>()) {
            let nonces = Nonces::new();
            prop_assert_eq!(nonces.spend(&text, nc, NOW), Verdict::Foreign);
            prop_assert_eq!(nonces.spend(&base, nc, NOW), Verdict::Foreign);
        }
    }
}
