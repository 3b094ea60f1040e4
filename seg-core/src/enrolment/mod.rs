//! `/eas`: somebody who has proven who he is fetches his mail profile (`.mobileconfig`), out of a
//! folder or made from a template. Never another one's: where it lies is made of his own canonical
//! name, and of nothing else that he says but the name of a file in his own folder.

mod sign;
mod template;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_compliance::UserKey;

pub use sign::Signer;
pub use template::{Template, TemplateError};

use crate::config;
use crate::tls::TlsError;

/// The media type of a profile.
pub const MEDIA_TYPE: &str = "application/x-apple-aspen-config";
/// The end of a profile's name.
const SUFFIX: &str = ".mobileconfig";
/// The largest profile or PKCS#12 that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Profiles of one user that are listed at most.
const LISTED: usize = 100;

/// Whom a profile is for.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// His canonical name.
    pub user: UserKey,
    /// `sAMAccountName`, or the name without its domain.
    pub account: String,
    /// His mail address.
    pub mail: String,
    /// His name as people write it.
    pub name: String,
}

/// What is given to him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A profile.
    Profile(Vec<u8>),
    /// The names of several, of which he takes one.
    Choice(Vec<String>),
    /// None.
    Nothing,
}

/// Why the enrolment can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The signing certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The service behind `/eas`.
#[derive(Debug)]
pub struct Enrolment {
    profiles: Option<PathBuf>,
    pkcs12: Option<PathBuf>,
    template: Option<Template>,
    signer: Option<Signer>,
}

impl Enrolment {
    /// Reads what the configuration names. `host`: where phones find us, for the template.
    ///
    /// # Errors
    /// A template or a signing certificate that can't be used.
    pub fn new(config: &config::Enrolment, host: Option<&str>) -> Result<Self, EnrolmentError> {
        let template = match &config.template {
            Some(path) => Some(Template::load(path, host, config.pkcs12.is_some())?),
            None => None,
        };
        let signer = match &config.signing {
            Some(pair) => Some(Signer::load(pair)?),
            None => None,
        };
        Ok(Self {
            profiles: config.profiles.clone(),
            pkcs12: config.pkcs12.clone(),
            template,
            signer,
        })
    }

    /// The profile of somebody: the one that he names, his only one, or one made for him. Reads
    /// files; may block.
    ///
    /// # Errors
    /// A file of his that can't be read, or a profile that can't be made.
    pub fn find(&self, recipient: &Recipient, file: Option<&str>) -> std::io::Result<Found> {
        let Some(own) = file_name(&recipient.user) else {
            return Ok(Found::Nothing);
        };
        if let Some(folder) = &self.profiles {
            let found = self.in_folder(folder, own, file)?;
            if found != Found::Nothing {
                return Ok(found);
            }
        }
        match (&self.template, file) {
            (Some(template), None) => self.made(template, recipient, own),
            _ => Ok(Found::Nothing),
        }
    }

    fn in_folder(&self, folder: &Path, own: &str, file: Option<&str>) -> std::io::Result<Found> {
        let devices = folder.join(own);
        if let Some(file) = file {
            if !is_profile_name(file) {
                return Ok(Found::Nothing);
            }
            return match read(&devices.join(file))? {
                Some(profile) => self.given(profile),
                None => Ok(Found::Nothing),
            };
        }
        if let Some(profile) = read(&folder.join(format!("{own}{SUFFIX}")))? {
            return self.given(profile);
        }
        let names = names(&devices)?;
        match names.as_slice() {
            [] => Ok(Found::Nothing),
            [only] => match read(&devices.join(only))? {
                Some(profile) => self.given(profile),
                None => Ok(Found::Nothing),
            },
            _ => Ok(Found::Choice(names)),
        }
    }

    /// A profile out of a file: as it is where it is signed or encrypted, and signed otherwise.
    fn given(&self, profile: Vec<u8>) -> std::io::Result<Found> {
        let sealed = !profile.trim_ascii_start().starts_with(b"<")
            || contains(&profile, b"EncryptedPayloadContent");
        self.sealed(profile, sealed)
    }

    fn made(
        &self,
        template: &Template,
        recipient: &Recipient,
        own: &str,
    ) -> std::io::Result<Found> {
        let pkcs12 = match &self.pkcs12 {
            Some(folder) => read(&folder.join(format!("{own}.p12")))?,
            None => None,
        };
        let pkcs12 = pkcs12.map(|bytes| BASE64_STANDARD.encode(bytes));
        match template.fill(recipient, pkcs12.as_deref()) {
            Some(text) => self.sealed(text.into_bytes(), false),
            None => Ok(Found::Nothing),
        }
    }

    fn sealed(&self, profile: Vec<u8>, is_sealed: bool) -> std::io::Result<Found> {
        Ok(Found::Profile(match &self.signer {
            Some(signer) if !is_sealed => signer.sign(&profile).ok_or_else(|| {
                std::io::Error::other("the profile can't be signed with enrolment.signing.*")
            })?,
            _ => profile,
        }))
    }
}

/// The canonical name as the name of a file: one that could lead elsewhere is none.
fn file_name(user: &UserKey) -> Option<&str> {
    let name = user.as_str();
    let is_plain = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    is_plain.then_some(name)
}

/// What a profile in a user's folder may be called.
fn is_profile_name(name: &str) -> bool {
    name.ends_with(SUFFIX)
        && !name.starts_with('.')
        && name.len() <= 128
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && is_profile_name(&name)
        {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(LISTED);
    Ok(names)
}

/// A file; `None`: there is none.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("{} has more than {LONGEST} bytes", path.display());
        return Err(std::io::Error::other(message));
    }
    Ok(Some(bytes))
}

fn is_missing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["../alice", "a/b", "a\\b", ".hidden", ".."] {
            let user = UserKey::new(name).expect("a key");
            assert_eq!(file_name(&user), None, "{name}");
        }
        let user = UserKey::new("alice@corp.example").expect("a key");
        assert_eq!(file_name(&user), Some("alice@corp.example"));
        for name in [
            "../x.mobileconfig",
            ".mobileconfig",
            "x.p12",
            "a b.mobileconfig",
        ] {
            assert!(!is_profile_name(name), "{name}");
        }
        assert!(is_profile_name("iPhone-1.mobileconfig"));
    }
}
