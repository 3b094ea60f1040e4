//! Where a redirect may lead.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value::{self, Origin};

/// One entry of `redirect.allowed.hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// A host, at every port or at one.
    Host {
        /// Name or address.
        host: String,
        /// Where only one port is meant.
        port: Option<u16>,
        /// Plain HTTP is meant.
        plain: bool,
    },
    /// Every host below a domain, at public addresses only.
    Below(String),
    /// Every host at an address of this network, by its address; and by name, an address that
    /// would be refused otherwise.
    Network(IpNet),
}

impl AllowedHost {
    /// Reads one entry.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(domain) = text.strip_prefix("*.") {
            return value::host_name(domain).map(Self::Below);
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let has_port = text
            .rsplit_once(':')
            .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && !before.ends_with(':'));
        let origin = Origin::parse(text)?;
        Ok(Self::Host {
            port: has_port.then_some(origin.port),
            plain: !origin.tls,
            host: origin.host,
        })
    }
}
