#![no_main]
//! The user in a client certificate.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::tls::fuzz::revocation_list(data));
