//! Addresses of a server name, cached, so that no request waits for DNS that need not.
//!
//! An answer is believed for as long as its records say ([`super::names`]), and looked up anew at once
//! where no address takes a connection. While nobody answers, the last known addresses hold: a name
//! server that is down stops no mail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::names::Names;

/// How long is waited for an answer while addresses are known from before …
const PATIENCE: Duration = Duration::from_secs(2);
/// … and how long these are believed then, before somebody asks again.
pub(super) const UNANSWERED: Duration = Duration::from_secs(10);

/// The addresses of one host and port.
pub(super) struct Addresses {
    origin: Origin,
    cached: ArcSwapOption<Cached>,
    /// One lookup at a time: a storm of connections must not become a storm of lookups.
    looking_up: tokio::sync::Mutex<()>,
    /// Where the next connection begins: the address that worked last.
    preferred: AtomicUsize,
    /// How often a lookup has said something else than the one before.
    changes: AtomicU32,
}

enum Origin {
    /// An address in the configuration; nothing to look up.
    Fixed(Arc<[SocketAddr]>),
    Lookup {
        host: Box<str>,
        port: u16,
        names: Names,
    },
    #[cfg(test)]
    Scripted(Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>),
}

struct Cached {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

impl Addresses {
    pub(super) fn fixed(addresses: &[SocketAddr]) -> Self {
        Self::new(Origin::Fixed(addresses.into()))
    }

    pub(super) fn lookup(host: &str, port: u16) -> Self {
        Self::new(Origin::Lookup {
            host: host.into(),
            port,
            names: Names::System,
        })
    }

    /// As another name server says.
    #[cfg(test)]
    pub(super) fn lookup_at(server: SocketAddr, host: &str, port: u16) -> Self {
        Self::new(Origin::Lookup {
            host: host.into(),
            port,
            names: Names::Server(server),
        })
    }

    #[cfg(test)]
    pub(super) fn scripted(
        answers: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Origin::Scripted(Box::new(answers)))
    }

    fn new(origin: Origin) -> Self {
        Self {
            origin,
            cached: ArcSwapOption::empty(),
            looking_up: tokio::sync::Mutex::new(()),
            preferred: AtomicUsize::new(0),
            changes: AtomicU32::new(0),
        }
    }

    /// The addresses: from the cache while it is fresh, else looked up; a failing lookup falls
    /// back to the stale ones.
    pub(super) async fn current(&self) -> io::Result<Arc<[SocketAddr]>> {
        if let Origin::Fixed(addresses) = &self.origin {
            return Ok(addresses.clone());
        }
        match self.fresh() {
            Some(addresses) => Ok(addresses),
            None => self.refresh().await,
        }
    }

    /// What is known without asking.
    pub(super) fn known(&self) -> Vec<SocketAddr> {
        match &self.origin {
            Origin::Fixed(addresses) => addresses.to_vec(),
            _ => {
                let cached = self.cached.load();
                cached
                    .as_ref()
                    .map(|cached| cached.addresses.to_vec())
                    .unwrap_or_default()
            }
        }
    }

    /// How often the addresses have changed. Costs one load.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether this address is one that the name has now, as far as it is known.
    pub(super) fn stands(&self, address: SocketAddr) -> bool {
        let known = self.known();
        known.is_empty() || known.contains(&address)
    }

    /// Looks up anew unless somebody just did: called when every address has failed. Gives
    /// `None` where that brings nothing new.
    pub(super) async fn after_failure(
        &self,
        failed: &Arc<[SocketAddr]>,
    ) -> Option<Arc<[SocketAddr]>> {
        if matches!(self.origin, Origin::Fixed(_)) {
            return None;
        }
        if self
            .cached
            .load()
            .as_ref()
            .is_some_and(|cached| Arc::ptr_eq(&cached.addresses, failed))
        {
            // They are asked about anew, and known all the same.
            self.cached.store(Some(Arc::new(Cached {
                addresses: failed.clone(),
                until: Instant::now(),
            })));
        }
        let anew = self.current().await.ok()?;
        (anew != *failed).then_some(anew)
    }

    /// Where to begin among `count` addresses.
    pub(super) fn start(&self, count: usize) -> usize {
        self.preferred
            .load(Ordering::Relaxed)
            .checked_rem(count)
            .unwrap_or(0)
    }

