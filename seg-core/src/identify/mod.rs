//! Who asks? The user, from the credentials or the client certificate; the device comes from the
//! protocol's own request line ([`crate::protocol`]).
//!
//! This room comes before the verdict because a verdict is for a pair (device, user), and before
//! the body is touched: what has no credentials is never interpreted.

mod by_directory;
mod certificate;
pub(crate) mod pin;
mod user;

pub use certificate::{CertificateMapping, ClientCertificate, Closed, Open, Term};
pub use pin::NtlmPin;
pub use user::IdentityRules;

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use seg_compliance::UserKey;
use seg_ews::authorization::{self, Credentials};

use crate::oauth::TokenError;

/// The fingerprint of one user's credentials: HMAC-SHA256 of `Authorization` and user under a key
/// that lives as long as the process, cut to 16 bytes. Says nothing about either.
pub type CredentialDigest = [u8; 16];

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No credentials and no verified client certificate: is not judged, only challenged.
    Anonymous,
    /// Credentials whose user can't be read: NTLM, a Kerberos token without a certificate, a
    /// Bearer token without a name. Challenged anew, without them.
    Unreadable(Unreadable),
    /// A Kerberos ticket, which names somebody to whoever holds the key.
    Ticket,
    /// Somebody with a name.
    Known(Known),
}

/// Why nobody can be read out of an `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// NTLM, bare or wrapped in SPNEGO. It authenticates a connection, and connections are shared.
    Ntlm,
    /// Another scheme, or one of ours that holds no user.
    NoUser,
    /// A Kerberos ticket that is none to us.
    Ticket,
    /// More than one `Authorization`.
    Doubled,
    /// A token by which an application may act for anybody: whether it is validated or not.
    Impersonates,
}

impl Unreadable {
    /// The label of `seg_bad_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ntlm => "authorization_ntlm",
            Self::NoUser => "authorization_without_user",
            Self::Ticket => "authorization_ticket",
            Self::Doubled => "authorization_doubled",
            Self::Impersonates => TokenError::Impersonates.reason(),
        }
    }
}

/// By what a caller has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A password.
    Basic,
    /// A token.
    Bearer,
    /// A Kerberos ticket.
    Negotiate,
    /// NTLM over a connection of his own (`ews.ntlm.pinning`).
    Ntlm,
    /// A certificate and nothing else.
    Certificate,
}

/// What the directory knows of a caller.
#[derive(Clone, Debug)]
pub struct Person {
    /// The name under which he was asked about.
    pub asked: UserKey,
    /// `account@domain`, by which the domain controller knows him.
    pub login: UserKey,
    /// The account's distinguished name.
    pub dn: String,
    /// `sAMAccountName`.
    pub account: String,
    /// His mail address.
    pub mail: Option<String>,
    /// His name as people write it.
    pub name: Option<String>,
    /// He may not be delegated.
    pub sensitive: bool,
}

/// A caller with a name.
#[derive(Clone, Debug)]
pub struct Known {
    /// The canonical user, of whom the verdict is taken.
    pub user: UserKey,
    /// By what he has it.
    pub scheme: Scheme,
    /// The fingerprint of the credentials; `None` where a certificate alone names the user.
    pub digest: Option<CredentialDigest>,
    /// Whether a verified certificate named the user: proof in itself.
    pub proven: bool,
    /// Whether the credentials belong to a connection (Negotiate): such an upstream connection is
    /// never shared between users.
    pub connection_bound: bool,
    /// Whether it is the user of a pinned connection ([`pin`]).
    pub pinned: bool,
    /// What the directory knows of him, where it was asked.
    pub person: Option<Box<Person>>,
}

/// What one client connection remembers of its last caller: phones send the same `Authorization`
/// with every request, and comparing bytes is cheaper than reading them.
#[derive(Debug, Default)]
pub struct CallerMemory(Mutex<Option<(HeaderValue, u64, Known)>>);

