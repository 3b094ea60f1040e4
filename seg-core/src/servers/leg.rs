//! One leg: the servers that ActiveSync, or EWS, is forwarded to, and which of them is asked.

use std::cell::Cell;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use http::HeaderValue;

use super::health::Watched;
use crate::config::{self, Affinity, HostHeader, Origin};
use crate::redirect::AddressRule;
use crate::upstream::{
    Alternatives, Ejection, Fitness, Servers, Sources, Standing, Target, TargetError,
    TargetSettings,
};

/// The most servers of a leg: what has been tried of them is one bit each.
pub const MOST_SERVERS: usize = 32;

/// One server of a leg.
#[derive(Debug)]
pub struct Upstream {
    /// Its address as it is configured; what logs and metrics call it.
    pub name: Arc<str>,
    /// Where it is.
    pub target: Target,
    /// What its health checks said last.
    pub(super) watched: Arc<Watched>,
    /// Tells it apart when devices are spread.
    salt: u64,
}

impl Upstream {
    /// Whether its health checks succeed. True until they have failed.
    pub fn is_healthy(&self) -> bool {
        self.standing().is_up()
    }

    /// How it stands.
    pub fn standing(&self) -> &Arc<Standing> {
        self.target.standing()
    }
}

/// The servers of one leg, and how they are spoken to.
#[derive(Debug)]
pub struct Leg {
    /// The servers, in the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// `email.server.timeout.connect.seconds`.
    pub connect_within: Duration,
    /// `email.server.timeout.response.seconds`.
    pub response_within: Duration,
    /// How health is told.
    pub health: config::Health,
    /// `email.server.login`.
    pub login: config::UpstreamLogin,
    /// `email.server.spn`.
    pub spn: String,
    /// `email.server.client.cert.header`.
    pub certificate_header: config::CertificateHeader,
    preserve_host: bool,
    affinity: Affinity,
    slow_start: Duration,
    max_connections: Option<usize>,
    sources: Arc<Sources>,
    source_addresses: Vec<IpAddr>,
    tls: Arc<rustls::ClientConfig>,
    hasher: RandomState,
}

/// The server of a request, and what it was chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    place: u32,
    hash: u64,
}

impl Leg {
    /// A leg out of the configuration; `tls` serves its `https` servers. Servers that `before` had
    /// keep how they stand, and, with `same_tls`, their connections.
    ///
    /// # Errors
    /// A host that is neither a name nor an address.
    pub fn new(
        config: &config::Leg,
        tls: &Arc<rustls::ClientConfig>,
        before: Option<&Self>,
        same_tls: bool,
    ) -> Result<Self, TargetError> {
        // Fixed seeds: a device keeps its server over restarts and on every core.
        let hasher = RandomState::with_seeds(0x5e67, 0x6d61, 0x696c, 0x6777);
        let ejection = Ejection {
            after: config.ejection_failures,
            first: config.ejection_first,
        };
        let same_sources =
            before.filter(|before| before.source_addresses == config.source_addresses);
        let sources = match same_sources {
            Some(before) => Arc::clone(&before.sources),
            None => Arc::new(Sources::new(config.source_addresses.clone())),
        };
        let lends = before.filter(|before| {
            same_tls && before.max_connections == config.max_connections && same_sources.is_some()
        });
        let upstreams = config
            .upstreams
            .iter()
            .map(|origin| {
                let name: Arc<str> = origin.to_string().into();
                let named = |leg: &Self| {
                    let mut all = leg.upstreams.iter();
                    all.find(|upstream| upstream.name == name).map(Arc::clone)
                };
                let known = before.and_then(named);
                if let Some(known) = &known {
                    known.standing().set_ejection(ejection);
                }
                if let Some(kept) = lends.and_then(named) {
                    return Ok(kept);
                }
                let (standing, watched) = match known {
                    Some(known) => (Arc::clone(known.standing()), Arc::clone(&known.watched)),
                    None => (Arc::new(Standing::new(ejection)), Arc::default()),
                };
                let settings = TargetSettings {
                    tls: origin.tls.then(|| Arc::clone(tls)),
                    sources: Arc::clone(&sources),
                    max_connections: config.max_connections,
                    standing,
                    allowed: None,
                    via: None,
                };
                Ok(Arc::new(Upstream {
                    target: Target::new(&origin.host, origin.port, settings)?,
                    salt: hasher.hash_one(HashedKey(&name)),
                    name,
                    watched,
                }))
            })
            .collect::<Result<_, TargetError>>()?;
        Ok(Self {
            upstreams,
            connect_within: config.connect_timeout,
            response_within: config.response_timeout,
            health: config.health.clone(),
            login: config.login,
            spn: config.spn.clone(),
            certificate_header: config.certificate_header,
            preserve_host: config.host_header == HostHeader::Preserve,
            affinity: config.affinity,
            slow_start: config.slow_start,
            max_connections: config.max_connections,
            sources,
            source_addresses: config.source_addresses.clone(),
            tls: Arc::clone(tls),
            hasher,
        })
    }

