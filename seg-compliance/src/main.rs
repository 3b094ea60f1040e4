//! sync-compliance
fn main() {}