impl CallerMemory {
    fn recall(&self, line: &HeaderValue, generation: u64) -> Option<Known> {
        let memory = self.0.lock();
        let (seen, of, known) = memory.as_ref()?;
        (*of == generation && seen.as_bytes() == line.as_bytes()).then(|| known.clone())
    }

    fn keep(&self, line: &HeaderValue, generation: u64, known: &Known) {
        // A copy of its own: the header's bytes are a slice of the connection's read buffer, which
        // would stay alive with it.
        if let Ok(mut own) = HeaderValue::from_bytes(line.as_bytes()) {
            own.set_sensitive(true);
            *self.0.lock() = Some((own, generation, known.clone()));
        }
    }
}

/// The key of the credential fingerprints: made at start, never stored.
#[derive(Debug)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// A fresh key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        hmac::Key::generate(hmac::HMAC_SHA256, &random).map(Self)
    }

    /// The fingerprint of `authorization` as `user` sent it.
    pub fn digest(&self, authorization: &[u8], user: &UserKey) -> CredentialDigest {
        self.sign(&[authorization, &[0], user.as_str().as_bytes()])
    }

    /// The fingerprint of a password, whoever types it. It can't be one of an `Authorization`:
    /// those don't begin with a zero.
    pub fn digest_of(&self, password: &[u8]) -> CredentialDigest {
        self.sign(&[&[0], password])
    }

    fn sign(&self, parts: &[&[u8]]) -> CredentialDigest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let tag = context.sign();
        let mut digest = CredentialDigest::default();
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        digest
    }
}

/// Reads the caller out of a request's head.
///
/// `certificate_user` is the user that a verified client certificate names; `generation` the
/// configuration's, so that a changed domain map is not outlived by a remembered name.
pub fn caller(
    headers: &HeaderMap,
    certificate_user: Option<&UserKey>,
    rules: &IdentityRules,
    key: &DigestKey,
    memory: &CallerMemory,
    generation: u64,
) -> Caller {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => {
            return certificate_user.map_or(Caller::Anonymous, |user| {
                Caller::Known(Known {
                    user: user.clone(),
                    scheme: Scheme::Certificate,
                    digest: None,
                    proven: true,
                    connection_bound: false,
                    pinned: false,
                    person: None,
                })
            });
        }
        (Some(line), None) => line,
        (Some(_), Some(_)) => return Caller::Unreadable(Unreadable::Doubled),
    };
    if let Some(known) = memory.recall(line, generation) {
        return Caller::Known(known);
    }
    let named = match authorization::parse(line.as_bytes()) {
        Some(Credentials::Ntlm | Credentials::Negotiate { ntlm: true }) => {
            return Caller::Unreadable(Unreadable::Ntlm);
        }
        Some(Credentials::Basic(encoded)) => authorization::basic_user(encoded)
            .and_then(|name| rules.canonical(&name))
            .map(|user| (user, Scheme::Basic)),
        Some(Credentials::Bearer(token)) => {
            let claims = seg_ews::bearer::claims(token).unwrap_or_default();
            if seg_ews::bearer::impersonates(&claims.roles) {
                return Caller::Unreadable(Unreadable::Impersonates);
            }
            let user = claims.user().and_then(|name| rules.canonical(name));
            user.map(|user| (user, Scheme::Bearer))
        }
        // A Kerberos token names its user to the server alone; the certificate names him to us.
        Some(Credentials::Negotiate { ntlm: false }) => match certificate_user {
            Some(user) => Some((user.clone(), Scheme::Negotiate)),
            None => return Caller::Ticket,
        },
        Some(Credentials::Other(_)) | None => None,
    };
    let Some((user, scheme)) = named else {
        return Caller::Unreadable(Unreadable::NoUser);
    };
    let proven = certificate_user.is_some_and(|by_certificate| *by_certificate == user);
    let digest = Some(key.digest(line.as_bytes(), &user));
    let known = Known {
        user,
        scheme,
        digest,
        proven,
        connection_bound: scheme == Scheme::Negotiate,
        pinned: false,
        person: None,
    };
    memory.keep(line, generation, &known);
    Caller::Known(known)
}
