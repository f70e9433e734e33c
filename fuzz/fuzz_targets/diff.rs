//! A document, and a diff behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| history::fuzzing::diff(bytes));
