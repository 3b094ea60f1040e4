#![forbid(unsafe_code)]
//! What the benchmarks share.
