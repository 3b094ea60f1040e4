#![no_main]
//! What a balancer sends before a connection's own bytes.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::accept::fuzz::proxy_header(data));
