//! Whether a client certificate still counts: revocation lists (RFC 5280) and responders (OCSP,
//! RFC 6960).
//!
//! The check stands behind the handshake, not in it: so it holds for resumed sessions, which skip
//! rustls' verifier, may wait for a responder without holding a core up, and can be repeated while
//! a connection is open. Lists are fetched and read beside the requests; a start waits for none of
//! them unless it is told to.

mod keeper;
mod list;
pub mod ocsp;
mod responders;

pub(crate) use keeper::{fetch_all, keep, load_first};
pub use list::{List, ListError, Lists, read_lists};
pub use responders::Responders;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use smallvec::SmallVec;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use super::pem;
use crate::config::{self, UnknownStanding};
use crate::outbound::Outbound;

/// A serial number without leading zeros (RFC 5280 4.1.2.2: at most 20 bytes, but no limit holds
/// in the wild).
pub type Serial = SmallVec<[u8; 20]>;

/// How a certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A current list, or a responder, knows it and hasn't revoked it.
    Good,
    /// Revoked, and who says so.
    Revoked(String),
    /// Nobody knows, and why.
    Unknown(String),
}

/// One certificate, as lists and responders name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its issuer's distinguished name in DER.
    pub issuer: Box<[u8]>,
    /// Its serial number.
    pub serial: Serial,
    /// The responder that it names (RFC 5280 4.2.2.1), where that is an http address.
    pub responder: Option<String>,
}

impl Link {
    /// What lists and responders need to know of a certificate; `None` if it can't be read, or is
    /// signed by itself.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        if certificate.issuer().as_raw() == certificate.subject().as_raw() {
            return None;
        }
        Some(Self {
            issuer: certificate.issuer().as_raw().into(),
            serial: serial(certificate.raw_serial()),
            responder: ocsp::named_responder(&certificate),
        })
    }
}

fn serial(raw: &[u8]) -> Serial {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    raw.iter().skip(zeros).copied().collect()
}

/// The CAs of `server.client.ca.path`: they verify lists and the answers of responders.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Reads them.
    ///
    /// # Errors
    /// A file that can't be used.
    pub fn load(tls: &config::ServerTls) -> Result<Self, TlsError> {
        match &tls.client_ca {
            Some(file) => pem::certificates(file).map(Self),
            None => Ok(Self::default()),
        }
    }

    /// Those with this name. Several CAs may share one, after a renewal.
    pub fn named<'a>(
        &'a self,
        name: &'a [u8],
    ) -> impl Iterator<Item = X509Certificate<'a>> + use<'a> {
        self.0
            .iter()
            .filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1))
            .filter(move |authority| authority.subject().as_raw() == name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is known of revoked certificates. One for the process; reloads keep it.
#[derive(Debug)]
pub struct Revocations {
    lists: ArcSwap<Lists>,
    changed: watch::Sender<u64>,
    turn: AtomicU64,
    responders: Responders,
}

/// What a check found, and for how long it holds.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Why the certificate is refused, if it is.
    pub refused: Option<String>,
    /// When a responder should be asked again.
    pub again: Option<Duration>,
}

impl Revocations {
    /// Knows nothing yet.
    pub fn new(outbound: Outbound) -> Self {
        Self {
            lists: ArcSwap::default(),
            changed: watch::Sender::new(0),
            turn: AtomicU64::new(0),
            responders: Responders::new(outbound),
        }
    }

    /// Turns whenever something may have changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The lists now.
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    pub(crate) fn replace(&self, lists: Lists) {
        self.lists.store(Arc::new(lists));
        self.touch();
    }

    pub(crate) fn touch(&self) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        self.changed.send_replace(turn);
    }

    /// Checks a verified chain, leaf first: the lists, then the responders of those on which the
    /// lists are silent.
    pub async fn check(
        &self,
        rules: &config::Revocation,
        authorities: &Authorities,
        chain: &[Link],
    ) -> Checked {
        let mut checked = Checked {
            refused: None,
            again: None,
        };
        if !rules.enabled {
            return checked;
        }
        let lists = self.lists();
        for (depth, link) in chain.iter().enumerate() {
            let mut standing = lists.standing(link, Timestamp::now());
            if !matches!(standing, Standing::Revoked(_)) && !rules.responders.is_empty() {
                let asked = self.responders.ask(rules, authorities, link).await;
                if let Some((answer, holds)) = asked {
                    checked.again = Some(checked.again.map_or(holds, |again| again.min(holds)));
                    if !matches!(answer, Standing::Unknown(_)) || standing != Standing::Good {
                        standing = answer;
                    }
                }
            }
            match standing {
                Standing::Good => {}
                Standing::Revoked(by) => {
                    checked.refused = Some(format!("the certificate was revoked ({by})"));
                    return checked;
                }
                // CAs in between are revoked by lists; where nobody knows them, the leaf counts.
                Standing::Unknown(why) if depth == 0 => {
                    if rules.unknown == UnknownStanding::Refuse {
                        checked.refused =
                            Some(format!("nobody knows how the certificate stands: {why}"));
                        return checked;
                    }
                }
                Standing::Unknown(_) => {}
            }
        }
        checked
    }
}
