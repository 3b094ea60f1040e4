#![no_main]
//! The head of a mail server's answer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::upstream::fuzz::response_head(data));
