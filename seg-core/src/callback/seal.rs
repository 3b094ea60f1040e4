//! A subscriber's URL, its user and its device, sealed into one word of a URL.
//!
//! AES-256-GCM under one of the keys in a file that all nodes share. The first key seals, every key
//! opens: to rotate, put a new line in front and take the old one away when its tokens have
//! expired. Without a key a token can be neither read nor made.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use seg_compliance::{DeviceKey, UserKey};
use seg_ews::policy::ClientClass;
use zeroize::Zeroizing;

/// The file in `data.dir`.
pub const KEYS_FILE: &str = "callback.keys";

const KEY_BYTES: usize = 32;
/// Keys that are tried at most.
const KEYS_MAX: usize = 16;
/// Bytes of a key's digest that say in a token which one sealed it.
const KEY_ID_BYTES: usize = 4;
/// What a token begins with, so that its form can change one day.
const FORM: u8 = 1;
/// Longest URL that is sealed, in bytes.
pub(super) const URL_MAX: usize = 8 * 1024;
/// Longest token that is looked at, in characters.
const TOKEN_MAX: usize = 16 * 1024;

/// What stands in a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where the subscriber wants to be called: a secret, because it may hold credentials.
    pub url: Zeroizing<String>,
    /// Whose mail it is about.
    pub user: UserKey,
    /// The device that subscribed, where it was known.
    pub device: Option<DeviceKey>,
    /// The class of client that subscribed.
    pub class: ClientClass,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("device", &self.device)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody who has one of the keys made it.
    #[error("the callback's token was not made with any of our keys")]
    Forged,
    /// It was good once.
    #[error("the callback's token has expired")]
    Expired,
}

impl Refused {
    /// The label of `seg_bad_requests_total`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Forged => "callback_forged",
            Self::Expired => "callback_expired",
        }
    }
}

/// The keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read or made.
    #[error("ens.callback.key.path {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in the file are no keys.
    #[error(
        "ens.callback.key.path {}: line {line} holds no key; a key is 32 random bytes in base64, \
         such as `openssl rand -base64 32` prints", path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// There is no key, or there are too many.
    #[error("ens.callback.key.path {}: must hold 1 to {KEYS_MAX} keys", path.display())]
    Count {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("no random bytes for the keys of callbacks")]
    Random,
}

/// The keys: the first seals, all open.
pub struct Keys(Vec<(Id, RandomizedNonceKey)>);

type Id = [u8; KEY_ID_BYTES];

