//! Where the third-party test data lies, which is read there and never committed.

use std::path::PathBuf;

/// The folder of shared test data: `SEG_SHARED`, else `../shared` beside the workspace. `None`
/// where there is none; a test then says so and has run on its committed data only.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SEG_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("SEG_SHARED").is_none(),
        "SEG_SHARED names no folder"
    );
    println!(
        "no shared test data at {}: ran on the committed data only",
        folder.display()
    );
    None
}
