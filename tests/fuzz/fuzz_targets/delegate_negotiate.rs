#![no_main]
//! Negotiate messages of clients and servers.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_core::delegate::fuzz::negotiate(data));
