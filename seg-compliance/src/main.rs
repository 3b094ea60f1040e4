//! `sync-compliance`: talks to a running gateway's admin API.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    seg_compliance::cli::main(std::env::args_os())
}
