//! The header of a slice, unsealed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vault::slice::fuzzing::header(bytes));
