//! The bearer token: made on the first start, kept in a file that only its owner reads.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Random bytes of a token that the gateway makes.
const RANDOM_BYTES: usize = 32;
/// Shortest token that a person may put into the file: 128 bits in hex.
const SHORTEST: usize = 32;

/// The token that every call of the admin API must carry.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The token can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read.
    #[error("admin.token.path {}: can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be made.
    #[error(
        "admin.token.path {}: can't be made: {source}; make the folder writable for the gateway, \
         or name another file", path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the file is no token.
    #[error(
        "admin.token.path {}: holds no token of at least {SHORTEST} printable characters; delete \
         the file, and the next start makes a new one", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("no random bytes for the admin token")]
    Random,
}

impl Token {
    /// Reads the token, or makes one and writes it where there is no file yet: mode 0600, whole or
    /// not at all.
    ///
    /// # Errors
    /// [`TokenError`] names the file, the reason and the mend.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                warn_if_open(path);
                Self::of(text.trim()).ok_or_else(|| TokenError::Unusable {
                    path: path.to_owned(),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(source) => Err(TokenError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn of(text: &str) -> Option<Self> {
        let usable = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    fn create(path: &Path) -> Result<Self, TokenError> {
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        rand::fill(random.as_mut()).map_err(|_| TokenError::Random)?;
        let token = Self(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&random)));
        token.write(path).map_err(|source| TokenError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(token)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        // Renamed when it is whole: a stop in between must not leave an empty token behind.
        let mut partial = path.as_os_str().to_owned();
        partial.push(".new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        writeln!(file, "{}", self.0.as_str())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    }

    /// Whether an `Authorization` value carries this token (RFC 6750 section 2.1). The time it
    /// takes does not depend on how much of the token is right.
    pub(super) fn is_in(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, given)) = authorization.and_then(|value| value.split_at_checked(7))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ")
            && verify_slices_are_equal(given.trim_ascii(), self.0.as_bytes()).is_ok()
    }

    /// A token of a test's own.
    #[cfg(test)]
    pub(super) fn for_test(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

fn warn_if_open(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            target: "admin",
            path = %path.display(),
            "the admin token can be read by others than its owner: chmod 600"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_token_and_the_next_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/admin.token");
        let made = Token::load_or_create(&path).unwrap();
        assert_eq!(made.0.len(), 43);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = Token::load_or_create(&path).unwrap();
        assert_eq!(made.0, read.0);
        let other = Token::load_or_create(&folder.path().join("other")).unwrap();
        assert_ne!(made.0, other.0);
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_token_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for text in ["", "\n", "short", "thirty-two characters, but spaces"] {
            fs::write(&path, text).unwrap();
            let error = Token::load_or_create(&path).unwrap_err().to_string();
            assert!(
                error.contains("token") && error.contains("delete"),
                "{error}"
            );
        }
        let error = Token::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(error, TokenError::Read { .. }), "{error}");
        let error = Token::load_or_create(&path.join("below a file")).unwrap_err();
        assert!(error.to_string().contains("below a file"), "{error}");
    }

    #[test]
    fn only_the_whole_token_passes() {
        let token = Token::for_test("abcdefgh");
        for right in ["Bearer abcdefgh", "bearer abcdefgh", "BEARER  abcdefgh "] {
            assert!(token.is_in(Some(right.as_bytes())), "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer abcdefg",
            "Bearer abcdefghi",
            "Basic abcdefgh",
        ] {
            assert!(!token.is_in(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!token.is_in(None));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
