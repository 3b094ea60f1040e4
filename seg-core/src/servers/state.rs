//! How every server stands, for `/v1/upstreams` and the metrics.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::leg::{Leg, Upstream};
use crate::runtime::Snapshot;

/// One server as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamState {
    /// `eas` or `ews`.
    pub leg: &'static str,
    /// Its address as it is configured.
    pub upstream: String,
    /// What metrics call it.
    #[serde(skip)]
    pub label: Arc<str>,
    /// `up`, `ejected` or `down`. The last server that is left is asked whatever its state.
    pub state: &'static str,
    /// Until when it is left out for failed requests.
    pub ejected_until: Option<Timestamp>,
    /// Failed requests in a row.
    pub failures: u32,
    /// Requests that it has not answered to their end.
    pub in_flight: usize,
    /// Connections to it, idle ones included.
    pub connections: usize,
    /// The addresses it was found at last.
    pub addresses: Vec<String>,
    /// Its last health check.
    pub last_check: Option<CheckState>,
}

/// What a health check brought.
#[derive(Clone, Debug, Serialize)]
pub struct CheckState {
    /// When.
    pub at: Timestamp,
    /// Whether it was answered as it should be.
    pub good: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl UpstreamState {
    /// Every server of a configuration.
    pub fn of(snapshot: &Snapshot) -> Vec<Self> {
        let now = Timestamp::now();
        all(snapshot)
            .into_iter()
            .map(|(leg, upstream, label)| {
                let standing = upstream.standing().look();
                let ejected_until = standing.ejected_until(now);
                Self {
                    leg: if Arc::ptr_eq(leg, &snapshot.eas) {
                        "eas"
                    } else {
                        "ews"
                    },
                    upstream: upstream.name.to_string(),
                    label,
                    state: match (standing.up, ejected_until) {
                        (false, _) => "down",
                        (true, Some(_)) => "ejected",
                        (true, None) => "up",
                    },
                    ejected_until,
                    failures: standing.failures,
                    in_flight: standing.in_flight,
                    connections: standing.connections,
                    addresses: upstream
                        .target
                        .known_addresses()
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    last_check: upstream.watched.last(),
                }
            })
            .collect()
    }
}

/// Every server with its leg and the name that metrics give it: its address; where both legs
/// have it, `/EWS` behind that of the second.
pub(super) fn all(snapshot: &Snapshot) -> Vec<(&Arc<Leg>, &Arc<Upstream>, Arc<str>)> {
    let eas = &snapshot.eas;
    let mut all: Vec<_> = eas
        .upstreams
        .iter()
        .map(|upstream| (eas, upstream, Arc::clone(&upstream.name)))
        .collect();
    if snapshot.config.ews_enabled {
        let ews = &snapshot.ews;
        all.extend(ews.upstreams.iter().map(|upstream| {
            let twice = eas
                .upstreams
                .iter()
                .any(|other| other.name == upstream.name);
            let label = if twice {
                format!("{}/EWS", upstream.name).into()
            } else {
                Arc::clone(&upstream.name)
            };
            (ews, upstream, label)
        }));
    }
    all
}
