//! Names of servers: their addresses, and how long these hold.
//!
//! The hosts file comes first, then the name servers of the machine with its search list; both are
//! read anew for each lookup, so that what an administrator changes there counts at once. A record
//! says itself how long it holds. A name that neither knows may be known to another service of the
//! machine (nsswitch.conf), so the system's resolver is asked last, which says no time.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver, system_conf};

/// Addresses kept of one name; a name with more is served by the first ones.
const ADDRESSES_MAX: usize = 16;
/// An answer holds no shorter than this, be its records' TTL 0, …
const HOLDS_MIN: Duration = Duration::from_secs(1);
/// … and no longer than this: nobody who has moved a server waits for a day.
const HOLDS_MAX: Duration = Duration::from_secs(300);
/// How long an answer holds that says nothing of it.
const HOLDS_UNSAID: Duration = Duration::from_secs(30);

/// The addresses of a name.
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// How long they hold.
    pub(super) holds: Duration,
}

/// Who is asked.
pub(super) enum Names {
    /// The machine's own name servers.
    System,
    #[cfg(test)]
    Server(SocketAddr),
}

impl Names {
    /// The addresses of `host`.
    pub(super) async fn look_up(&self, host: &str) -> io::Result<Found> {
        // What is no name of the DNS (an underscore too many) may be one of the machine's.
        let Ok(name) = Name::from_str(host) else {
            return by_system(host).await;
        };
        let listed = name.clone();
        // Small files, but files.
        let hosts = tokio::task::spawn_blocking(move || in_hosts(&listed)).await;
        let hosts = hosts.unwrap_or_default();
        if !hosts.is_empty() {
            return Ok(found(hosts, HOLDS_UNSAID));
        }
        match self.ask(name).await {
            Ok(found) => Ok(found),
            // Somebody else may know.
            Err(error) if error.is_no_records_found() => by_system(host).await,
            // Nobody to ask.
            Err(NetError::Io(_) | NetError::NoConnections) => by_system(host).await,
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn ask(&self, name: Name) -> Result<Found, NetError> {
        let (config, mut options) = self.configuration().await?;
        options.use_hosts_file = ResolveHosts::Never;
        // Whoever asks keeps the answer.
        options.cache_size = 0;
        let provider = TokioRuntimeProvider::default();
        let resolver = Resolver::builder_with_config(config, provider)
            .with_options(options)
            .build()?;
        let answer = resolver.lookup_ip(name).await?;
        let now = std::time::Instant::now();
        let holds = answer.valid_until().saturating_duration_since(now);
        Ok(found(answer.iter().collect(), holds))
    }

    async fn configuration(&self) -> Result<(ResolverConfig, ResolverOpts), NetError> {
        match self {
            Self::System => tokio::task::spawn_blocking(system_conf::read_system_conf)
                .await
                .unwrap_or_else(|error| Err(NetError::from(io::Error::other(error)))),
            #[cfg(test)]
            Self::Server(address) => {
                use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
                let mut connection = ConnectionConfig::udp();
                connection.port = address.port();
                let server = NameServerConfig::new(address.ip(), true, vec![connection]);
                let config = ResolverConfig::from_name_servers(vec![server]);
                Ok((config, ResolverOpts::default()))
            }
        }
    }
}

/// What the hosts file says.
fn in_hosts(name: &Name) -> Vec<IpAddr> {
    let Ok(hosts) = Hosts::from_system() else {
        return Vec::new();
    };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
    let records = found.flat_map(|lookup| lookup.answers().to_vec());
    records.filter_map(|record| record.data.ip_addr()).collect()
}

async fn by_system(host: &str) -> io::Result<Found> {
    let addresses = tokio::net::lookup_host((host, 0)).await?;
    let addresses = addresses.map(|address| address.ip()).collect();
    Ok(found(addresses, HOLDS_UNSAID))
}

/// In the order in which they are tried: those to which a way leads first (RFC 6724 section 6, rule 1),
/// of these IPv6 first.
fn found(mut addresses: Vec<IpAddr>, holds: Duration) -> Found {
    addresses.sort_by_cached_key(|address| (!has_way(*address), address.is_ipv4()));
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    Found {
        addresses,
        holds: holds.clamp(HOLDS_MIN, HOLDS_MAX),
    }
}

/// Whether the machine has a way to an address: nothing is sent to find out.
fn has_way(address: IpAddr) -> bool {
    let own = match address {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    UdpSocket::bind(own).is_ok_and(|socket| socket.connect(SocketAddr::new(address, 443)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_comes_first() {
        // Nobody listens there: an answer is the file's.
        let names = Names::Server(SocketAddr::from(([127, 0, 0, 1], 1)));
        let found = names.look_up("localhost").await.unwrap();
        assert!(found.addresses.iter().all(IpAddr::is_loopback));
        assert!(!found.addresses.is_empty());
        assert_eq!(found.holds, HOLDS_UNSAID);
    }

    #[test]
    fn answers_hold_for_a_second_at_least_and_five_minutes_at_most() {
        let one = vec![IpAddr::from([127, 0, 0, 1])];
        for (ttl, holds) in [(0, 1), (60, 60), (86_400, 300)] {
            let found = found(one.clone(), Duration::from_secs(ttl));
            assert_eq!(found.holds.as_secs(), holds);
        }
    }

    #[test]
    fn many_addresses_are_cut_and_none_stands_twice() {
        let many = (0..40).map(|last| IpAddr::from([127, 0, 0, last / 2]));
        let found = found(many.collect(), HOLDS_MIN);
        assert_eq!(found.addresses.len(), ADDRESSES_MAX);
        assert_ne!(found.addresses[0], found.addresses[1]);
    }
}
