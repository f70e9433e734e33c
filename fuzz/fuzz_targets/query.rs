//! A query string, or the form of a token request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzzing::query(bytes));
