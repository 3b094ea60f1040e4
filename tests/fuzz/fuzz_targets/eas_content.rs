#![no_main]
//! The rewriters of content: attachments, links, marked mail, in answers and in mail that is sent.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_eas::fuzz::content(data));