    /// The leg with one of its own servers alone, by its name.
    pub fn only(&self, name: &str) -> Option<Self> {
        let mut all = self.upstreams.iter();
        let only = all.find(|upstream| &*upstream.name == name)?;
        Some(self.with(Arc::clone(only)))
    }

    /// The leg with another server in the place of its own, at addresses that the rule allows.
    ///
    /// # Errors
    /// A host that is neither a name nor an address.
    pub fn moved(&self, to: &Origin, rule: AddressRule) -> Result<Self, TargetError> {
        let name: Arc<str> = to.to_string().into();
        let settings = TargetSettings {
            tls: to.tls.then(|| Arc::clone(&self.tls)),
            sources: Arc::clone(&self.sources),
            max_connections: self.max_connections,
            standing: Arc::new(Standing::new(Ejection::NEVER)),
            allowed: Some(Arc::new(move |address| rule.allows(address))),
            via: None,
        };
        Ok(self.with(Arc::new(Upstream {
            target: Target::new(&to.host, to.port, settings)?,
            salt: 0,
            name,
            watched: Arc::default(),
        })))
    }

    fn with(&self, only: Arc<Upstream>) -> Self {
        Self {
            upstreams: vec![only],
            health: self.health.clone(),
            spn: self.spn.clone(),
            sources: Arc::clone(&self.sources),
            source_addresses: self.source_addresses.clone(),
            tls: Arc::clone(&self.tls),
            hasher: self.hasher.clone(),
            ..*self
        }
    }

    /// The server for a request: the device's own while that one is fit, else the fittest; with
    /// `email.server.affinity=none`, and where there is neither device nor user, the one that has
    /// least to do. The last one is asked whatever is known of it.
    pub fn choose(&self, device: Option<&str>, user: &str) -> Option<Choice> {
        if self.upstreams.len() <= 1 {
            let only = Choice { place: 0, hash: 0 };
            return self.upstreams.first().map(|_| only);
        }
        let key = device.unwrap_or(user);
        let hash = match self.affinity {
            Affinity::Device if !key.is_empty() => self.hasher.hash_one(HashedKey(key)) | 1,
            // Zero stands for nobody in particular.
            Affinity::Device | Affinity::None => 0,
        };
        self.fittest(hash, 0).map(|place| Choice { place, hash })
    }

    /// The server of a choice.
    pub fn upstream(&self, choice: Choice) -> Option<&Arc<Upstream>> {
        self.at(choice.place)
    }

    /// The server at a place.
    pub fn at(&self, place: u32) -> Option<&Arc<Upstream>> {
        self.upstreams.get(usize::try_from(place).ok()?)
    }

    /// The servers to which a request goes on when the chosen one fails; `None` where there is no
    /// other. `poll`: it waits for long, and is not given away when it has waited in vain.
    pub fn alternatives(self: &Arc<Self>, choice: Choice, poll: bool) -> Option<Alternatives> {
        (self.upstreams.len() > 1).then(|| Alternatives {
            among: Arc::clone(self) as Arc<dyn Servers>,
            hash: choice.hash,
            tried: 1_u32.checked_shl(choice.place).unwrap_or(0),
            after_timeout: !poll,
        })
    }

