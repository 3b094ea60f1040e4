//! Certificates and keys in PEM files (RFC 7468).

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;

/// The largest file that is read for certificates or keys: some 4,000 CAs.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// All certificates of a file, at least one, in the order of the file.
///
/// # Errors
/// The file can't be read, is no PEM, or holds no certificate.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(file, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::new(
            file,
            "holds no certificate",
            "it must be PEM, with lines BEGIN CERTIFICATE; `openssl x509 -inform der` turns DER into PEM",
        ));
    }
    Ok(certificates)
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC 1.
///
/// # Errors
/// The file can't be read, is no PEM, holds no key, or holds one that needs a password.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(file)?;
    if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED")
    {
        return Err(TlsError::new(
            file,
            "the private key is locked with a password",
            "unlock it with `openssl pkey -in … -out …`, or use a PKCS#12 file with server.tls.pkcs12.password",
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::new(
            file,
            "holds no private key",
            "it must be PEM, with a line BEGIN PRIVATE KEY; check that certificate and key aren't mixed up",
        ),
        error => not_pem(file, &error),
    })
}

/// The CAs of a bundle, any number of them.
///
/// # Errors
/// The file can't be read, is no PEM, or holds something that is no certificate.
pub fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates(file)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| {
            let reason = format!(
                "certificate {} of the file can't be a CA: {error}",
                index + 1
            );
            TlsError::new(file, reason, "remove it from the file")
        })?;
    }
    Ok(store)
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error: std::io::Error| {
        let mend = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; it is relative to the properties file",
            std::io::ErrorKind::PermissionDenied => "let the user that runs the gateway read it",
            _ => "it must be a readable file",
        };
        TlsError::new(file, format!("can't be read: {error}"), mend)
    };
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(TlsError::new(
            file,
            format!("has {length} bytes"),
            "no certificate file is that large",
        ));
    }
    std::fs::read(file).map_err(failed)
}

fn not_pem(file: &Path, error: &pem::Error) -> TlsError {
    TlsError::new(
        file,
        format!("is no intact PEM: {error}"),
        "copy the file again",
    )
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(text, needle).is_some()
}
