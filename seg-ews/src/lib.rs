#![forbid(unsafe_code)]
//! seg-ews
