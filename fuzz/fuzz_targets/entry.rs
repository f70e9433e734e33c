//! One entry of an oplog.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| history::fuzzing::entry(bytes));
