#![no_main]
//! Which of the GET forms of EWS a path and query are.

libfuzzer_sys::fuzz_target!(|data: &[u8]| seg_ews::fuzz::get_form(data));
