#![no_main]
//! WWW-Authenticate.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::challenge_lines(data));
