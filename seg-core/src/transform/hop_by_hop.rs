//! Headers that belong to one connection (RFC 9110 section 7.6.1).

use http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;

/// Names that `Connection` can't declare to be of one hop: to drop them would change who asks, for
/// what, or of how many bytes (the attack by `Connection: Authorization`).
const END_TO_END: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::CONTENT_ENCODING,
    header::USER_AGENT,
    HeaderName::from_static("ms-asprotocolversion"),
];

/// Removes what `Connection` names.
pub(super) fn remove_named(headers: &mut HeaderMap) {
    let Some(first) = headers.get(header::CONNECTION) else {
        return;
    };
    // Nearly always; both names are of one hop anyway, said or not.
    let usual = [&b"keep-alive"[..], b"Keep-Alive", b"close", b"Close"];
    if !usual.contains(&first.as_bytes()) || headers.get_all(header::CONNECTION).iter().count() > 1
    {
        let named: SmallVec<[HeaderName; 4]> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
}

/// Removes the headers of an answer that are always of one hop, and the two that speak of the login
/// of the connection behind us, which the client does not have (RFC 4559).
pub(super) fn remove_always(headers: &mut HeaderMap) {
    let found: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "persistent-auth"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "proxy-support"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_stays_here_unless_it_is_end_to_end() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (
                "connection",
                "close, X-Secret , authorization, MS-ASProtocolVersion",
            ),
            ("ms-asprotocolversion", "16.1"),
            ("connection", "keep-alive"),
            ("x-secret", "1"),
            ("authorization", "Basic eA=="),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("x-other", "2"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                value.parse().expect("a value"),
            );
        }
        remove_named(&mut headers);
        remove_always(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "ms-asprotocolversion", "x-other"]);
    }
}
