//! cli.
pub mod check;
pub mod dev;
