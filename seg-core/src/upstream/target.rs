//! One mail server, as the client sees it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::Semaphore;

use super::resolve::Addresses;
use super::sources::Sources;
use super::standing::{Ejection, Standing};
use super::via::Via;

/// A server to send requests to: address, TLS settings, the name in the `Host` header.
///
/// Cloning is cheap and keeps the identity: pooled connections are shared by clones of one
/// target. A target built anew, even from equal values, starts with no connections; so a reload
/// that changes certificates can't meet connections made under the old ones.
#[derive(Clone)]
pub struct Target(Arc<Inner>);

struct Inner {
    id: u64,
    host: Box<str>,
    port: u16,
    authority: HeaderValue,
    tls: Option<Tls>,
    addresses: Addresses,
    sources: Arc<Sources>,
    /// As many permits as there may be connections.
    room: Option<Arc<Semaphore>>,
    /// As many permits as connections may be opened at one time.
    turns: Semaphore,
    standing: Arc<Standing>,
    binding: ArcSwapOption<Vec<u8>>,
    allowed: Option<Allowed>,
    via: Option<Arc<Via>>,
}

/// Connections to one server that are opened at one time. Well below any listen queue, and enough
/// to keep its handshakes busy.
pub(super) const OPENED_AT_ONCE: usize = 256;

/// Says whether a connection to an address may be opened.
pub type Allowed = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What may be set of a target besides where it is.
#[derive(Clone)]
pub struct Settings {
    /// How TLS is spoken; `None`: plain TCP.
    pub tls: Option<Arc<ClientConfig>>,
    /// Our own addresses that connections leave from.
    pub sources: Arc<Sources>,
    /// The most connections at one time, over all pools; further requests wait for one within
    /// the time that a connection may take.
    pub max_connections: Option<usize>,
    /// How the server stands.
    pub standing: Arc<Standing>,
    /// Which of the addresses that its name has are meant; `None`: all of them.
    pub allowed: Option<Allowed>,
    /// The proxy on the way to it.
    pub via: Option<Arc<Via>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("tls", &self.tls.is_some())
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: None,
            sources: Arc::default(),
            max_connections: None,
            standing: Arc::new(Standing::new(Ejection::NEVER)),
            allowed: None,
            via: None,
        }
    }
}

/// How TLS is spoken to a target.
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

/// A host that can't be a target.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{host:?} is neither a host name nor an IP address")]
pub struct TargetError {
    /// The text given.
    pub host: String,
}

impl Target {
    /// A server behind plain TCP (`http://`). `host` is a DNS name or an IP address, IPv6 with
    /// or without brackets.
    ///
    /// # Errors
    /// [`TargetError`] where `host` is neither.
    pub fn plain(host: &str, port: u16) -> Result<Self, TargetError> {
        Self::new(host, port, Settings::default())
    }

    /// A server behind TLS (`https://`), verified as `config` says for the name `host`.
    ///
    /// # Errors
    /// [`TargetError`] where `host` is neither a DNS name nor an IP address.
    pub fn tls(host: &str, port: u16, config: Arc<ClientConfig>) -> Result<Self, TargetError> {
        let tls = Some(config);
        let settings = Settings {
            tls,
            ..Settings::default()
        };
        Self::new(host, port, settings)
    }

    /// A server with everything that can be set.
    ///
    /// # Errors
    /// [`TargetError`] where `host` is neither a DNS name nor an IP address.
    pub fn new(host: &str, port: u16, settings: Settings) -> Result<Self, TargetError> {
        Self::build(host, port, settings, None)
    }

    /// Like [`Target::tls`] (or [`Target::plain`] without `config`), at given addresses instead
    /// of those that the name resolves to.
    ///
    /// # Errors
    /// [`TargetError`] where `host` is neither a DNS name nor an IP address.
    pub fn at(
        host: &str,
        port: u16,
        config: Option<Arc<ClientConfig>>,
        addresses: &[SocketAddr],
    ) -> Result<Self, TargetError> {
        let settings = Settings {
            tls: config,
            ..Settings::default()
        };
        Self::build(host, port, settings, Some(Addresses::fixed(addresses)))
    }

