#![no_main]
//! The chunked body of a mail server's answer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::upstream::fuzz::chunked(data));
