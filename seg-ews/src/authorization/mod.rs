//! How a client authenticates itself: the `Authorization` header.

mod basic;
mod negotiate;
mod ntlm;

pub use basic::basic_user;
pub use ntlm::{NtlmMessage, ntlm_message};

use std::fmt;

/// Longer values are not looked at, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Credentials by scheme. They borrow from the header; `Debug` shows the scheme and nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'h> {
    /// Basic, with what follows the scheme, still in base64; see [`basic_user`].
    Basic(&'h [u8]),
    /// Bearer, with its token; empty where a client asks for the challenge that way. See
    /// [`bearer::claims`](crate::bearer::claims).
    Bearer(&'h str),
    /// Negotiate.
    Negotiate {
        /// Whether the token holds an NTLM message, bare or wrapped in SPNEGO, or can't be read.
        ntlm: bool,
    },
    /// NTLM.
    Ntlm,
    /// Any other scheme, by its name.
    Other(&'h str),
}

impl Credentials<'_> {
    /// Whether this authenticates a connection instead of a request, so that it must never be
    /// forwarded on a connection that others use.
    pub const fn is_ntlm(&self) -> bool {
        matches!(self, Self::Ntlm | Self::Negotiate { ntlm: true })
    }

    /// The name of the scheme, for logs: one of `basic`, `bearer`, `negotiate`, `ntlm`, `other`.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::Negotiate { .. } => "negotiate",
            Self::Ntlm => "ntlm",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negotiate { ntlm: true } => f.write_str("Credentials(negotiate holding ntlm)"),
            _ => write!(f, "Credentials({})", self.scheme()),
        }
    }
}

/// Reads the value of one `Authorization` (or `Proxy-Authorization`) header. None where it does
/// not begin with a scheme, is over [`MAX_VALUE_BYTES`], or names Bearer with what is no token.
pub fn parse(value: &[u8]) -> Option<Credentials<'_>> {
    let value = value.trim_ascii();
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let end = value
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t'))
        .unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end)?;
    let scheme = std::str::from_utf8(scheme)
        .ok()
        .filter(|scheme| is_scheme(scheme))?;
    let rest = rest.trim_ascii();
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    Some(if is("Basic") {
        Credentials::Basic(rest)
    } else if is("Bearer") {
        Credentials::Bearer(
            std::str::from_utf8(rest)
                .ok()
                .filter(|token| is_token68(token))?,
        )
    } else if is("Negotiate") {
        Credentials::Negotiate {
            ntlm: negotiate::holds_ntlm(rest),
        }
    } else if is("NTLM") {
        Credentials::Ntlm
    } else {
        Credentials::Other(scheme)
    })
}

/// A token68 (RFC 9110 section 11.2), or nothing.
fn is_token68(token: &str) -> bool {
    let letters = token.trim_end_matches('=');
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    letters.bytes().all(is_letter) && (token.is_empty() || !letters.is_empty())
}

fn is_scheme(scheme: &str) -> bool {
    !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_told_apart_whatever_their_case() {
        assert_eq!(parse(b"bAsIc  YTpi "), Some(Credentials::Basic(b"YTpi")));
        assert_eq!(
            parse(b"Bearer\teyJ.e.s"),
            Some(Credentials::Bearer("eyJ.e.s"))
        );
        assert_eq!(parse(b"Bearer"), Some(Credentials::Bearer("")));
        assert_eq!(parse(b"ntlm TlRMTVNTUAAB"), Some(Credentials::Ntlm));
        assert_eq!(
            parse(b"Negotiate YII="),
            Some(Credentials::Negotiate { ntlm: false })
        );
        assert_eq!(
            parse(b"negotiate TlRMTVNTUAAB"),
            Some(Credentials::Negotiate { ntlm: true })
        );
        assert_eq!(
            parse(b"Digest username=\"a\""),
            Some(Credentials::Other("Digest"))
        );
        assert_eq!(parse(b"NTLMv2 x"), Some(Credentials::Other("NTLMv2")));
        for nothing in [
            &b""[..],
            b"  ",
            b"\xff",
            b"a,b c",
            b"Bearer \xc3\xa9",
            b"Bearer a.b.c, NTLM d",
            b"Bearer =",
        ] {
            assert_eq!(parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for value in [
            "Basic YWxpY2U6cHc=",
            "Bearer YWxpY2U6cHc=",
            "Digest YWxpY2U6cHc=",
        ] {
            let shown = format!("{:?}", parse(value.as_bytes()));
            assert!(!shown.contains("YWxp"), "{shown}");
        }
    }
}
