//! Callback interposition: between Exchange and a push subscriber.
//!
//! A push subscription lives on the server and needs nobody's help to go on: once ENS has
//! subscribed for a phone, Exchange calls ENS whenever mail comes, whether the phone is blocked,
//! wiped or at the bottom of a lake, and Exchange keeps the credentials that ENS has put into its
//! URL. So where `ens.callback.interposition` is on, the URL in a `Subscribe` is replaced by one of
//! the gateway's, in which the original one, the user and the device are sealed ([`seal`]). What
//! Exchange then sends is judged like a request of that device: it is passed on while the device
//! may have mail, and answered with `Unsubscribe` once it may not, upon which Exchange drops the
//! subscription by itself. Nothing is remembered here: any node that has the keys can serve it.

mod seal;

pub use seal::{KEYS_FILE, Keys, KeysError, Refused, Sealed};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::config;
use crate::tls::{self, TlsError};
use crate::upstream::{Target, TargetError};

/// Where Exchange calls.
pub const CALLBACK_PATH: &str = "/ews-callback";

/// Subscribers whose addresses are remembered.
const TARGETS_MAX: usize = 64;

/// The interposition, as one configuration has it.
pub struct Callbacks {
    keys: Keys,
    /// What stands in front of a sealed token.
    base: String,
    good_for: SignedDuration,
    tls: Arc<rustls::ClientConfig>,
    targets: Mutex<HashMap<String, Target>>,
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

/// Why the interposition can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// `ens.callback.ca.path`.
    #[error("ens.callback.ca.path: {0}")]
    Tls(#[from] TlsError),
}

impl Callbacks {
    /// The interposition that `config` describes; keys are made where there are none yet.
    ///
    /// # Errors
    /// A file that can't be used.
    pub fn new(
        config: &config::Callback,
        public: &config::Origin,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, CallbackError> {
        let built = tls::client_config(&config::UpstreamTls {
            ca: config.ca.clone(),
            client_certificate: None,
            ignore_errors: false,
        })?;
        built.warnings.into_iter().for_each(warn);
        Ok(Self {
            keys: Keys::load_or_create(&config.keys)?,
            base: format!("{public}{CALLBACK_PATH}?t="),
            good_for: SignedDuration::from_hours(i64::from(config.days) * 24),
            tls: built.config,
            targets: Mutex::default(),
        })
    }

    /// The URL that is subscribed instead; `None` without randomness.
    pub fn interpose(&self, sealed: &Sealed, now: Timestamp) -> Option<String> {
        let until = now.checked_add(self.good_for).ok()?;
        let token = self.keys.seal(sealed, until)?;
        Some(format!("{}{token}", self.base))
    }

    /// What was sealed into a URL that is called.
    ///
    /// # Errors
    /// Nobody with these keys has made it, or it is too old.
    pub fn open(&self, token: &str, now: Timestamp) -> Result<Sealed, Refused> {
        self.keys.open(token, now)
    }

    /// The subscriber behind a URL, and what to ask it for.
    ///
    /// # Errors
    /// The URL names no host.
    pub fn subscriber(&self, url: &str) -> Result<(Target, PathAndQuery), NoSubscriber> {
        let uri: Uri = url.parse().map_err(|_| NoSubscriber)?;
        let (scheme, host) = (uri.scheme_str(), uri.host().ok_or(NoSubscriber)?);
        let encrypted = match scheme {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NoSubscriber),
        };
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let path = uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let key = format!("{encrypted} {host} {port}");
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(&key) {
            return Ok((target.clone(), path));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let target = if encrypted {
            Target::tls(host, port, Arc::clone(&self.tls))?
        } else {
            Target::plain(host, port)?
        };
        if targets.len() >= TARGETS_MAX {
            targets.clear();
        }
        targets.insert(key, target.clone());
        Ok((target, path))
    }
}

/// A URL that leads to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber's URL names no host")]
pub struct NoSubscriber;

impl From<TargetError> for NoSubscriber {
    fn from(_: TargetError) -> Self {
        Self
    }
}

/// Where the keys are, unless `ens.callback.key.path` says so.
pub(crate) fn default_keys(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join(KEYS_FILE)
}

/// How long a subscriber is waited for. Exchange itself gives up after a minute or two.
pub const SUBSCRIBER_WITHIN: Duration = Duration::from_secs(30);
