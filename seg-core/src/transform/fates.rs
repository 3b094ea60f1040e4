//! One table: which headers of a request go no further, and why.
//!
//! Looked up once for each header that is there, not once for each that might be: a request has a
//! dozen headers, the table fifty.

use std::collections::HashMap;
use std::sync::LazyLock;

use ahash::RandomState;
use http::HeaderName;

/// Why a header goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It belongs to one connection (RFC 9110 section 7.6.1), or frames a message that is framed
    /// anew.
    OneHop,
    /// Only Exchange's own front end may send it to its back end; from outside it is a tool of the
    /// ProxyLogon and ProxyShell families, or claims an identity.
    Never,
    /// It claims something of the client's connection; rebuilt by [`super::Forwarded`].
    Claim,
}

const TABLE: &[(&str, Fate)] = &[
    ("connection", Fate::OneHop),
    ("content-length", Fate::OneHop),
    ("expect", Fate::OneHop),
    ("host", Fate::OneHop),
    ("keep-alive", Fate::OneHop),
    ("proxy-authenticate", Fate::OneHop),
    ("proxy-authorization", Fate::OneHop),
    ("proxy-connection", Fate::OneHop),
    ("te", Fate::OneHop),
    ("trailer", Fate::OneHop),
    ("transfer-encoding", Fate::OneHop),
    ("upgrade", Fate::OneHop),
    ("client-cert", Fate::Never),
    ("client-cert-chain", Fate::Never),
    ("msexchproxyuri", Fate::Never),
    ("nsclientcert", Fate::Never),
    ("x-anonresource", Fate::Never),
    ("x-anonresource-backend", Fate::Never),
    ("x-beresource", Fate::Never),
    ("x-commonaccesstoken", Fate::Never),
    ("x-forwarded-client-cert", Fate::Never),
    ("x-isfromcafe", Fate::Never),
    ("x-ms-client-application-id", Fate::Never),
    ("x-ms-edge-ip", Fate::Never),
    ("x-original-url", Fate::Never),
    ("x-originating-ip", Fate::Never),
    ("x-remote-user", Fate::Never),
    ("x-rewrite-url", Fate::Never),
    ("x-rps-cat", Fate::Never),
    ("x-sourcecafeserver", Fate::Never),
    ("x-ssl-client-cert", Fate::Never),
    ("x-user-identity", Fate::Never),
    ("x-wlid-membername", Fate::Never),
    ("forwarded", Fate::Claim),
    ("true-client-ip", Fate::Claim),
    ("x-forwarded-by", Fate::Claim),
    ("x-forwarded-for", Fate::Claim),
    ("x-forwarded-host", Fate::Claim),
    ("x-forwarded-port", Fate::Claim),
    ("x-forwarded-proto", Fate::Claim),
    ("x-forwarded-server", Fate::Claim),
    ("x-real-ip", Fate::Claim),
];

/// Whole families, by their prefix.
const NEVER_PREFIXES: [&str; 4] = ["x-owa-", "x-beresource-", "x-wcda-", "x-webobjects-"];

static FATES: LazyLock<HashMap<&'static str, Fate, RandomState>> =
    LazyLock::new(|| TABLE.iter().copied().collect());

/// What becomes of a header; `None`: it passes.
pub(super) fn fate(name: &HeaderName) -> Option<Fate> {
    let name = name.as_str();
    if !may_be_known(name) {
        return None;
    }
    FATES.get(name).copied().or_else(|| {
        NEVER_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
            .then_some(Fate::Never)
    })
}

/// Names longer than the table's longest, which only a prefix can match.
const LENGTHS: usize = 32;

/// For each length of a name, the first and the last letters of the table's names that have it, a
/// bit each. Most headers are found innocent by one look at this.
static LETTERS: [(u32, u32); LENGTHS] = {
    let mut letters = [(0, 0); LENGTHS];
    let mut row = 0;
    while row < TABLE.len() {
        let name = TABLE[row].0.as_bytes();
        letters[name.len()].0 |= letter(name[0]);
        letters[name.len()].1 |= letter(name[name.len() - 1]);
        row += 1;
    }
    letters
};

const fn letter(byte: u8) -> u32 {
    1 << (byte % 32)
}

fn may_be_known(name: &str) -> bool {
    let bytes = name.as_bytes();
    let by_name = match (LETTERS.get(bytes.len()), bytes.first(), bytes.last()) {
        (Some(letters), Some(first), Some(last)) => {
            letters.0 & letter(*first) != 0 && letters.1 & letter(*last) != 0
        }
        _ => false,
    };
    by_name || matches!(bytes, [b'x', b'-', b'o' | b'b' | b'w', ..])
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_table_names_each_header_once_and_in_lower_case() {
        assert_eq!(FATES.len(), TABLE.len());
        for (name, fate_of_it) in TABLE {
            let header = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            assert_eq!(header.as_str(), *name);
            assert_eq!(fate(&header), Some(*fate_of_it));
        }
    }

    #[test]
    fn families_are_found_by_their_first_letter() {
        for prefix in NEVER_PREFIXES {
            let name = format!("{prefix}anything");
            assert!(may_be_known(&name), "{name}");
        }
    }

    #[test]
    fn the_front_ends_own_headers_never_pass() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-beresource",
            "x-owa-explicitlogonuser",
            "x-anchormailbox",
            "x-ms-policykey",
            "x-webobjects-remote-user",
        ] {
            headers.insert(HeaderName::from_static(name), "1".parse().expect("a value"));
        }
        let mut left: Vec<_> = headers
            .keys()
            .filter(|name| fate(name).is_none())
            .map(HeaderName::as_str)
            .collect();
        left.sort_unstable();
        assert_eq!(left, ["x-anchormailbox", "x-ms-policykey"]);
    }
}
