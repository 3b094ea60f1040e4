//! Secrets: never in sources.toml, but in files (`file:secrets/uem`) or the environment
//! (`env:UEM_PASSWORD`).

use std::fmt;
use std::path::{Path, PathBuf};

use super::SourceError;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Environment(String),
}

/// A secret that was read; it is shown nowhere.
#[derive(Clone)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Place {
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::File(base.join(path)));
        }
        if let Some(name) = text.strip_prefix("env:") {
            return Ok(Self::Environment(name.to_owned()));
        }
        Err("secrets don't stand here: write file:PATH or env:NAME".to_owned())
    }

    pub(super) fn read(&self) -> Result<Secret, SourceError> {
        let wrong = |reason: String| SourceError::Secret {
            name: match self {
                Self::File(path) => format!("file:{}", path.display()),
                Self::Environment(name) => format!("env:{name}"),
            },
            reason,
        };
        let text = match self {
            Self::File(path) => std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?,
            Self::Environment(name) => std::env::var(name).map_err(|e| wrong(e.to_string()))?,
        };
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(wrong("is empty, or has more than one line".to_owned()));
        }
        Ok(Secret(text.to_owned()))
    }
}
