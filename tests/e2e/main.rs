//! End-to-end tests, one binary: it links once. Each module is a promise of the gateway, kept or
//! broken before a mail server: the sandbox, which counts what reaches it, or a real one.

mod dependencies;
mod fuzz_targets;
