//! cli.
pub mod check;
