//! The programs under test.

use std::path::PathBuf;

/// A program of the workspace, built beside the running test.
///
/// # Panics
/// When it was not built: `cargo build --workspace --all-targets` builds programs and tests alike.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let program = profile_folder().join(name);
    assert!(
        program.is_file(),
        "{} is missing; run `cargo build --workspace --all-targets` first",
        program.display()
    );
    program
}

/// The folder that everything is built into, `target` where nothing else was asked for.
///
/// # Panics
/// Never for a test that cargo has built.
#[must_use]
pub fn target_folder() -> PathBuf {
    let profile = profile_folder();
    profile
        .parent()
        .expect("a profile's folder lies in the target folder")
        .to_path_buf()
}

fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    test.parent()
        .and_then(|deps| deps.parent())
        .expect("tests lie in <profile>/deps")
        .to_path_buf()
}
