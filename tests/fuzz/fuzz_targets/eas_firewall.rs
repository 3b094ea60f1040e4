#![no_main]
//! The check of a body in pieces, and the outline that copies it.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::firewall(data));
