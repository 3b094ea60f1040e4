#![no_main]
//! A whole SOAP document.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::document(data));
