//! Which of our certificates a client is shown: the one for the host that it asks for, with a key
//! that it can use; else the first.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Our certificates in the order of the configuration.
#[derive(Debug)]
pub(super) struct Choice {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    /// `None`: it can't be read, so that it is for no host.
    certificate: Option<Certificate>,
    key: Arc<CertifiedKey>,
}

impl Choice {
    pub(super) fn new(keys: Vec<CertifiedKey>) -> Self {
        let held = |key: CertifiedKey| Held {
            certificate: key.cert.first().and_then(Certificate::read),
            key: Arc::new(key),
        };
        Self {
            held: keys.into_iter().map(held).collect(),
        }
    }

    /// The best of those that can be used. A certificate with the name itself goes before one for
    /// everything below the domain.
    fn choose(&self, host: Option<&str>, usable: impl Fn(&Held) -> bool) -> Option<&Held> {
        let fit = |held: &&Held| {
            let certificate = held.certificate.as_ref();
            match (host, certificate) {
                (Some(host), Some(certificate)) if certificate.covers(host) => {
                    let mut names = certificate.names.iter();
                    1 + u8::from(names.any(|name| name.eq_ignore_ascii_case(host)))
                }
                _ => 0,
            }
        };
        let usable = || self.held.iter().filter(|held| usable(held));
        // Of equals `max_by_key` gives the last.
        usable().rev().max_by_key(fit).or_else(|| self.held.first())
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let usable = |held: &Held| held.key.key.choose_scheme(schemes).is_some();
        let held = self.choose(hello.server_name(), usable)?;
        Some(Arc::clone(&held.key))
    }
}
