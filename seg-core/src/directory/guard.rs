//! What keeps the directory from being asked: passwords that were right or wrong lately, and the
//! soft lockout of people and networks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seg_compliance::UserKey;

use super::{Account, Verdict};
use crate::config;
use crate::decide::Generations;
use crate::identify::CredentialDigest;

/// People and networks that are remembered at least.
const KEPT: usize = 100_000;
/// Wrong passwords of one person that are remembered.
const WRONG_KEPT: usize = 16;
/// How long failures of a network count.
const NETWORK_WINDOW: Duration = Duration::from_secs(600);

/// The key of an account under whatever name it came. No person's: those hold no backslash.
pub(super) fn account_key(name: &str) -> Option<UserKey> {
    let name: String = name.chars().filter(|c| !c.is_whitespace()).collect();
    UserKey::new(&format!("account\\{name}")).ok()
}

/// A password that was right, and whose it is.
#[derive(Clone, Debug)]
pub struct Allowed {
    digest: CredentialDigest,
    account: Arc<Account>,
    until: Instant,
}

#[derive(Clone, Debug, Default)]
struct Person {
    good: Option<Allowed>,
    /// Digests that were refused, why, and when.
    wrong: Vec<(CredentialDigest, &'static str, Instant)>,
}

/// What is remembered of attempts.
#[derive(Debug)]
pub struct Guard {
    people: Generations<UserKey, Person>,
    networks: Generations<IpAddr, (usize, Instant)>,
    cache: Duration,
    lockout: Duration,
    failures: usize,
    network_failures: usize,
}

impl Guard {
    /// Remembers nothing yet.
    pub fn new(config: &config::Directory) -> Self {
        Self {
            people: Generations::new(KEPT),
            networks: Generations::new(KEPT),
            cache: config.cache,
            lockout: config.lockout,
            failures: config.lockout_failures,
            network_failures: config.network_failures,
        }
    }

    /// What is known without asking the directory.
    pub fn recall(
        &self,
        user: &UserKey,
        digest: &CredentialDigest,
        peer: IpAddr,
    ) -> Option<Verdict> {
        let now = Instant::now();
        let person = self.people.recall(user).unwrap_or_default();
        let good = person.good.as_ref().filter(|good| good.digest == *digest);
        if let Some(good) = good.filter(|good| good.until > now) {
            return Some(Verdict::Good(Arc::clone(&good.account)));
        }
        // The password that was right last may be asked about again at any time: to lock its owner
        // out is what a sprayer wants.
        if good.is_some() {
            return None;
        }
        let recent = |at: &Instant| now.duration_since(*at) < self.lockout;
        let mut wrong = person.wrong.iter().filter(|(_, _, at)| recent(at));
        if let Some((_, reason, _)) = wrong.clone().find(|(known, _, _)| known == digest) {
            return Some(Verdict::Refused(reason));
        }
        if self.failures > 0 && wrong.by_ref().count() >= self.failures {
            return Some(Verdict::Refused("lockout_user"));
        }
        let network = self.networks.recall(&network(peer));
        let (count, since) = network.unwrap_or((0, now));
        let over = self.network_failures > 0 && count >= self.network_failures;
        if over && now.duration_since(since) < NETWORK_WINDOW {
            return Some(Verdict::Refused("lockout_network"));
        }
        None
    }

    /// The directory has spoken.
    pub fn learn(&self, user: &UserKey, digest: CredentialDigest, peer: IpAddr, verdict: &Verdict) {
        let now = Instant::now();
        if matches!(verdict, Verdict::Unavailable(_)) {
            return;
        }
        if matches!(verdict, Verdict::Refused(_)) {
            let network = network(peer);
            let (count, since) = self.networks.recall(&network).unwrap_or((0, now));
            let counted = if now.duration_since(since) < NETWORK_WINDOW {
                (count + 1, since)
            } else {
                (1, now)
            };
            self.networks.insert(network, counted);
        }
        let mut person = self.people.recall(user).unwrap_or_default();
        self.note(&mut person, digest, verdict, now);
        self.people.insert(user.clone(), person);
    }

