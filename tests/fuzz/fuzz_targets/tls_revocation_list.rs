#![no_main]
//! Revocation lists.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::tls::fuzz::revocation_list(data));
