//! rustls' errors as sentences: what is wrong with the other side, and what to do about it.

use rustls::{AlertDescription, CertificateError, Error};

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

/// Explains why a client's handshake failed.
pub fn explain_client(error: &Error) -> Explanation {
    const CA: &str = "add the CA that signed it to server.client.ca.path";
    const RENEW: &str = "give the device a new certificate";
    let (reason, mend) = match error {
        Error::NoCertificatesPresented => (
            "the client showed no certificate".to_owned(),
            "give the device a certificate, or set server.client.auth=optional",
        ),
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => (
                "the client's certificate was signed by a CA that isn't trusted".to_owned(),
                CA,
            ),
            CertificateError::BadSignature => (
                "the client's certificate was signed by a CA with the name of a trusted one, but \
                 with another key"
                    .to_owned(),
                CA,
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
                "the client's certificate isn't meant for client authentication".to_owned(),
                "issue it with the extended key usage clientAuth",
            ),
            other => (
                format!("the client's certificate is refused: {other}"),
                RENEW,
            ),
        },
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => (
            format!("the client doesn't accept this gateway's certificate ({error})"),
            "use a certificate of a public CA, or install the CA on the device",
        ),
        Error::PeerIncompatible(why) => (
            format!("the client speaks no TLS that is accepted here: {why:?}"),
            "see server.tls.min.version and server.tls.cipher.suites",
        ),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => (
            "what the client speaks is no TLS".to_owned(),
            "it must use https://",
        ),
        other => (other.to_string(), "look at what the client says"),
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
