#![no_main]
//! Authorization.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::authorization(data));
