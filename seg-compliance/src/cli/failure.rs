//! Why a call was not done (exit code 2): the thing, the reason, the mend.

use std::io;
use std::path::{Path, PathBuf};

/// A call that was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The sentence was understood, but asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The token can't be read.
    #[error(
        "can't read the admin token {}: {source}; the gateway writes it on its first start, name \
         another place with --token-file or --config", path.display()
    )]
    Token { path: PathBuf, source: io::Error },
    /// No gateway answers.
    #[error(
        "no gateway answers at {url}: {reason}; start it with `seg run`, or name another address \
         with --admin"
    )]
    Unreachable { url: String, reason: String },
    /// The gateway refuses the token.
    #[error(
        "the gateway at {url} refuses the token of {}: {message}; name the file that this gateway \
         wrote with --token-file", path.display()
    )]
    TokenRefused {
        url: String,
        path: PathBuf,
        message: String,
    },
    /// The gateway refuses the call.
    #[error("the gateway refuses: {0}")]
    Refused(Refusal),
    /// What answers is no gateway, or broke off.
    #[error("the answer of {url} can't be used: {reason}")]
    Answer { url: String, reason: String },
    /// A source can't be read.
    #[error("{0}; {mend}", mend = .0.mend())]
    Source(#[from] crate::sources::SourceError),
    /// Some of several sources were not taken over; which, and why, was told.
    #[error("{failed} of {all} sources were not taken over")]
    Sources { failed: usize, all: usize },
    /// Standard output is gone; nobody is left to be told.
    #[error("can't write to standard output: {0}")]
    Output(#[source] io::Error),
}

impl Failure {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The reader of our output has closed its end, as `head` does: a reason to stop, no failure.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An error body of the admin API (design: Admin listener).
#[derive(Debug, serde::Deserialize)]
pub(super) struct Refusal {
    /// HTTP status of the answer.
    #[serde(skip)]
    pub(super) status: u16,
    /// A sentence for people.
    pub(super) message: String,
    /// The configuration key or field concerned.
    pub(super) key: Option<String>,
    /// The line concerned.
    pub(super) line: Option<u64>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}