    /// The directory has spoken of an account: as [`learn`](Self::learn), but its network is counted
    /// under the name that was typed.
    pub fn learn_of_account(&self, account: &UserKey, digest: CredentialDigest, verdict: &Verdict) {
        let now = Instant::now();
        let mut person = self.people.recall(account).unwrap_or_default();
        self.note(&mut person, digest, verdict, now);
        self.people.insert(account.clone(), person);
    }

    fn note(&self, person: &mut Person, digest: CredentialDigest, verdict: &Verdict, now: Instant) {
        match verdict {
            Verdict::Good(account) => {
                // One password is right at a time: the one before it is forgotten with this.
                person.good = Some(Allowed {
                    digest,
                    account: Arc::clone(account),
                    until: now + self.cache,
                });
                person.wrong.clear();
            }
            Verdict::Refused(reason) => {
                if person
                    .good
                    .as_ref()
                    .is_some_and(|good| good.digest == digest)
                {
                    person.good = None;
                }
                person
                    .wrong
                    .retain(|(_, _, at)| now.duration_since(*at) < self.lockout);
                if person.wrong.len() >= WRONG_KEPT {
                    person.wrong.remove(0);
                }
                person.wrong.push((digest, *reason, now));
            }
            Verdict::Unavailable(_) => {}
        }
    }

    /// A right password is not believed any more.
    pub fn forget(&self, user: &UserKey) {
        if let Some(mut person) = self.people.recall(user)
            && person.good.take().is_some()
        {
            self.people.insert(user.clone(), person);
        }
    }
}

/// /24 and /64: what one attacker has for himself.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn guard() -> Guard {
        Guard::new(&config::Directory {
            urls: Vec::new(),
            ca: None,
            base: String::new(),
            bind_user: String::new(),
            bind_password: Secret::default(),
            permitted: Vec::new(),
            denied: Vec::new(),
            cache: Duration::from_secs(60),
            lockout_failures: 3,
            lockout: Duration::from_secs(60),
            network_failures: 10,
            timeout: Duration::from_secs(5),
            device: None,
        })
    }

    fn reason(verdict: Option<&Verdict>) -> Option<&'static str> {
        match verdict {
            None => None,
            Some(Verdict::Good(_)) => Some("good"),
            Some(Verdict::Refused(reason)) => Some(reason),
            Some(Verdict::Unavailable(_)) => Some("unavailable"),
        }
    }

    #[test]
    fn a_stale_phone_is_asked_about_once_and_a_sprayer_a_few_times() {
        let (guard, alice) = (guard(), UserKey::new("alice").expect("a name"));
        let peer: IpAddr = "192.0.2.1".parse().expect("an address");
        let ask = |digest: u8| reason(guard.recall(&alice, &[digest; 16], peer).as_ref());
        let good = Verdict::Good(Arc::default());
        guard.learn(&alice, [1; 16], peer, &good);
        assert_eq!(ask(1), Some("good"));
        for digest in 2..5 {
            assert_eq!(ask(digest), None, "{digest}");
            guard.learn(&alice, [digest; 16], peer, &Verdict::Refused("wrong"));
            assert_eq!(ask(digest), Some("wrong"));
        }
        assert_eq!(ask(5), Some("lockout_user"));
        assert_eq!(ask(1), Some("good"), "the owner is locked out");
        guard.forget(&alice);
        assert_eq!(ask(1), Some("lockout_user"));
        guard.learn(&alice, [6; 16], peer, &good);
        assert_eq!(
            (ask(6), ask(1)),
            (Some("good"), None),
            "the old one is forgotten"
        );
    }

    #[test]
    fn a_network_that_fails_with_many_names_is_not_listened_to() {
        let guard = guard();
        let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
        for n in 0..10_u8 {
            let user = UserKey::new(&format!("user{n}")).expect("a name");
            assert!(guard.recall(&user, &[n; 16], peer(n)).is_none());
            guard.learn(&user, [n; 16], peer(n), &Verdict::Refused("wrong"));
        }
        let fresh = UserKey::new("fresh").expect("a name");
        assert_eq!(
            reason(guard.recall(&fresh, &[0; 16], peer(99)).as_ref()),
            Some("lockout_network")
        );
        let elsewhere = IpAddr::from([198, 51, 100, 1]);
        assert_eq!(
            reason(guard.recall(&fresh, &[0; 16], elsewhere).as_ref()),
            None
        );
    }
}
