#![no_main]
//! What is read out of ActiveSync bodies before they go on.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::bodies(data));
