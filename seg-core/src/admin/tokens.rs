//! Who may call: the one token that the gateway makes (`admin.token.path`), which may everything,
//! and named tokens with a role each (`admin.tokens.path`), of which only hashes are kept.
//!
//! ```toml
//! [[token]]
//! name = "helpdesk"
//! role = "operate"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! expires = "2027-01-01T00:00:00Z"
//! ```
//!
//! A token is random and long (`openssl rand -hex 32`), so that a plain SHA-256 of it
//! (`printf %s "$TOKEN" | sha256sum`) tells nothing: there is nothing to guess.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Deserialize;

use super::Token;
use crate::hex;

/// Most named tokens.
const TOKENS_MAX: usize = 1_000;
/// Longest name, in bytes.
const NAME_MAX: usize = 64;
/// The name under which the gateway's own token stands in the audit trail.
const OWN: &str = "admin";

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at devices, verdicts, reports.
    Read,
    /// That, and change single devices and users.
    Operate,
    /// Look at the same, import and plan: a source that tells more of known devices asks which
    /// those are.
    Import,
    /// Everything.
    Admin,
}

impl Role {
    /// `read`, `operate`, `import`, `admin`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Import => "import",
            Self::Admin => "admin",
        }
    }

    /// Whether a token of this role may do what needs `needed`.
    pub const fn may(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Admin, _) | (Self::Operate | Self::Import, Self::Read) => true,
            (own, needed) => own as u8 == needed as u8,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The named tokens of a file.
#[derive(Clone, Default)]
pub struct NamedTokens(Vec<Named>);

#[derive(Clone)]
struct Named {
    name: String,
    role: Role,
    hash: [u8; 32],
    expires: Option<Timestamp>,
}

impl fmt::Debug for NamedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|named| (&named.name, named.role));
        f.debug_list().entries(names).finish()
    }
}

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("admin.tokens.path {}: {message}", path.display())]
pub struct TokensError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Given>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    role: Role,
    sha256: String,
    expires: Option<Timestamp>,
}

impl NamedTokens {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, is no TOML, or a token in it is not right: with the token's name.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let wrong = |message: String| TokensError {
            path: path.to_owned(),
            message,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("can't be read: {error}")))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.token.len() > TOKENS_MAX {
            return Err(format!("more than {TOKENS_MAX} tokens"));
        }
        let mut tokens: Vec<Named> = Vec::with_capacity(file.token.len());
        for given in file.token {
            let Given {
                name,
                role,
                sha256,
                expires,
            } = given;
            if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
                return Err(format!("token {name:?}: a name has 1 to {NAME_MAX} bytes"));
            }
            if name == OWN || tokens.iter().any(|other| other.name == name) {
                return Err(format!("token {name:?}: the name is taken"));
            }
            let Some(hash) = hex::sha256(&sha256) else {
                return Err(format!(
                    "token {name:?}: sha256 must have 64 hex digits; make them with \
                     `printf %s \"$TOKEN\" | sha256sum`"
                ));
            };
            if verify_slices_are_equal(digest(&SHA256, b"").as_ref(), &hash).is_ok() {
                return Err(format!(
                    "token {name:?}: that is the hash of nothing; was $TOKEN empty?"
                ));
            }
            if let Some(other) = tokens.iter().find(|other| other.hash == hash) {
                return Err(format!(
                    "token {name:?}: {:?} has the same; who did what could not be told",
                    other.name
                ));
            }
            tokens.push(Named {
                name,
                role,
                hash,
                expires,
            });
        }
        Ok(Self(tokens))
    }

    fn find(&self, given: &[u8], now: Timestamp) -> Option<Caller> {
        let hash = digest(&SHA256, given);
        // All of them, and each whole: the time says nothing about which fits.
        let mut found = None;
        for named in &self.0 {
            let fits = verify_slices_are_equal(hash.as_ref(), &named.hash).is_ok();
            if fits && named.expires.is_none_or(|expires| expires > now) {
                found = Some(named);
            }
        }
        found.map(|named| Caller {
            name: named.name.clone(),
            role: named.role,
        })
    }
}

/// Who sends this `Authorization` (RFC 6750 section 2.1).
pub(super) fn caller(
    own: &Token,
    named: &NamedTokens,
    authorization: Option<&[u8]>,
    now: Timestamp,
) -> Option<Caller> {
    if own.is_in(authorization) {
        return Some(Caller {
            name: OWN.to_owned(),
            role: Role::Admin,
        });
    }
    let (scheme, given) = authorization?.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    named.find(given.trim_ascii(), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the text `test`.
    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_named_token_is_known_by_its_hash_until_it_expires() {
        let text = format!(
            "[[token]]\nname=\"helpdesk\"\nrole=\"operate\"\nsha256=\"{HASH}\"\nexpires=\"2027-01-01T00:00:00Z\""
        );
        let named = NamedTokens::parse(&text).unwrap();
        let own = Token::for_test("an-own-token");
        let at = |line: &str, time: &str| {
            let found = caller(&own, &named, Some(line.as_bytes()), time.parse().unwrap());
            found.map(|caller| (caller.name, caller.role.name()))
        };
        let (before, after) = ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z");
        assert_eq!(
            at("Bearer test", before),
            Some(("helpdesk".to_owned(), "operate"))
        );
        assert_eq!(at("Bearer test", after), None);
        assert_eq!(at("Bearer tes", before), None);
        assert_eq!(at("Basic test", before), None);
        assert_eq!(
            at("Bearer an-own-token", after),
            Some(("admin".to_owned(), "admin"))
        );
        assert!(!format!("{named:?}").contains("9f86"));
    }

    #[test]
    fn a_file_with_a_mistake_is_refused_by_name() {
        for (text, part) in [
            ("[[token]]\nname=\"a\"\nrole=\"root\"\nsha256=\"\"", "root"),
            (
                "[[token]]\nname=\"a\"\nrole=\"read\"\nsha256=\"12\"",
                "64 hex digits",
            ),
            (
                "[[token]]\nname=\"admin\"\nrole=\"read\"\nsha256=\"12\"",
                "taken",
            ),
            (
                "[[token]]\nname=\"a\"\nrole=\"read\"\ntoken=\"secret\"",
                "token",
            ),
            (
                "[[token]]\nname=\"a\"\nrole=\"read\"\nsha256=\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
                "hash of nothing",
            ),
        ] {
            let error = NamedTokens::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let twice = ["a", "b"]
            .map(|name| format!("[[token]]\nname=\"{name}\"\nrole=\"read\"\nsha256=\"{HASH}\"\n"));
        let error = NamedTokens::parse(&twice.concat()).unwrap_err();
        assert!(error.contains("\"b\": \"a\" has the same"), "{error}");
    }

    #[test]
    fn roles_may_what_their_names_say() {
        use Role::{Admin, Import, Operate, Read};
        for (role, allowed) in [
            (Read, vec![Read]),
            (Operate, vec![Read, Operate]),
            (Import, vec![Read, Import]),
            (Admin, vec![Read, Operate, Import, Admin]),
        ] {
            for needed in [Read, Operate, Import, Admin] {
                assert_eq!(
                    role.may(needed),
                    allowed.contains(&needed),
                    "{role:?} {needed:?}"
                );
            }
        }
    }
}
