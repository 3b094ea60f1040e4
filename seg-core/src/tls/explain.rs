//! rustls' errors as sentences: what is wrong with the other side, and what to do about it.

use rustls::{CertificateError, Error};

/// A TLS failure for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub mend: &'static str,
}

/// Explains why a handshake with a mail server failed.
pub fn explain(error: &Error) -> Explanation {
    let (reason, mend) = match error {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::AlertReceived(alert) => (
            format!("it refused the handshake with the alert {alert:?}"),
            "it may want a client certificate: see email.server.client.certificate.path",
        ),
        Error::PeerIncompatible(why) => (
            format!("it speaks no TLS that is accepted here: {why:?}"),
            "it must offer TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3",
        ),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => (
            "what it speaks is no TLS".to_owned(),
            "check the port, and http:// against https://",
        ),
        other => (other.to_string(), "look into the mail server's log"),
    };
    Explanation { reason, mend }
}

fn of_certificate(error: &CertificateError) -> (String, &'static str) {
    const CA: &str = "give the CA that signed it in email.server.ca.path";
    match error {
        CertificateError::UnknownIssuer => {
            ("its certificate was signed by a CA that isn't trusted".to_owned(), CA)
        }
        CertificateError::BadSignature => (
            "its certificate was signed by a CA with the name of a trusted one, but with another key"
                .to_owned(),
            CA,
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (format!("its certificate has expired ({error})"), "renew the mail server's certificate")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (format!("its certificate is not valid yet ({error})"), "check the clocks of both machines")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("its certificate is for another name ({error})"),
            "use a name of the certificate in email.server.host.and.port",
        ),
        CertificateError::Revoked => {
            ("its certificate was revoked".to_owned(), "renew the mail server's certificate")
        }
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
            (format!("its certificate can't be read ({error})"), "renew the mail server's certificate")
        }
        CertificateError::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity") => (
            "its certificate is a CA's own".to_owned(),
            "give the mail server a certificate of its own, signed by that CA",
        ),
        other => (format!("its certificate is refused: {other}"), CA),
    }
}
