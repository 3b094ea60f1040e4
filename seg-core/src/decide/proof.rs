//! Nobody learns a verdict without a password, and a blocked device with a right password is never
//! asked for one.
//!
//! Credentials are proven for ten minutes after the server answered them with what only somebody
//! who has authenticated is told. A blocked device with unproven ones is probed by one `OPTIONS`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::Generations;
use crate::identify::CredentialDigest;

/// How long an answer proves the credentials it was given to.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// Distinct credentials that are remembered at least.
const REMEMBERED: usize = 200_000;

/// What the server says of credentials.
#[derive(Clone, Debug)]
pub enum ProbeOutcome {
    /// It takes them.
    Proven,
    /// It answers, and says neither: a refusal may be told, and nothing is proven by it.
    Answered,
    /// It refuses them, with these challenges.
    Unauthorized(Arc<[HeaderValue]>),
    /// It can't be asked.
    Unavailable,
}

/// Which credentials the servers have accepted lately. Shared by all cores.
#[derive(Debug)]
pub struct Proofs {
    proven: Generations<CredentialDigest, Instant>,
    /// Probes under way: one at a time for the same credentials.
    probing: Mutex<HashMap<CredentialDigest, Arc<OnceCell<ProbeOutcome>>>>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            proven: Generations::new(REMEMBERED),
            probing: Mutex::default(),
        }
    }
}

impl Proofs {
    /// Whether the credentials were accepted within the last ten minutes.
    pub fn holds(&self, digest: &CredentialDigest) -> bool {
        self.proven
            .recall(digest)
            .is_some_and(|at| at.elapsed() < PROVEN_FOR)
    }

    /// Learns from a server's answer to a request with these credentials.
    pub fn learn(&self, digest: &CredentialDigest, status: StatusCode) {
        match Lesson::of(status) {
            Lesson::Proven => self.proven.insert(*digest, Instant::now()),
            Lesson::Refuted => self.proven.forget(digest),
            Lesson::Nothing => {}
        }
    }

    /// Asks the server with `probe`, unless somebody is asking already for the same credentials:
    /// then his answer is waited for.
    pub async fn probe<F>(&self, digest: &CredentialDigest, probe: F) -> ProbeOutcome
    where
        F: Future<Output = ProbeOutcome>,
    {
        let cell = Arc::clone(self.probing.lock().entry(*digest).or_default());
        let turn = Turn {
            probing: &self.probing,
            digest,
            cell,
        };
        let outcome = turn.cell.get_or_init(|| probe).await.clone();
        drop(turn);
        if matches!(outcome, ProbeOutcome::Proven) {
            self.proven.insert(*digest, Instant::now());
        }
        outcome
    }
}

/// Somebody who waits for a probe. The probe's place goes with its outcome, or with the last who
/// waits: a client may leave at any moment.
struct Turn<'p> {
    probing: &'p Mutex<HashMap<CredentialDigest, Arc<OnceCell<ProbeOutcome>>>>,
    digest: &'p CredentialDigest,
    cell: Arc<OnceCell<ProbeOutcome>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut probing = self.probing.lock();
        let ours = probing
            .get(self.digest)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The map's and ours.
        let last = Arc::strong_count(&self.cell) <= 2;
        if ours && (self.cell.initialized() || last) {
            probing.remove(self.digest);
        }
    }
}

/// What a status says of the credentials that drew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Accepted: what was asked for is given, or refused to this very person.
    Proven,
    /// Refused.
    Refuted,
    /// The server never looked at them.
    Nothing,
}

impl Lesson {
    /// Reads a status.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Refuted,
            200..=299 | 403 | 449 | 451 => Self::Proven,
            // Redirects, malformed or too large requests, failures: servers say so before they have
            // looked at a password.
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_401_takes_the_proof_back() {
        let proofs = Proofs::default();
        let digest = [7; 16];
        assert!(!proofs.holds(&digest));
        proofs.learn(&digest, StatusCode::BAD_GATEWAY);
        assert!(!proofs.holds(&digest), "an outage proves nothing");
        proofs.learn(&digest, StatusCode::FORBIDDEN);
        assert!(
            proofs.holds(&digest),
            "a 403 is given to somebody who has authenticated"
        );
        proofs.learn(&digest, StatusCode::SERVICE_UNAVAILABLE);
        assert!(proofs.holds(&digest));
        proofs.learn(&digest, StatusCode::UNAUTHORIZED);
        assert!(!proofs.holds(&digest));
    }

    #[test]
    fn what_servers_say_before_they_look_at_a_password_proves_nothing() {
        let proofs = Proofs::default();
        for status in [302, 400, 404, 405, 408, 413, 414, 417, 431, 500, 501, 505] {
            let digest = [9; 16];
            proofs.learn(&digest, StatusCode::from_u16(status).expect("a status"));
            assert!(!proofs.holds(&digest), "{status}");
        }
    }

    #[tokio::test]
    async fn who_leaves_during_a_probe_leaves_nothing_behind() {
        let proofs = Proofs::default();
        for n in 0..100 {
            let digest = [n; 16];
            let probe = proofs.probe(&digest, std::future::pending());
            let left = tokio::time::timeout(Duration::ZERO, probe).await;
            assert!(left.is_err());
        }
        assert!(proofs.probing.lock().is_empty());
    }

    #[tokio::test]
    async fn one_probe_serves_all_who_wait() {
        let proofs = Arc::new(Proofs::default());
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let (proofs, asked, gate) =
                    (Arc::clone(&proofs), Arc::clone(&asked), Arc::clone(&gate));
                tokio::spawn(async move {
                    proofs
                        .probe(&[1; 16], async {
                            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            gate.notified().await;
                            ProbeOutcome::Proven
                        })
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.notify_one();
        for one in waiting {
            assert!(matches!(one.await, Ok(ProbeOutcome::Proven)));
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(proofs.holds(&[1; 16]));
    }
}
