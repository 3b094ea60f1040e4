#![no_main]
//! Both query forms of ActiveSync.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::request_line(data));
