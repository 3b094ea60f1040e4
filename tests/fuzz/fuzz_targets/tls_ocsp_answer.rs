#![no_main]
//! A responder's answer about a certificate.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::tls::fuzz::ocsp_answer(data));
