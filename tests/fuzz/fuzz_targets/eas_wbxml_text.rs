#![no_main]
//! WBXML to XML and back.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::wbxml_text(data));
