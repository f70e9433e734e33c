//! The header `Authorization`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzzing::authorization(bytes));
