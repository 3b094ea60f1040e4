//! Addresses of a server name, cached, so that no request waits for DNS that need not.
//!
//! The system's resolver is asked: it knows what the machine's administrator has set up (the hosts
//! file, search lists, a cache of its own that keeps to each record's TTL), but does not tell the
//! TTL. So what it said is believed for [`TTL`], which is short beside the time that a move of a mail
//! server takes, and looked up anew at once where no address takes a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// How long looked-up addresses are believed.
pub(super) const TTL: Duration = Duration::from_secs(30);

/// Addresses kept of one name; a name with more is served by the first ones.
const MAX_ADDRESSES: usize = 16;

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
    },
    #[cfg(test)]
    Scripted(Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>),
}

struct Cached {
    addresses: Arc<[SocketAddr]>,
    since: Instant,
}

impl Addresses {
    pub(super) fn fixed(addresses: &[SocketAddr]) -> Self {
        Self::new(Origin::Fixed(addresses.into()))
    }

    pub(super) fn lookup(host: &str, port: u16) -> Self {
        Self::new(Origin::Lookup {
            host: host.into(),
            port,
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
            self.cached.store(None);
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
        (cached.since.elapsed() < TTL).then(|| cached.addresses.clone())
    }

    async fn refresh(&self) -> io::Result<Arc<[SocketAddr]>> {
        let stale = self.cached.load_full();
        let _one_at_a_time = self.looking_up.lock().await;
        if let Some(addresses) = self.fresh() {
            return Ok(addresses);
        }
        match self.resolve().await {
            Ok(addresses) => {
                let addresses: Arc<[SocketAddr]> = addresses.into();
                if stale.is_none_or(|stale| stale.addresses != addresses) {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                }
                let cached = Cached {
                    addresses: addresses.clone(),
                    since: Instant::now(),
                };
                self.cached.store(Some(Arc::new(cached)));
                Ok(addresses)
            }
            Err(error) => match stale {
                Some(stale) => Ok(stale.addresses.clone()),
                None => Err(error),
            },
        }
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match &self.origin {
            Origin::Fixed(addresses) => addresses.to_vec(),
            Origin::Lookup { host, port } => tokio::net::lookup_host((&**host, *port))
                .await?
                .take(MAX_ADDRESSES)
                .collect(),
            #[cfg(test)]
            Origin::Scripted(answers) => answers()?,
        };
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU16;

    use super::*;

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
