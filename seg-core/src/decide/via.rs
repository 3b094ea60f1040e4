//! How a request came, for the policies that look at its outside.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};
use ipnet::IpNet;
use seg_compliance::Via;

/// Most addresses of `X-Forwarded-For` that are looked at.
const HOPS_MAX: usize = 16;

/// Reads it out of a request's head. Borrows everything.
pub fn via<'r>(
    peer: IpAddr,
    trusted: &[IpNet],
    method: &'r Method,
    uri: &'r Uri,
    headers: &'r HeaderMap,
    version: &'r str,
) -> Via<'r> {
    let host = headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    Via {
        address: Some(client(peer, trusted, headers)),
        host: without_port(host),
        path: uri.path(),
        method: method.as_str(),
        version,
        suspect: "",
    }
}

/// The client's address: the connection's other end, and behind trusted proxies the nearest one
/// that no trusted proxy has. What an untrusted hop wrote before that is hearsay.
fn client(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    let hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    let mut nearest = peer;
    for hop in hops.take(HOPS_MAX) {
        let Ok(address) = hop.trim().parse() else {
            return nearest;
        };
        nearest = address;
        if !is_trusted(address) {
            return nearest;
        }
    }
    nearest
}

/// A `Host` without its port; an IPv6 address without its brackets.
pub fn without_port(host: &str) -> &str {
    if let Some(inside) = host.strip_prefix('[') {
        return inside.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, lines: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", http::HeaderValue::from_static(line));
        }
        client(peer.parse().unwrap(), &trusted, &headers).to_string()
    }

    #[test]
    fn the_client_is_whom_the_last_trusted_proxy_saw() {
        for (peer, lines, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1",
                &["198.51.100.1, 203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
            ),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(seen(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_host_loses_its_port() {
        for (host, expected) in [
            ("mail.corp.example:443", "mail.corp.example"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