    /// What `Host` says upstream; `None`: the server's own name.
    pub fn host_header(&self, client: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.preserve_host {
            client.cloned()
        } else {
            None
        }
    }

    /// The best server that is not in `tried`. Ranks first by fitness; among equals, the device
    /// goes to the server with the highest weight for it (rendezvous hashing: a server that comes
    /// or goes moves its own devices and no others), anybody else to the one with least to do.
    fn fittest(&self, hash: u64, tried: u32) -> Option<u32> {
        // Nearly always the device's own server is well, and nobody need be looked at beside it.
        if hash != 0 && tried == 0 {
            let weighed = self.upstreams.iter().zip(0..);
            let own = weighed.max_by_key(|(upstream, _)| weight(upstream, hash));
            if let Some((upstream, place)) = own
                && self.rank(upstream, hash) == (Class::Good, weight(upstream, hash))
            {
                return Some(place);
            }
        }
        // Whoever is compared last wins a draw: begin elsewhere each time.
        let turn = if hash == 0 { next_turn() } else { 0 };
        let count = self.upstreams.len();
        let mut best: Option<(Rank, usize)> = None;
        for step in 0..count {
            let place = (step + turn) % count;
            let Some(upstream) = self.upstreams.get(place) else {
                continue;
            };
            if tried & (1_u32.checked_shl(u32::try_from(place).ok()?)?) != 0 {
                continue;
            }
            let rank = self.rank(upstream, hash);
            if best.is_none_or(|(before, _)| rank >= before) {
                best = Some((rank, place));
            }
        }
        best.and_then(|(_, place)| u32::try_from(place).ok())
    }

    fn rank(&self, upstream: &Upstream, hash: u64) -> Rank {
        let standing = upstream.standing();
        let weight = weight(upstream, hash);
        let idle = |share: u32| {
            let load = (standing.in_flight() as u64).saturating_add(1);
            u64::MAX - load.saturating_mul(1000) / u64::from(share.max(1))
        };
        let full = || {
            self.max_connections
                .is_some_and(|most| standing.in_flight() >= most)
        };
        match standing.fitness(self.slow_start) {
            Fitness::Good if full() => (Class::Full, idle(1000)),
            Fitness::Good if hash == 0 => (Class::Good, idle(1000)),
            Fitness::Good => (Class::Good, weight),
            Fitness::Warming(share) if hash == 0 => (Class::Good, idle(share)),
            // Its devices come back one after the other, and stay when they have come.
            Fitness::Warming(share) if mix(weight) % 1000 < u64::from(share) => {
                (Class::Good, weight)
            }
            Fitness::Warming(_) => (Class::Warming, weight),
            Fitness::Ejected => (Class::Ejected, weight),
            Fitness::Down => (Class::Down, weight),
        }
    }
}

/// How good a choice a server is: first by its class, then within it.
type Rank = (Class, u64);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Class {
    Down,
    Ejected,
    Full,
    Warming,
    Good,
}

impl Servers for Leg {
    fn another(&self, hash: u64, tried: u32) -> Option<(u32, Target)> {
        let place = self.fittest(hash, tried)?;
        Some((place, self.at(place)?.target.clone()))
    }
}

/// How much a device, by its hash, belongs to a server.
fn weight(upstream: &Upstream, hash: u64) -> u64 {
    mix(hash ^ upstream.salt)
}

/// Spreads the bits of a number over all of it (the finaliser of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

fn next_turn() -> usize {
    thread_local!(static NEXT: Cell<usize> = const { Cell::new(0) });
    NEXT.with(|next| next.replace(next.get().wrapping_add(1)))
}

struct HashedKey<'k>(&'k str);

impl Hash for HashedKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn leg(names: &[&str], extra: &str) -> Arc<Leg> {
        let servers = names.join(",");
        let text = format!("email.server.host.and.port={servers}\n{extra}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let loaded = config::load(Some(file.path()), std::iter::empty()).expect("a configuration");
        let tls = crate::tls::client_config(&loaded.config.eas.tls).expect("TLS");
        let leg = Leg::new(&loaded.config.eas, &tls.config, None, true).expect("a leg");
        Arc::new(leg)
    }

