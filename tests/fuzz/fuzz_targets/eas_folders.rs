#![no_main]
//! The readers of folders: what is hidden, and what a request may not do.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::folders(data));
