#![no_main]
//! The SOAP scanner, in any pieces.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::scanner(data));
