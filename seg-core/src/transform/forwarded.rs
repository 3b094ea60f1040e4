//! `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239): rebuilt at every request, and
//! continued only where a trusted proxy wrote them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use parking_lot::Mutex;

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
    /// Whether the client speaks TLS with us.
    pub secure: bool,
    /// The value of `X-Forwarded-For` for an untrusted peer, made once a connection.
    pub peer_text: &'a str,
    /// The value of `Forwarded` up to the host, made once a connection.
    pub peer_element: &'a str,
    /// What was told with the connection's last request.
    pub memory: &'a ToldMemory,
}

/// The lines that told of a client with its last request: the same for each, as long as it asks
/// the same host.
#[derive(Debug, Default)]
pub struct ToldMemory(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Something has been told before: a poll that is alone on its connection keeps nothing.
    before: bool,
    lines: Option<(Box<[u8]>, Bytes)>,
}

impl Forwarded<'_> {
    /// Finished lines that tell the server of the client, made from what came with the request.
    pub fn about(&self, headers: &HeaderMap) -> Bytes {
        if !self.tell {
            return Bytes::new();
        }
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let host = host.unwrap_or_default();
        if self.peer_trusted {
            return self.lines(&Before::read(headers), host);
        }
        let mut memory = self.memory.0.lock();
        if let Some((of, lines)) = &memory.lines
            && **of == *host
        {
            return lines.clone();
        }
        let lines = self.lines(&Before::default(), host);
        if memory.before {
            memory.lines = Some((host.into(), lines.clone()));
        }
        memory.before = true;
        lines
    }

    fn lines(&self, before: &Before, host: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let mut line = |name: &HeaderName, parts: &[&[u8]]| {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            for part in parts {
                out.put_slice(part);
            }
            out.put_slice(b"\r\n");
        };
        match &before.chain {
            Some(chain) => {
                let peer = self.peer.to_string();
                line(
                    &X_FORWARDED_FOR,
                    &[chain.as_bytes(), b", ", peer.as_bytes()],
                );
            }
            None => line(&X_FORWARDED_FOR, &[self.peer_text.as_bytes()]),
        }
        let proto = before.proto.as_ref().map(HeaderValue::as_bytes);
        let ours: &[u8] = if self.secure { b"https" } else { b"http" };
        line(&X_FORWARDED_PROTO, &[proto.unwrap_or(ours)]);
        let told = before.host.as_ref().map(HeaderValue::as_bytes);
        line(&X_FORWARDED_HOST, &[told.unwrap_or(host)]);
        // A host with a quote or a backslash never gets here (`route`), but the header's grammar
        // must not depend on that.
        if !host.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            let element = self.peer_element.as_bytes();
            let (chain, comma) = match &before.forwarded {
                Some(chain) => (chain.as_bytes(), &b", "[..]),
                None => (&b""[..], &b""[..]),
            };
            line(
                &header::FORWARDED,
                &[chain, comma, element, b"host=\"", host, b"\""],
            );
        }
        out.freeze()
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
pub fn peer_parts(peer: IpAddr, secure: bool) -> (Arc<str>, String) {
    let proto = if secure { "https" } else { "http" };
    let text = peer.to_string();
    let element = match peer {
        IpAddr::V4(peer) => format!("for={peer};proto={proto};"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\";proto={proto};"),
    };
    (text.into(), element)
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
        let (peer_text, peer_element) = peer_parts(peer, true);
        let memory = ToldMemory::default();
        let forwarded = Forwarded {
            tell,
            peer,
            peer_trusted: trusted,
            secure: true,
            peer_text: &peer_text,
            peer_element: &peer_element,
            memory: &memory,
        };
        let inward = crate::transform::inward(headers, None, &forwarded);
        let about = std::str::from_utf8(&inward.about).expect("text");
        let told = about.lines().filter_map(|line| line.split_once(": "));
        let passed = inward
            .headers
            .iter()
            .filter(|(name, _)| crate::transform::passes(name))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?")));
        let mut lines: Vec<_> = told
            .chain(passed)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
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
    fn another_host_on_the_same_connection_is_told_as_it_is() {
        let (peer_text, peer_element) = peer_parts(IpAddr::from([192, 0, 2, 1]), true);
        let memory = ToldMemory::default();
        let forwarded = Forwarded {
            tell: true,
            peer: IpAddr::from([192, 0, 2, 1]),
            peer_trusted: false,
            secure: true,
            peer_text: &peer_text,
            peer_element: &peer_element,
            memory: &memory,
        };
        for host in ["a.example", "a.example", "a.example", "b.example"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            let about = forwarded.about(&headers);
            let line = format!("x-forwarded-host: {host}\r\n");
            let about = std::str::from_utf8(&about).expect("text");
            assert!(about.contains(&line), "{about}");
        }
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
