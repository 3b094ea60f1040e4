#![no_main]
//! Lines of a CSV import.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::record_csv(data));
