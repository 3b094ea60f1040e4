#![no_main]
//! A batch of the journal, and what its checksum covers.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_compliance::fuzz::journal_frame(data));
