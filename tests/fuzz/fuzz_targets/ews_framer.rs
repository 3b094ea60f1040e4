#![no_main]
//! Where the envelopes of a streaming answer end.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::framer(data));