impl Keys {
    /// Reads the keys, or makes one and writes it where there is no file yet.
    ///
    /// # Errors
    /// [`KeysError`] names the file, the reason and the mend.
    pub fn load_or_create(path: &Path) -> Result<Self, KeysError> {
        let of = |source| KeysError::File {
            path: path.to_owned(),
            source,
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut random = Zeroizing::new([0; KEY_BYTES]);
                rand::fill(random.as_mut()).map_err(|_| KeysError::Random)?;
                let text = Zeroizing::new(format!("{}\n", BASE64_STANDARD.encode(&random)));
                write_new(path, &text).map_err(of)?;
                text
            }
            Err(error) => return Err(of(error)),
        };
        Self::parse(&text).map_err(|line| match line {
            Some(line) => KeysError::Line {
                path: path.to_owned(),
                line,
            },
            None => KeysError::Count {
                path: path.to_owned(),
            },
        })
    }

    /// One key a line; empty lines and those that begin with `#` are passed over. The error is the
    /// line at fault, if one is.
    fn parse(text: &str) -> Result<Self, Option<usize>> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bytes = BASE64_STANDARD.decode(line).map(Zeroizing::new);
            let bytes = bytes.map_err(|_| Some(number))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| Some(number))?;
            let mut id = Id::default();
            for (to, from) in id.iter_mut().zip(digest(&SHA256, &bytes).as_ref()) {
                *to = *from;
            }
            keys.push((id, key));
        }
        if (1..=KEYS_MAX).contains(&keys.len()) {
            Ok(Self(keys))
        } else {
            Err(None)
        }
    }

    /// A token that is good until `until`; `None` without randomness, or where the URL is absurdly
    /// long.
    pub fn seal(&self, sealed: &Sealed, until: Timestamp) -> Option<String> {
        let (id, key) = self.0.first()?;
        let mut text = plain(sealed, until)?;
        let nonce = key
            .seal_in_place_append_tag(Aad::from(associated(*id)), &mut *text)
            .ok()?;
        let mut token = Vec::with_capacity(1 + KEY_ID_BYTES + NONCE_LEN + text.len());
        token.push(FORM);
        token.extend_from_slice(id);
        token.extend_from_slice(nonce.as_ref());
        token.extend_from_slice(&text);
        Some(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// What is sealed in a token.
    ///
    /// # Errors
    /// It was made by somebody else, or changed on the way; or it has expired.
    pub fn open(&self, token: &str, now: Timestamp) -> Result<Sealed, Refused> {
        if token.len() > TOKEN_MAX {
            return Err(Refused::Forged);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Refused::Forged)?;
        let (until, sealed) = self.unsealed(&bytes).ok_or(Refused::Forged)?;
        if now.as_second() >= until {
            return Err(Refused::Expired);
        }
        Ok(sealed)
    }

    fn unsealed(&self, bytes: &[u8]) -> Option<(i64, Sealed)> {
        let (form, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>()?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *form != FORM {
            return None;
        }
        let mut text = Zeroizing::new(text.to_vec());
        let (_, key) = self.0.iter().find(|(known, _)| known == id)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = key
            .open_in_place(nonce, Aad::from(associated(*id)), &mut text)
            .ok()?;
        read(text)
    }
}

/// What a token is bound to besides its content.
fn associated(id: Id) -> [u8; 1 + KEY_ID_BYTES] {
    let [a, b, c, d] = id;
    [FORM, a, b, c, d]
}

/// Until when (seconds of the Unix epoch, 8 bytes), class (1 byte), user, device and URL, the first
/// two behind their lengths in 2 bytes.
fn plain(sealed: &Sealed, until: Timestamp) -> Option<Zeroizing<Vec<u8>>> {
    if sealed.url.len() > URL_MAX {
        return None;
    }
    let device = sealed.device.as_ref().map_or("", DeviceKey::as_str);
    let mut text = Zeroizing::new(Vec::with_capacity(
        64 + sealed.user.as_str().len() + device.len() + sealed.url.len(),
    ));
    text.extend_from_slice(&until.as_second().to_be_bytes());
    let class = ClientClass::ALL
        .iter()
        .position(|one| *one == sealed.class)?;
    text.push(u8::try_from(class).ok()?);
    for part in [sealed.user.as_str(), device] {
        text.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text.extend_from_slice(sealed.url.as_bytes());
    Some(text)
}

fn read(text: &[u8]) -> Option<(i64, Sealed)> {
    let (until, rest) = text.split_first_chunk::<8>()?;
    let (class, rest) = rest.split_first()?;
    let part = |rest: &mut &[u8]| {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (part, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        *rest = behind;
        std::str::from_utf8(part).ok().map(str::to_owned)
    };
    let mut rest = rest;
    let (user, device) = (part(&mut rest)?, part(&mut rest)?);
    let sealed = Sealed {
        url: Zeroizing::new(std::str::from_utf8(rest).ok()?.to_owned()),
        user: UserKey::new(&user).ok()?,
        device: match device.as_str() {
            "" => None,
            device => Some(DeviceKey::new(device).ok()?),
        },
        class: *ClientClass::ALL.get(usize::from(*class))?,
    };
    Some((i64::from_be_bytes(*until), sealed))
}

/// Writes a file that is not there yet and that only its owner may read.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    fn keys(seeds: &[u8]) -> Keys {
        let text: String = seeds
            .iter()
            .map(|seed| format!("# {seed}\n{}\n", BASE64_STANDARD.encode([*seed; KEY_BYTES])))
            .collect();
        Keys::parse(&text).unwrap_or_else(|line| panic!("line {line:?}"))
    }

    fn sealed(url: &str, device: Option<&str>) -> Sealed {
        Sealed {
            url: Zeroizing::new(url.to_owned()),
            user: UserKey::new("alice@corp.example").expect("a user"),
            device: device.map(|id| DeviceKey::new(id).expect("a device")),
            class: ClientClass::Ens,
        }
    }

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn what_was_sealed_is_read_by_those_who_have_the_key() {
        let now = Timestamp::UNIX_EPOCH;
        // RSA-4096 in base64, as ENS puts it into its URL.
        let long = format!("https://ens.example/notify?id=1&creds={}", "Q".repeat(684));
        for (url, device) in [
            ("https://ens.example/", None),
            (long.as_str(), Some("APPL1")),
        ] {
            let what = sealed(url, device);
            let token = keys(&[1]).seal(&what, now + HOUR).expect("a token");
            assert!(
                !token.contains("ens") && token.len() < url.len() * 3 / 2 + 120,
                "{token}"
            );
            assert_eq!(keys(&[1]).open(&token, now), Ok(what.clone()));
            assert_eq!(keys(&[2, 1]).open(&token, now), Ok(what.clone()), "rotated");
            assert_eq!(keys(&[2]).open(&token, now), Err(Refused::Forged));
            assert_eq!(keys(&[1]).open(&token, now + HOUR), Err(Refused::Expired));
            let shown = format!("{what:?}");
            assert!(!shown.contains("ens.example"), "{shown}");
        }
        let absurd = "x".repeat(URL_MAX + 1);
        assert_eq!(keys(&[1]).seal(&sealed(&absurd, None), now), None);
    }

    #[test]
    fn two_tokens_of_one_thing_are_two() {
        let keys = keys(&[1]);
        let what = sealed("https://ens.example/", None);
        let now = Timestamp::UNIX_EPOCH;
        assert_ne!(keys.seal(&what, now), keys.seal(&what, now));
    }

    #[test]
    fn keys_are_made_once_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join(KEYS_FILE);
        let now = Timestamp::UNIX_EPOCH;
        let what = sealed("https://ens.example/", None);
        let made = Keys::load_or_create(&path).expect("keys");
        let token = made.seal(&what, now + HOUR).expect("a token");
        let read = Keys::load_or_create(&path).expect("keys");
        assert_eq!(read.open(&token, now), Ok(what));
        fs::write(&path, "# nothing\n").expect("written");
        assert!(matches!(
            Keys::load_or_create(&path),
            Err(KeysError::Count { .. })
        ));
        fs::write(&path, "\nc2hvcnQ=\n").expect("written");
        let wrong = Keys::load_or_create(&path)
            .err()
            .expect("no keys")
            .to_string();
        assert!(wrong.contains("line 2 holds no key"), "{wrong}");
    }

    proptest! {
        #[test]
        fn nothing_else_is_a_token(at in 0usize..200, bit in 0u8..8, noise in ".{0,80}") {
            let keys = keys(&[1]);
            let now = Timestamp::UNIX_EPOCH;
            let what = sealed("https://ens.example/notify", Some("APPL1"));
            let token = keys.seal(&what, now + HOUR).expect("a token");
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let changed = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
            prop_assert_eq!(keys.open(&changed, now), Err(Refused::Forged));
            prop_assert_eq!(keys.open(&noise, now), Err(Refused::Forged));
        }
    }
}