    pub(super) fn build(
        host: &str,
        port: u16,
        settings: Settings,
        addresses: Option<Addresses>,
    ) -> Result<Self, TargetError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let refused = || TargetError {
            host: host.to_owned(),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let server_name = ServerName::try_from(bare.to_owned()).map_err(|_| refused())?;
        let literal = bare.parse::<IpAddr>().ok();
        let default_port = if settings.tls.is_some() { 443 } else { 80 };
        let shown = if literal.is_some_and(|address| address.is_ipv6()) {
            format!("[{bare}]")
        } else {
            bare.to_owned()
        };
        let authority = if port == default_port {
            shown
        } else {
            format!("{shown}:{port}")
        };
        let found = || match literal {
            Some(address) => Addresses::fixed(&[SocketAddr::new(address, port)]),
            None => Addresses::lookup(bare, port),
        };
        Ok(Self(Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            host: bare.into(),
            port,
            binding: ArcSwapOption::empty(),
            authority: HeaderValue::from_str(&authority).map_err(|_| refused())?,
            tls: settings.tls.map(|config| Tls {
                config,
                server_name,
            }),
            addresses: addresses.unwrap_or_else(found),
            sources: settings.sources,
            room: settings
                .max_connections
                .map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            turns: Semaphore::new(OPENED_AT_ONCE),
            standing: settings.standing,
            allowed: settings.allowed,
            via: settings.via,
        })))
    }

    /// The host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.tls.is_some()
    }

    /// What the `Host` header says unless a request brings its own: host, and the port where it
    /// is not the scheme's default.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.0.authority
    }

    /// How the server stands.
    #[must_use]
    pub fn standing(&self) -> &Arc<Standing> {
        &self.0.standing
    }

    /// Looks its name up anew where that is due, so that connections over which requests go on and on
    /// notice a move too.
    pub async fn look_up(&self) {
        // Who connects says what is wrong.
        let _ = self.0.addresses.current().await;
    }

    /// The addresses it was found at last; none: nobody has asked yet.
    #[must_use]
    pub fn known_addresses(&self) -> Vec<SocketAddr> {
        self.0.addresses.known()
    }

    /// Counts one request of nobody's.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> InUse {
        InUse::new(self.clone())
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.0.sources
    }

    pub(super) fn via(&self) -> Option<&Arc<Via>> {
        self.0.via.as_ref()
    }

    /// Whether a connection to this address of its may be opened.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        self.0.allowed.as_ref().is_none_or(|allows| allows(address))
    }

    pub(super) fn turns(&self) -> &Semaphore {
        &self.0.turns
    }

    pub(super) fn room(&self) -> Option<&Arc<Semaphore>> {
        self.0.room.as_ref()
    }

    /// What ties a login to a TLS connection with this server (`tls-server-end-point`, RFC 5929
    /// section 4), made of the certificate that it showed last; `None` before the first connection.
    pub fn channel_binding(&self) -> Option<Arc<Vec<u8>>> {
        self.0.binding.load_full()
    }

    pub(super) fn note_certificate(&self, certificate: Option<&CertificateDer<'_>>) {
        let binding = certificate.and_then(crate::tls::end_point_binding);
        self.0.binding.store(binding.map(Arc::new));
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn tls_settings(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }
}

/// A target that counts as one request's until this is dropped.
pub(crate) struct InUse(Target);

impl InUse {
    /// Counts one request.
    pub(super) fn new(target: Target) -> Self {
        target.standing().begin();
        Self(target)
    }

    /// The request has failed on it.
    pub(super) fn failed(&self) {
        if self.0.standing().failed() {
            tracing::warn!(
                upstream = %self.0,
                "requests keep failing on this server; while another one is there it is left out for a time"
            );
        }
    }
}

impl std::ops::Deref for InUse {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.standing().end();
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(
            f,
            "{scheme}://{}",
            self.0.authority.to_str().unwrap_or(&self.0.host)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_and_host_of_names_and_addresses() {
        for (host, port, bare, authority) in [
            ("mail.example", 80, "mail.example", "mail.example"),
            ("mail.example", 8080, "mail.example", "mail.example:8080"),
            ("192.0.2.1", 443, "192.0.2.1", "192.0.2.1:443"),
            ("[2001:db8::1]", 80, "2001:db8::1", "[2001:db8::1]"),
            ("2001:db8::1", 81, "2001:db8::1", "[2001:db8::1]:81"),
        ] {
            let target = Target::plain(host, port).unwrap();
            assert_eq!(target.host(), bare);
            assert_eq!(target.authority(), authority, "{host}");
            assert_eq!(target.to_string(), format!("http://{authority}"));
        }
    }

    #[test]
    fn nonsense_is_no_host() {
        for host in [
            "",
            "a b",
            "mail.example/x",
            "host\r\nX: y",
            "[::1",
            "user@host",
        ] {
            assert_eq!(Target::plain(host, 80).unwrap_err().host, host);
        }
    }

    #[test]
    fn a_target_built_anew_is_another() {
        let one = Target::plain("mail.example", 80).unwrap();
        assert_eq!(one.id(), one.clone().id());
        assert_ne!(one.id(), Target::plain("mail.example", 80).unwrap().id());
    }
}
