//! The gateway's program.

use std::process::ExitCode;

// Decay is short, so that what a storm of connections left behind goes back to the system within
// a second; the statistics of `bench/` depend on it.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    seg_core::cli::main()
}
