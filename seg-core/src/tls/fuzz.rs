//! Entry for fuzzers: certificates come from clients.
#![doc(hidden)]

use rustls::pki_types::CertificateDer;

use super::{Certificate, client_user};

/// Reads bytes as a client's certificate, both ways.
pub fn client_certificate(data: &[u8]) {
    let der = CertificateDer::from(data);
    let _ = Certificate::read(&der).map(|certificate| certificate.to_string());
    for cn in [false, true] {
        if let Ok(user) = client_user(&der, cn) {
            assert!(!user.name.chars().any(char::is_control));
        }
    }
}