    /// The address at `index` accepted a connection.
    pub(super) fn worked(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    fn fresh(&self) -> Option<Arc<[SocketAddr]>> {
        let cached = self.cached.load();
        let cached = cached.as_ref()?;
        (Instant::now() < cached.until).then(|| cached.addresses.clone())
    }

    async fn refresh(&self) -> io::Result<Arc<[SocketAddr]>> {
        let stale = self.cached.load_full();
        let _one_at_a_time = self.looking_up.lock().await;
        if let Some(addresses) = self.fresh() {
            return Ok(addresses);
        }
        let found = match &stale {
            None => self.resolve().await,
            Some(_) => tokio::time::timeout(PATIENCE, self.resolve())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        let (addresses, holds) = match (found, stale) {
            (Ok((found, holds)), stale) => {
                let found: Arc<[SocketAddr]> = found.into();
                if stale.is_none_or(|stale| stale.addresses != found) {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                }
                (found, holds)
            }
            (Err(_), Some(stale)) => (stale.addresses.clone(), UNANSWERED),
            (Err(error), None) => return Err(error),
        };
        self.cached.store(Some(Arc::new(Cached {
            addresses: addresses.clone(),
            until: Instant::now() + holds,
        })));
        Ok(addresses)
    }

    /// The addresses, and how long they hold.
    async fn resolve(&self) -> io::Result<(Vec<SocketAddr>, Duration)> {
        let (found, holds) = match &self.origin {
            Origin::Fixed(addresses) => (addresses.to_vec(), Duration::MAX),
            Origin::Lookup { host, port, names } => {
                let found = Box::pin(names.look_up(host)).await?;
                let addresses = found.addresses.into_iter();
                let addresses = addresses.map(|address| SocketAddr::new(address, *port));
                (addresses.collect(), found.holds)
            }
            #[cfg(test)]
            Origin::Scripted(answers) => (answers()?, tests::TTL),
        };
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok((found, holds))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicU16;

    use super::*;

    /// How long scripted answers hold.
    pub(in crate::upstream) const TTL: Duration = Duration::from_secs(30);

    fn counting() -> (Arc<AtomicU16>, Addresses) {
        let lookups = Arc::new(AtomicU16::new(0));
        let seen = lookups.clone();
        let addresses = Addresses::scripted(move || match seen.fetch_add(1, Ordering::Relaxed) {
            3 => Err(io::Error::other("resolver down")),
            n => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1000 + n))]),
        });
        (lookups, addresses)
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_cached_for_the_ttl_and_kept_when_the_resolver_fails() {
        let (lookups, addresses) = counting();
        let first = addresses.current().await.unwrap();
        tokio::time::advance(TTL - Duration::from_millis(1)).await;
        assert_eq!(addresses.current().await.unwrap(), first);
        assert_eq!(lookups.load(Ordering::Relaxed), 1);

        tokio::time::advance(Duration::from_millis(1)).await;
        let second = addresses.current().await.unwrap();
        assert_ne!(second, first);

        let third = addresses.after_failure(&second).await.unwrap();
        assert_ne!(third, second);
        assert_eq!(lookups.load(Ordering::Relaxed), 3);

        tokio::time::advance(TTL).await;
        assert_eq!(
            addresses.current().await.unwrap(),
            third,
            "stale is better than none"
        );
        assert_eq!(lookups.load(Ordering::Relaxed), 4);
        // Nobody asks again for a while.
        tokio::time::advance(UNANSWERED - Duration::from_millis(1)).await;
        assert_eq!(addresses.current().await.unwrap(), third);
        assert_eq!(lookups.load(Ordering::Relaxed), 4);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_ne!(addresses.current().await.unwrap(), third);
    }

    /// An address and its TTL; nothing: it is down.
    type Said = Option<([u8; 4], u32)>;

    /// A name server that answers every question for an IPv4 address with `answer`.
    async fn name_server(answer: Arc<parking_lot::Mutex<Said>>) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let Some((ip, ttl)) = *answer.lock() else {
                    continue;
                };
                // RFC 1035 section 4.1: a head of 12 bytes, then the name, its type and class.
                let name = question[12..length]
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap();
                let asked = &question[12..12 + name + 5];
                let is_a = asked[name + 1..name + 3] == [0, 1];
                let mut said = question[..2].to_vec();
                said.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                said.extend(asked);
                if is_a {
                    said.extend([0xC0, 12, 0, 1, 0, 1]);
                    said.extend(ttl.to_be_bytes());
                    said.extend([0, 4]);
                    said.extend(ip);
                }
                socket.send_to(&said, from).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_record_that_changes_is_followed_when_its_time_is_over() {
        let answer = Arc::new(parking_lot::Mutex::new(Some(([127, 0, 0, 1], 1))));
        let server = name_server(Arc::clone(&answer)).await;
        let addresses = Addresses::lookup_at(server, "mail.corp.example", 443);
        let first = addresses.current().await.unwrap();
        assert_eq!(*first, [SocketAddr::from(([127, 0, 0, 1], 443))]);
        assert_eq!(addresses.changes(), 1);

        // It holds for a second, and then no longer.
        *answer.lock() = Some(([127, 0, 0, 2], 3_600));
        let moved = [SocketAddr::from(([127, 0, 0, 2], 443))];
        let until = Instant::now() + Duration::from_secs(60);
        while *addresses.current().await.unwrap() != moved {
            assert!(Instant::now() < until, "it is not followed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(addresses.changes(), 2);

        // An hour holds, whatever the server says by now; and a server that is down changes nothing.
        *answer.lock() = Some(([127, 0, 0, 3], 1));
        assert_eq!(*addresses.current().await.unwrap(), moved);
        *answer.lock() = None;
        let known = addresses.current().await.unwrap();
        let again = addresses.after_failure(&known).await;
        assert!(again.is_none(), "{again:?}");
        assert_eq!(*addresses.current().await.unwrap(), moved);
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_cause_one_lookup() {
        let (lookups, addresses) = counting();
        let (a, b, c) = tokio::join!(
            addresses.current(),
            addresses.current(),
            addresses.current()
        );
        assert_eq!(a.unwrap(), b.unwrap());
        assert!(c.is_ok());
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_fixed_address_is_never_looked_up_anew() {
        let addresses = Addresses::fixed(&[SocketAddr::from(([127, 0, 0, 1], 1))]);
        let current = addresses.current().await.unwrap();
        assert_eq!(current.len(), 1);
        assert!(addresses.after_failure(&current).await.is_none());
    }
}
