//! End-to-end tests, one binary: it links once.

mod dependencies;
