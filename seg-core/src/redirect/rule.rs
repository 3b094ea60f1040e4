//! Where the gateway may be sent.
//!
//! A redirect is a request that somebody else writes and we send, with the user's password in it.
//! So it must lead to a host that the configuration names; and the address behind a name must not
//! be one where no mail server is: a cloud's metadata service, the local link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::{AllowedHost, Origin};

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `redirect.mode=deny`.
    Mode,
    /// It leads nowhere that the request could go.
    Location,
    /// The host is not in `redirect.allowed.hosts`.
    Host,
    /// It leads to ourselves, or in a circle, or too far.
    Loop,
}

impl Denied {
    /// The word for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Mode => "redirect_mode",
            Self::Location => "redirect_location",
            Self::Host => "redirect_host",
            Self::Loop => "redirect_loop",
        }
    }
}

/// Which addresses a name may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// Networks of our own are meant too.
    private: bool,
    /// Listed by address.
    listed: Vec<IpNet>,
}

impl AddressRule {
    /// Whether a connection to this address may be opened.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = plain(address);
        if self.listed.iter().any(|network| network.contains(&address)) {
            return true;
        }
        match class(address) {
            Class::Public => true,
            Class::Private => self.private,
            Class::Never => false,
        }
    }
}

/// Whether `allowed` holds a host, and which addresses it may have then. A host that is named may
/// stand in a network of our own, as mail servers do; one that only lies below a named domain may
/// not, unless its address is listed.
pub fn allowed(allowed: &[AllowedHost], to: &Origin) -> Option<AddressRule> {
    let listed: Vec<IpNet> = allowed
        .iter()
        .filter_map(|entry| match entry {
            AllowedHost::Network(network) => Some(*network),
            _ => None,
        })
        .collect();
    let literal = to.host.parse::<IpAddr>().ok().map(plain);
    let named = allowed.iter().any(|entry| match entry {
        AllowedHost::Host { host, port, plain } => {
            *host == to.host && port.is_none_or(|port| port == to.port) && *plain != to.tls
        }
        _ => false,
    });
    let by_address = to.tls
        && literal.is_some_and(|literal| listed.iter().any(|network| network.contains(&literal)));
    let below = to.tls
        && literal.is_none()
        && allowed.iter().any(|entry| match entry {
            AllowedHost::Below(domain) => to
                .host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
            _ => false,
        });
    (named || by_address || below).then_some(AddressRule {
        private: named,
        listed,
    })
}

enum Class {
    Public,
    /// Somebody's own network.
    Private,
    /// No mail server is there.
    Never,
}

/// Addresses at which clouds tell a machine its secrets, besides the link-local ones.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// The address that is meant: an IPv4 one may be written as IPv6 in several ways.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    let parts = six.octets();
    let four = |from: usize| {
        let octets = parts.get(from..from + 4)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?))
    };
    let embedded = match six.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => four(12),
        [0x2002, ..] => four(2),
        _ => None,
    };
    embedded.map_or(address, IpAddr::V4)
}

/// Whether an address is one of the public network: not of a network of our own, and not one that no
/// server has.
pub(crate) fn is_public(address: IpAddr) -> bool {
    matches!(class(plain(address)), Class::Public)
}

fn class(address: IpAddr) -> Class {
    if METADATA.contains(&address) {
        return Class::Never;
    }
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, _] = four.octets();
            if four.is_unspecified()
                || a == 0
                || four.is_link_local()
                || four.is_multicast()
                || four.is_broadcast()
                || a >= 240
            {
                Class::Never
            } else if four.is_private()
                || four.is_loopback()
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19))
            {
                Class::Private
            } else {
                Class::Public
            }
        }
        IpAddr::V6(six) => {
            let first = six.segments().first().copied().unwrap_or(0);
            if six.is_loopback() || first & 0xfe00 == 0xfc00 {
                Class::Private
            } else if six.is_unspecified() || six.is_multicast() || first & 0xffc0 == 0xfe80 {
                Class::Never
            } else {
                Class::Public
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<AllowedHost> {
        let parse = |text: &&str| AllowedHost::parse(text).expect("an entry");
        entries.iter().map(parse).collect()
    }

    fn may(entries: &[&str], to: &str, address: &str) -> bool {
        let to = Origin::parse(to).expect("an origin");
        allowed(&list(entries), &to)
            .is_some_and(|rule| rule.allows(address.parse().expect("an address")))
    }

    #[test]
    fn a_host_must_be_listed() {
        let entries = [
            "mail2.corp.example",
            "mail3.corp.example:444",
            "*.outlook.example",
            "10.1.0.0/16",
            "http://lab",
        ];
        for (to, address, expected) in [
            ("https://mail2.corp.example", "10.9.0.1", true),
            ("https://mail2.corp.example:8443", "203.0.113.1", true),
            ("http://mail2.corp.example", "203.0.113.1", false),
            ("https://mail3.corp.example:444", "203.0.113.1", true),
            ("https://mail3.corp.example", "203.0.113.1", false),
            ("https://eu.outlook.example", "203.0.113.1", true),
            ("https://outlook.example", "203.0.113.1", false),
            ("https://evil-outlook.example", "203.0.113.1", false),
            ("https://eu.outlook.example", "10.9.0.1", false),
            ("https://eu.outlook.example", "10.1.0.1", true),
            ("https://10.1.2.3", "10.1.2.3", true),
            ("https://10.2.2.3", "10.2.2.3", false),
            ("http://10.1.2.3", "10.1.2.3", false),
            ("http://lab", "127.0.0.1", true),
            ("https://other.example", "203.0.113.1", false),
        ] {
            assert_eq!(may(&entries, to, address), expected, "{to} {address}");
        }
        assert!(!may(&[], "https://mail2.corp.example", "203.0.113.1"));
    }

    #[test]
    fn no_name_leads_where_no_mail_server_is() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(
                !may(
                    &["mail2.corp.example"],
                    "https://mail2.corp.example",
                    address
                ),
                "{address}"
            );
        }
        assert!(may(
            &["mail2.corp.example", "169.254.0.0/16"],
            "https://mail2.corp.example",
            "169.254.1.1"
        ));
        for address in ["::ffff:10.0.0.1", "fd12::1", "127.0.0.1", "::1"] {
            assert!(may(
                &["mail2.corp.example"],
                "https://mail2.corp.example",
                address
            ));
            assert!(!may(
                &["*.corp.example"],
                "https://mail2.corp.example",
                address
            ));
        }
    }
}
