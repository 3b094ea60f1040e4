#![forbid(unsafe_code)]
//! seg-compliance
