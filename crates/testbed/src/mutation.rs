//! Inputs that nobody would think of: seeds of the repository and what becomes of them when they are damaged.
//!
//! What a fuzzer does with more time and by looking where it gets. Here every run makes the same inputs, so that whoever
//! runs the tests runs the targets of `fuzz/` too.

use std::path::{Path, PathBuf};

use crate::data::Random;

/// Damaged inputs of one target.
const ROUNDS: u64 = 4_000;
/// Harm done to one input.
const HARMS_MAX: u64 = 4;
/// No input grows beyond this.
const BYTES_MAX: usize = 1 << 16;
/// Numbers at which lengths go wrong.
const LENGTHS: [i32; 10] = [0, 1, 4, 5, -1, i32::MIN, i32::MAX, 0x7f, 0xff, 0x0100_0000];

/// Calls a target of `fuzz/` with its seeds, and with what becomes of them. An input that makes it panic is shown.
///
/// # Panics
/// When there are no seeds, and when the target does.
pub fn around(target: &str, work: impl Fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "there are no seeds for {target}");
    for seed in &seeds {
        told(target, seed, &work);
    }
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let mut input = pick(&mut random, &seeds).to_vec();
        for _ in 0..=random.below(HARMS_MAX) {
            harm(&mut random, &mut input, &seeds);
        }
        input.truncate(BYTES_MAX);
        told(target, &input, &work);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

/// Shows the input when the target panics.
fn told(target: &str, input: &[u8], work: impl Fn(&[u8])) {
    struct Guard<'a>(&'a str, &'a [u8]);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
                eprintln!("{} panics with {hex} ({:?})", self.0, String::from_utf8_lossy(self.1));
            }
        }
    }
    let _guard = Guard(target, input);
    work(input);
}

fn pick<'a>(random: &mut Random, seeds: &'a [Vec<u8>]) -> &'a [u8] {
    seeds.get(random.below(seeds.len() as u64) as usize).map_or(&[], Vec::as_slice)
}

fn harm(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = |random: &mut Random, input: &[u8]| random.below(input.len() as u64 + 1) as usize;
    let at = place(random, input);
    let (mut from, mut to) = (at, place(random, input));
    if to < from {
        std::mem::swap(&mut from, &mut to);
    }
    match random.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.number() as u8;
            }
        }
        2 => {
            let number = LENGTHS[random.below(LENGTHS.len() as u64) as usize].to_le_bytes();
            if let Some(four) = input.get_mut(at..at + number.len()) {
                four.copy_from_slice(&number);
            }
        }
        3 => {
            // A length that is a little off.
            if let Some(four) = input.get_mut(at..at + 4).and_then(|four| <&mut [u8; 4]>::try_from(four).ok())
            {
                let off = random.below(9) as i32 - 4;
                *four = i32::from_le_bytes(*four).wrapping_add(off).to_le_bytes();
            }
        }
        4 => drop(input.drain(from..to)),
        5 => {
            let piece = input.get(from..to).unwrap_or_default().to_vec();
            input.splice(at..at, piece);
        }
        6 => {
            let other = pick(random, seeds);
            let piece = other.get(place(random, other)..).unwrap_or_default().to_vec();
            input.splice(at..at, piece);
        }
        _ => {
            let length = random.below(9) as usize;
            let piece = random.bytes(length);
            input.splice(at..at, piece);
        }
    }
}
