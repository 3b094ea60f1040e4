//! Pass-through routes: other services behind the same public address, by host, path and
//! priority.
//!
//! They come behind the table of mail paths, whatever their priority: no route can publish a mail
//! server around the verdict.

use std::sync::Arc;

use http::HeaderName;

use crate::config;
use crate::servers::Leg;

/// One route.
#[derive(Debug)]
pub struct Pass {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// Its servers.
    pub leg: Arc<Leg>,
    /// The longest request body, where it has a rule of its own.
    pub body_max: Option<u64>,
    /// The header in which its server finds the client's certificate.
    pub certificate_header: Option<HeaderName>,
    /// A request may go on as a WebSocket.
    pub websocket: bool,
    hosts: Vec<String>,
    /// In lower case, without a slash at its end.
    prefix: Box<str>,
    priority: u16,
}

/// Every route, the first that fits serves.
#[derive(Debug, Default)]
pub struct Passes(Vec<Pass>);

impl Pass {
    /// A route out of the configuration, with its servers.
    pub fn new(name: &str, route: &config::Route, leg: Arc<Leg>) -> Self {
        Self {
            name: name.into(),
            leg,
            body_max: route.body_max,
            certificate_header: route.client_cert_header.clone(),
            websocket: route.websocket,
            hosts: route.hosts.clone(),
            prefix: route.path.trim_end_matches('/').to_ascii_lowercase().into(),
            priority: route.priority,
        }
    }

    /// Whether its host is named, and is this one.
    fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// Whether the path, in lower case, lies below its own: segment by segment.
    fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.prefix) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl Passes {
    /// Sorts them: the highest priority first, then the one that names its hosts, then the longest
    /// path, then by name.
    pub fn new(mut routes: Vec<Pass>) -> Self {
        routes.sort_by(|a, b| {
            let rank = |pass: &Pass| (pass.priority, !pass.hosts.is_empty(), pass.prefix.len());
            rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name))
        });
        Self(routes)
    }

    /// The route of a request: its place. `allowed`: the host is one that the gateway serves; a
    /// route serves the hosts that it names in any case.
    pub fn find(&self, host: &str, path: &str, allowed: bool) -> Option<usize> {
        self.0.iter().position(|pass| {
            let hosted = if pass.hosts.is_empty() {
                allowed
            } else {
                pass.names(host)
            };
            hosted && pass.covers(path)
        })
    }

    /// Whether any route names this host.
    pub fn name(&self, host: &str) -> bool {
        self.0.iter().any(|pass| pass.names(host))
    }

    /// The route at a place.
    pub fn at(&self, place: usize) -> Option<&Pass> {
        self.0.get(place)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pass> {
        self.0.iter()
    }
}
