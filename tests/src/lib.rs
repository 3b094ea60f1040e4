#![forbid(unsafe_code)]
//! What the end-to-end tests share.

use std::path::PathBuf;

/// The folder that holds the workspace's Cargo.toml.
///
/// # Panics
/// Never in a checkout: this package lies one folder below the root.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the package lies below the workspace")
        .to_path_buf()
}
