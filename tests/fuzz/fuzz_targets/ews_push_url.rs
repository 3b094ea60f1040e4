#![no_main]
//! The URL of a push subscription, replaced.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::push_url(data));
