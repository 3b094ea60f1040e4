//! One process follows another without a refused connection: listening sockets are opened once and
//! handed on.
//!
//! They come from a service manager ([`activation`]), or from the gateway that runs with the same
//! `data.dir` (`seg run --take-over`), as descriptors over a Unix socket there. Not by `SO_REUSEPORT`
//! alone: whoever closes such a socket resets the connections that wait in its queue.
//!
//! # A handover
//!
//! | the new process | the one before |
//! |---|---|
//! | reads its configuration, files and keys | serves |
//! | `Hello` | answers with its listening sockets, and serves |
//! | opens what is not among them; `Release` | closes its admin API, lets go of the journal, answers `Released` |
//! | reads the journal, accepts; `Serving` | accepts nothing more |
//! | sends every change of its journal, and acknowledges none before | obeys it and says so, closes each connection after its next answer, ends polls over `server.drain.seconds`, ends |
//!
//! Whatever goes wrong before `Serving`, the one before goes on as if nothing had been asked.

pub mod activation;
mod former;
mod messages;
mod next;
mod sockets;

pub(crate) use former::{Former, wait};
pub use messages::HandoverError;
pub(crate) use next::Taking;
pub use sockets::Inherited;
pub(crate) use sockets::spread;

use std::path::{Path, PathBuf};

/// Where the gateway that runs waits for the one to follow.
pub(crate) fn meeting_point(data_dir: &Path) -> PathBuf {
    data_dir.join("handover.sock")
}
