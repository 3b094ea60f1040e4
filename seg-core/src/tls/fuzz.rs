//! Entry for fuzzers: certificates come from clients.
#![doc(hidden)]

use rustls::pki_types::CertificateDer;

use super::revocation::{Authorities, Link, ocsp, read_lists};
use super::{Certificate, DeviceSource, NameSource, client_device, client_user};

/// Reads bytes as a responder's answer.
pub fn ocsp_answer(data: &[u8]) {
    ocsp::read_unsigned(data);
}

/// Reads bytes as revocation lists of no CA.
pub fn revocation_list(data: &[u8]) {
    assert!(read_lists(data, &"fuzz".into(), &Authorities::default()).is_err());
}

/// Reads bytes as a client's certificate, both ways.
pub fn client_certificate(data: &[u8]) {
    let der = CertificateDer::from(data);
    let _ = Link::read(&der);
    let _ = Certificate::read(&der).map(|certificate| certificate.to_string());
    for source in [NameSource::Upn, NameSource::Email, NameSource::SubjectCn] {
        if let Ok(user) = client_user(&der, &[source]) {
            assert!(!user.name.chars().any(char::is_control));
        }
    }
    for source in [
        DeviceSource::SubjectSerial,
        DeviceSource::Dns,
        DeviceSource::Uri,
    ] {
        if let Ok(device) = client_device(&der, source) {
            assert!(!device.chars().any(char::is_control));
        }
    }
}
