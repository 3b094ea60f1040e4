//! Sources: the systems that know about devices, read by `sync-compliance pull` and handed to the
//! admin API as one import each. `docs/sources.md` is the page for administrators.
//!
//! A source is read to its end before anything of it is sent: what breaks off in the middle, or
//! gives fewer devices than it says it has, is an error and changes nothing. Every system that
//! speaks JSON over HTTP is read by one reader ([`web`], [`mapping`]); the known ones are rows of a
//! table ([`presets`]). Exports that people make by hand are read by [`tables`]. A directory knows
//! people, not devices: [`directory`] tells the groups of those whose devices the gateway knows.

mod definition;
mod directory;
mod files;
mod json_path;
pub(crate) mod mapping;
mod pace;
mod presets;
mod pull;
mod secret;
pub mod tables;
mod web;

pub use definition::{Definition, Definitions};
pub use pace::Sessions;
pub use pull::{Devices, Form, Pulled, Reading, check, lookup, pull};

/// Why a source was not read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// sources.toml is not right.
    #[error("{file}: line {line}, column {column}: {message}")]
    Definition {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A file can't be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A secret can't be had.
    #[error("the secret {name}: {reason}")]
    Secret {
        /// Where it should be: `file:…` or `env:…`.
        name: String,
        /// Why it isn't.
        reason: String,
    },
    /// The system did not answer, or not with success, after all tries.
    #[error("{url}: {reason}")]
    Unreachable {
        /// What was asked, without its query.
        url: String,
        /// Why.
        reason: String,
    },
    /// The system refuses what is asked of it, and will again.
    #[error("{url}: answers {status}{code}")]
    Refused {
        /// What was asked, without its query.
        url: String,
        /// The status of its answer.
        status: u16,
        /// Its own word for it, in brackets, if it has one.
        code: String,
    },
    /// The answer is not what was expected.
    #[error("{url}: the answer can't be used: {reason}")]
    Answer {
        /// What was asked, without its query.
        url: String,
        /// Why.
        reason: String,
    },
    /// Fewer devices than the source says it has.
    #[error(
        "the source says that it has {said} devices, and gave {given}: nothing of it is used, for \
         the rest may be missing"
    )]
    Partial {
        /// What it says.
        said: u64,
        /// What it gave.
        given: u64,
    },
    /// The gateway does not tell which devices it knows.
    #[error("the devices of the gateway: {0}")]
    Devices(String),
    /// There is no source of that name.
    #[error("there is no source {0:?}; sources.toml has {1}")]
    Unknown(String, String),
}

impl SourceError {
    /// What helps against it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Definition { .. } => "mend the file (docs/sources.md)",
            Self::File { .. } => {
                "see to it that the file is there, whole, and readable by this user"
            }
            Self::Secret { .. } => "put the secret there: one line, readable by this user",
            Self::Unreachable { .. } => {
                "check url, login, proxy and ca_path of this source, and whether the system is up"
            }
            Self::Refused {
                status: 401 | 403, ..
            } => "give the login of this source the right to read devices",
            Self::Refused { .. } => "check url, path and lookup of this source",
            Self::Answer { .. } => "check url, path, items, next and pages of this source",
            Self::Partial { .. } => "pull it again; if it stays so, ask those who run the system",
            Self::Devices(_) => "see to it that the gateway runs and its token may read",
            Self::Unknown(..) => "name one of these, or define it (docs/sources.md)",
        }
    }

    fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
