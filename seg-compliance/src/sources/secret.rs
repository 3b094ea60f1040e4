//! Secrets: never in sources.toml, but in files (`file:secrets/uem`) or the environment
//! (`env:UEM_PASSWORD`).

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::SourceError;

/// Longest secret, in bytes.
const LENGTH_MAX: u64 = 16 * 1024;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    File(PathBuf),
    Environment(String),
}

/// A text that may be a secret, or hold one: it stands in the definition, or elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Held {
    Here(String),
    Elsewhere(Place),
}

/// What stands in the definition may have come from a key that holds a password.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str("Here(…)"),
            Self::Elsewhere(place) => place.fmt(f),
        }
    }
}

impl Held {
    pub(super) fn parse(text: &str, base: &Path) -> Self {
        match Place::parse(text, base) {
            Ok(place) => Self::Elsewhere(place),
            Err(_) => Self::Here(text.to_owned()),
        }
    }

    pub(super) fn read(&self) -> Result<Secret, SourceError> {
        match self {
            Self::Here(text) => Ok(Secret(text.clone())),
            Self::Elsewhere(place) => place.read(),
        }
    }
}

/// A secret that was read; it is shown nowhere.
pub(super) struct Secret(String);

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
            Self::File(path) => {
                let mut text = String::new();
                File::open(path)
                    .and_then(|file| file.take(LENGTH_MAX + 1).read_to_string(&mut text))
                    .map_err(|error| wrong(error.to_string()))?;
                text
            }
            Self::Environment(name) => std::env::var(name).map_err(|e| wrong(e.to_string()))?,
        };
        if text.len() as u64 > LENGTH_MAX {
            return Err(wrong(format!("is longer than {LENGTH_MAX} bytes")));
        }
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(wrong("is empty, or has more than one line".to_owned()));
        }
        Ok(Secret(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_is_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let read = |content: &[u8]| {
            std::fs::write(folder.path().join("secret"), content).unwrap();
            let place = Place::parse("file:secret", folder.path()).unwrap();
            let read = place.read();
            read.map(|secret| secret.reveal().to_owned())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(b"  hunter2 \r\n"), Ok("hunter2".to_owned()));
        for (content, why) in [
            (&b" \n"[..], "is empty"),
            (b"one\ntwo\n", "more than one line"),
            (b"\xFF\xFE", "UTF-8"),
            (&[b'x'; 20_000], "longer than"),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(why) && error.contains("file:"), "{error}");
        }
        let gone = Place::parse("file:gone", folder.path()).unwrap();
        let error = gone.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
        let here = Held::parse("http://user:hunter2@proxy:1", folder.path());
        assert_eq!(format!("{here:?}"), "Here(…)");
        assert_eq!(here.read().unwrap().reveal(), "http://user:hunter2@proxy:1");
        let elsewhere = Held::parse("env:SEG_NO_SUCH_SECRET", folder.path());
        let error = elsewhere.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("env:SEG_NO_SUCH_SECRET"), "{error}");
    }
}
