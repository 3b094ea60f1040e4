#![forbid(unsafe_code)]
//! What the end-to-end tests share: a gateway as a process of its own, clients that send exact
//! bytes, and the outside programs that the interop tests need.
//!
//! Everything here panics with a plain reason when something does not work, as tests do.

pub mod ad;
pub mod admin;
pub mod authority;
pub mod eas;
pub mod ens;
pub mod fuzz;
pub mod gateway;
pub mod interop;
pub mod message;
pub mod openldap;
pub mod program;
pub mod sogo;
pub mod system;
pub mod tap;
pub mod tunnel;
pub mod wait;
pub mod wire;

pub use gateway::{Gateway, GatewayBuilder};
pub use wait::eventually;

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

/// A file of third-party test data, which lies beside a checkout and is never part of it; `None`
/// where there is no such data. `SEG_SHARED` names its folder.
///
/// # Panics
/// When the data is there, and this file of it is not.
#[must_use]
pub fn shared_file(path: &str) -> Option<String> {
    let folder = std::env::var_os("SEG_SHARED")
        .map_or_else(|| workspace_root().join("../shared"), PathBuf::from);
    if !folder.is_dir() {
        return None;
    }
    let path = folder.join(path);
    let text = std::fs::read_to_string(&path);
    Some(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}
