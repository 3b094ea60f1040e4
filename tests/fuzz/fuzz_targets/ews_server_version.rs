#![no_main]
//! ServerVersionInfo of an answer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::server_version(data));
