//! Networks of clients, as policies name them.

use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// A network, or one address. An IPv4 client of an IPv6 listener is an IPv4 client, and so is a
/// network of such clients one of IPv4: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| alone()).ok()?;
    let IpNet::V6(six) = network else {
        return Some(network);
    };
    let four = six.addr().to_ipv4_mapped();
    let length = six.prefix_len().checked_sub(96);
    let four = four
        .zip(length)
        .and_then(|(four, length)| Ipv4Net::new(four, length).ok());
    Some(four.map_or(network, IpNet::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            let found = network(text).map(|network| network.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "office",
            "10.0.0.0/8,10.1.0.0/16",
        ] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
