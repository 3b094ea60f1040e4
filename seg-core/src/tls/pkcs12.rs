//! Certificate, chain and key in one PKCS#12 file (RFC 7292), as Windows exports them.

use std::path::Path;
use std::sync::Arc;

use p12_keystore::Pkcs12Archive;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::TlsError;
use super::pem;
use crate::config::Secret;

/// No chain is followed further than this.
const MAX_CHAIN: usize = 10;

/// The key of the file with the certificate that belongs to it and that one's issuers. Which
/// certificate belongs to a key is told by the public key, because exporters don't agree on the
/// attributes that ought to say it.
pub(super) fn load(
    file: &Path,
    password: &Secret,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let archive =
        Pkcs12Archive::from_pkcs12(&pem::read(file)?, password.reveal()).map_err(|error| {
            TlsError::new(
                file,
                format!("can't be opened as PKCS#12: {error}"),
                "check server.tls.pkcs12.password, and that the file was copied as binary",
            )
        })?;
    let certificates: Vec<CertificateDer<'static>> = archive
        .certs
        .iter()
        .map(|entry| CertificateDer::from(entry.cert.as_der().to_vec()))
        .collect();
    for entry in &archive.keys {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(entry.key.as_der().to_vec()));
        let Ok(key) = provider.key_provider.load_private_key(key) else {
            continue;
        };
        for leaf in &certificates {
            let certified = CertifiedKey::new(vec![leaf.clone()], Arc::clone(&key));
            if certified.keys_match().is_ok() {
                return Ok(CertifiedKey::new(chain(leaf, &certificates), key));
            }
        }
    }
    let reason = if archive.keys.is_empty() {
        "holds no private key"
    } else {
        "holds no certificate that belongs to its private key"
    };
    Err(TlsError::new(
        file,
        reason,
        "export it again, with the private key and the whole chain",
    ))
}

/// A certificate, its issuer, that one's issuer and so on, without the root at the end.
fn chain(
    leaf: &CertificateDer<'static>,
    all: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![leaf.clone()];
    while let Some(issuer) = chain.last().and_then(|last| issuer_of(last, all)) {
        if chain.contains(issuer) || chain.len() == MAX_CHAIN {
            break;
        }
        chain.push(issuer.clone());
    }
    chain
}

fn issuer_of<'a>(
    certificate: &CertificateDer<'_>,
    all: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    all.iter().find(|candidate| {
        X509Certificate::from_der(candidate).is_ok_and(|(_, candidate)| {
            candidate.subject() == parsed.issuer() && candidate.subject() != candidate.issuer()
        })
    })
}
