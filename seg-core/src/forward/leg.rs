//! One leg: the servers that ActiveSync, or EWS, is forwarded to.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ahash::RandomState;
use http::HeaderValue;

use crate::config::{self, Affinity, HostHeader};
use crate::upstream::{Target, TargetError};

/// One server of a leg.
#[derive(Debug)]
pub struct Upstream {
    /// Its address as it is configured; what logs and metrics call it.
    pub name: Arc<str>,
    /// Where it is.
    pub target: Target,
    healthy: AtomicBool,
}

impl Upstream {
    /// Whether its health checks succeed. True until they have failed.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
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
    preserve_host: bool,
    affinity: Affinity,
    hasher: RandomState,
}

impl Leg {
    /// A leg out of the configuration; `tls` serves its `https` servers. Servers that `before` had
    /// under the same settings keep their connections and their health.
    ///
    /// # Errors
    /// A host that is neither a name nor an address.
    pub fn new(
        config: &config::Leg,
        tls: &Arc<rustls::ClientConfig>,
        before: Option<&Self>,
    ) -> Result<Self, TargetError> {
        let upstreams = config
            .upstreams
            .iter()
            .map(|origin| {
                let name: Arc<str> = origin.to_string().into();
                let kept = before
                    .and_then(|before| before.upstreams.iter().find(|kept| kept.name == name));
                if let Some(kept) = kept {
                    return Ok(Arc::clone(kept));
                }
                let target = if origin.tls {
                    Target::tls(&origin.host, origin.port, Arc::clone(tls))?
                } else {
                    Target::plain(&origin.host, origin.port)?
                };
                Ok(Arc::new(Upstream {
                    name,
                    target,
                    healthy: AtomicBool::new(true),
                }))
            })
            .collect::<Result<_, TargetError>>()?;
        Ok(Self {
            upstreams,
            connect_within: config.connect_timeout,
            response_within: config.response_timeout,
            health: config.health.clone(),
            preserve_host: config.host_header == HostHeader::Preserve,
            affinity: config.affinity,
            // Fixed seeds: a device keeps its server over restarts and on every core.
            hasher: RandomState::with_seeds(0x5e67, 0x6d61, 0x696c, 0x6777),
        })
    }

    /// The server for a request: the device's own while it is healthy, otherwise the next healthy
    /// one; if none is, its own all the same, for the last address is never given up.
    pub fn choose(&self, device: Option<&str>, user: &str) -> Option<&Arc<Upstream>> {
        let count = self.upstreams.len();
        let first = match (self.affinity, count) {
            (_, 0) => return None,
            (_, 1) => return self.upstreams.first(),
            (Affinity::Device, _) => {
                self.hasher.hash_one(HashedKey(device.unwrap_or(user))) as usize % count
            }
            (Affinity::None, _) => {
                thread_local!(static NEXT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
                NEXT.with(|next| next.replace(next.get().wrapping_add(1))) % count
            }
        };
        let (before, from) = self.upstreams.split_at_checked(first)?;
        from.iter()
            .chain(before)
            .find(|upstream| upstream.is_healthy())
            .or_else(|| from.first())
    }

    /// What `Host` says upstream; `None`: the server's own name.
    pub fn host_header(&self, client: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.preserve_host {
            client.cloned()
        } else {
            None
        }
    }
}

struct HashedKey<'k>(&'k str);

impl Hash for HashedKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

/// Counts equal answers of a health check until they are believed.
#[derive(Debug, Default)]
pub(crate) struct HealthCount {
    streak: u32,
    last: Option<bool>,
}

impl HealthCount {
    /// Whether no answer has come yet.
    pub(crate) fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// The new state, if this answer brings one: `threshold` equal answers in a row.
    pub(crate) fn answer(&mut self, good: bool, threshold: u32) -> Option<bool> {
        if self.last == Some(good) {
            self.streak = self.streak.saturating_add(1);
        } else {
            self.last = Some(good);
            self.streak = 1;
        }
        (self.streak >= threshold.max(1)).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_changes_after_equal_answers_only() {
        let mut count = HealthCount::default();
        assert_eq!(count.answer(false, 3), None);
        assert_eq!(count.answer(false, 3), None);
        assert_eq!(count.answer(true, 3), None);
        assert_eq!(count.answer(false, 3), None);
        assert_eq!(count.answer(false, 3), None);
        assert_eq!(count.answer(false, 3), Some(false));
        assert_eq!(count.answer(true, 1), Some(true));
    }
}
