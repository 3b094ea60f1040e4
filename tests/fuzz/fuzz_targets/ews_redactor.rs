#![no_main]
//! What is left out of a server's answer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::redactor(data));
