//! Why TLS can't be set up.

use std::fmt;
use std::path::{Path, PathBuf};

/// A certificate, key or bundle that can't be used: which file, why, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TlsError {
    /// The file, where one is to blame.
    pub file: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub mend: String,
}

impl TlsError {
    pub(crate) fn new(file: &Path, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_path_buf()),
            reason: reason.into(),
            mend: mend.into(),
        }
    }

    pub(super) fn without_file(reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            file: None,
            reason: reason.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "{}; {}", self.reason, self.mend)
    }
}
