#![no_main]
//! A domain controller's answer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::delegate::fuzz::kdc_answer(data));
