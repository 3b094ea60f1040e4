#![no_main]
//! The WBXML pull reader.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::wbxml_reader(data));
