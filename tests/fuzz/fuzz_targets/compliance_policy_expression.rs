#![no_main]
//! A condition in CEL.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::policy_expression(data));