    fn homes(leg: &Leg, tried: u32) -> Vec<u32> {
        (0..1000)
            .map(|n| {
                let choice = leg.choose(Some(&format!("DEVICE{n}")), "").expect("one");
                leg.fittest(choice.hash, tried).expect("one")
            })
            .collect()
    }

    const THREE: &[&str] = &["http://a:80", "http://b:80", "http://c:80"];
    const AT_ONCE: &str = "email.server.slow.start.seconds=0\n";

    #[test]
    fn devices_are_spread_and_stay() {
        let leg = leg(THREE, AT_ONCE);
        let before = homes(&leg, 0);
        assert_eq!(before, homes(&leg, 0));
        let mut counts = BTreeMap::new();
        for home in &before {
            *counts.entry(*home).or_insert(0) += 1;
        }
        assert!(
            counts.values().all(|n| (250..420).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_server_that_goes_moves_its_own_devices_only_and_gets_them_back() {
        let leg = leg(THREE, AT_ONCE);
        let before = homes(&leg, 0);
        let gone = leg.at(1).expect("b").standing();
        gone.set_up(false);
        let without = homes(&leg, 0);
        let moved = before.iter().zip(&without).filter(|(was, is)| was != is);
        assert!(moved.clone().all(|(was, is)| *was == 1 && *is != 1));
        assert!(moved.count() > 250);
        gone.set_up(true);
        assert_eq!(homes(&leg, 0), before);
    }

    #[test]
    fn a_leg_with_one_server_more_moves_only_those_that_go_there() {
        let before = homes(&leg(THREE, AT_ONCE), 0);
        let after = homes(&leg(&[THREE, &["http://d:80"]].concat(), AT_ONCE), 0);
        let mut changed = before.iter().zip(&after).filter(|(was, is)| was != is);
        assert!(changed.all(|(_, is)| *is == 3));
    }

    #[test]
    fn the_last_server_is_asked_whatever_is_known_of_it() {
        let leg = leg(THREE, "email.server.ejection.failures=1\n");
        for place in 0..3 {
            leg.at(place).expect("a server").standing().set_up(false);
        }
        assert!(leg.choose(Some("DEVICE"), "").is_some());
        assert_eq!(leg.fittest(7, 0b011), Some(2));
        assert_eq!(leg.fittest(7, 0b111), None);
    }

    #[test]
    fn devices_come_back_little_by_little() {
        let leg = leg(THREE, "email.server.slow.start.seconds=3600\n");
        let before = homes(&leg, 0);
        let server = leg.at(0).expect("a").standing();
        server.set_up(false);
        server.set_up(true);
        let home = before.iter().filter(|home| **home == 0).count();
        let back = homes(&leg, 0).iter().filter(|home| **home == 0).count();
        assert!(back < home / 10, "{back} of {home}");
        leg.at(1).expect("b").standing().set_up(false);
        leg.at(2).expect("c").standing().set_up(false);
        assert!(homes(&leg, 0).iter().all(|home| *home == 0), "the only one");
    }

    #[test]
    fn without_affinity_the_least_busy_is_asked() {
        let leg = leg(THREE, "email.server.affinity=none\n");
        let busy = |place: u32, requests: usize| {
            for _ in 0..requests {
                // Counted as the client counts them, and never ended.
                std::mem::forget(leg.at(place).expect("a server").target.in_use());
            }
        };
        busy(0, 3);
        busy(1, 2);
        for _ in 0..10 {
            let choice = leg.choose(Some("DEVICE"), "").expect("one");
            assert_eq!(choice.place, 2);
        }
        busy(2, 5);
        assert_eq!(leg.choose(Some("DEVICE"), "").expect("one").place, 1);
    }

    #[test]
    fn equals_take_turns() {
        let leg = leg(THREE, "email.server.affinity=none\n");
        let mut seen: Vec<u32> = (0..9)
            .filter_map(|_| leg.choose(None, "").map(|choice| choice.place))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }
}
