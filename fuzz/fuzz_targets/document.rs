//! Documents back to back.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| history::fuzzing::document(bytes));
