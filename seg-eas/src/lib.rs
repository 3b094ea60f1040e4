#![forbid(unsafe_code)]
//! seg-eas
