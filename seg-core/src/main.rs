//! seg
fn main() {}
