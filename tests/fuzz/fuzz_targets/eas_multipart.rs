#![no_main]
//! The multipart form of ItemOperations.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::multipart(data));
