#![no_main]
//! A policies.toml.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::policies(data));
