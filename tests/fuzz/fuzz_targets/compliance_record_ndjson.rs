#![no_main]
//! Lines of an NDJSON import.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::record_ndjson(data));
