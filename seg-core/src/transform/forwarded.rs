//! `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239): rebuilt at every request, and
//! continued only where a trusted proxy wrote them.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is told of a client.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// `server.forwarded.headers`: whether the client's address is told at all.
    pub tell: bool,
    /// The connection's other end.
    pub peer: IpAddr,
    /// Whether that is one of `server.trusted.proxies`.
    pub peer_trusted: bool,
    /// The value of `X-Forwarded-For` for an untrusted peer, made once a connection.
    pub peer_text: &'a HeaderValue,
    /// The value of `Forwarded` up to the host, made once a connection.
    pub peer_element: &'a str,
}

impl Forwarded<'_> {
    /// What the server is told of the client, made from what came with the request.
    pub fn about(&self, headers: &HeaderMap) -> AboutClient {
        if !self.tell {
            return AboutClient::default();
        }
        let before = if self.peer_trusted {
            Before::read(headers)
        } else {
            Before::default()
        };
        let host = headers.get(header::HOST);
        AboutClient {
            chain: match before.chain {
                Some(chain) => HeaderValue::from_str(&format!("{chain}, {}", self.peer)).ok(),
                None => Some(self.peer_text.clone()),
            },
            proto: Some(
                before
                    .proto
                    .unwrap_or_else(|| HeaderValue::from_static("https")),
            ),
            forwarded: self.element(before.forwarded.as_deref(), host),
            host: before.host.or_else(|| host.cloned()),
        }
    }

    fn element(&self, before: Option<&str>, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        // A host with a quote or a backslash never gets here (`route`), but the header's grammar
        // must not depend on that.
        if host.contains(['"', '\\']) {
            return None;
        }
        let mut line = bytes::BytesMut::with_capacity(
            before.map_or(0, |before| before.len() + 2) + self.peer_element.len() + host.len() + 10,
        );
        let written = match before {
            Some(before) => write!(line, "{before}, {}host=\"{host}\"", self.peer_element),
            None => write!(line, "{}host=\"{host}\"", self.peer_element),
        };
        written.ok()?;
        HeaderValue::from_maybe_shared(line.freeze()).ok()
    }
}

/// The lines that tell of a client.
#[derive(Debug, Default)]
pub struct AboutClient {
    chain: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
}

impl AboutClient {
    /// Puts them where no such lines are left.
    pub fn tell(self, headers: &mut HeaderMap) {
        for (name, value) in [
            (X_FORWARDED_FOR, self.chain),
            (X_FORWARDED_PROTO, self.proto),
            (X_FORWARDED_HOST, self.host),
            (header::FORWARDED, self.forwarded),
        ] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

/// What a trusted proxy wrote.
#[derive(Debug, Default)]
struct Before {
    chain: Option<String>,
    forwarded: Option<String>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Before {
    fn read(headers: &HeaderMap) -> Self {
        let joined = |name: &HeaderName| {
            let lines: Vec<&str> = headers
                .get_all(name)
                .iter()
                .filter_map(|line| line.to_str().ok())
                .collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        Self {
            chain: joined(&X_FORWARDED_FOR),
            forwarded: joined(&header::FORWARDED),
            proto: headers.get(&X_FORWARDED_PROTO).cloned(),
            host: headers.get(&X_FORWARDED_HOST).cloned(),
        }
    }
}

/// The parts that are the same for every request of a connection.
pub fn peer_parts(peer: IpAddr) -> (HeaderValue, String) {
    let text = HeaderValue::from_str(&peer.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let element = match peer {
        IpAddr::V4(peer) => format!("for={peer};proto=https;"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\";proto=https;"),
    };
    (text, element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuilt(trusted: bool, tell: bool) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "mail.corp.example"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "198.51.100.2"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                value.parse().expect("a value"),
            );
        }
        let peer: IpAddr = "192.0.2.1".parse().expect("an address");
        let (peer_text, peer_element) = peer_parts(peer);
        let forwarded = Forwarded {
            tell,
            peer,
            peer_trusted: trusted,
            peer_text: &peer_text,
            peer_element: &peer_element,
        };
        crate::transform::inward(&mut headers, &forwarded);
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()))
            .collect();
        lines.sort();
        lines
    }

    fn lines(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_strangers_claims_are_replaced() {
        assert_eq!(
            rebuilt(false, true),
            lines(&[
                (
                    "forwarded",
                    "for=192.0.2.1;proto=https;host=\"mail.corp.example\""
                ),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "mail.corp.example"),
                ("x-forwarded-proto", "https"),
            ])
        );
    }

    #[test]
    fn a_trusted_proxys_claims_are_continued() {
        assert_eq!(
            rebuilt(true, true),
            lines(&[
                (
                    "forwarded",
                    "for=203.0.113.9, for=192.0.2.1;proto=https;host=\"mail.corp.example\""
                ),
                ("x-forwarded-for", "203.0.113.9, 198.51.100.2, 192.0.2.1"),
                ("x-forwarded-host", "mail.corp.example"),
                ("x-forwarded-proto", "http"),
            ])
        );
    }

    #[test]
    fn told_nothing_the_server_learns_nothing() {
        for trusted in [false, true] {
            assert_eq!(rebuilt(trusted, false), lines(&[]));
        }
    }
}
