#![no_main]
//! The changes of an opened batch.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::journal_changes(data));
