#![forbid(unsafe_code)]
//! seg-compliance
#[cfg(feature = "cli")]
pub mod cli;
