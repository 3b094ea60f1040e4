//! What a person and a metric want to know of a certificate.

use std::fmt;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// The readable parts of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The host names it is valid for; IP addresses in their usual form.
    pub names: Vec<String>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until: the value of `seg_certificate_expiry_seconds`, in seconds of the Unix epoch.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            names: names(&parsed),
            not_before: timestamp(parsed.validity().not_before)?,
            not_after: timestamp(parsed.validity().not_after)?,
        })
    }

    /// Whether it is for this host: a name of its own, or one label below a `*.` name (RFC 6125
    /// section 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        let above = host.split_once('.').map(|(_, above)| above);
        self.names.iter().any(|name| {
            let wild = name.strip_prefix("*.").zip(above);
            name.eq_ignore_ascii_case(host)
                || wild.is_some_and(|(domain, above)| domain.eq_ignore_ascii_case(above))
        })
    }

    /// What is wrong with its dates at some time: a sentence, or `None` while there is nothing to
    /// say. The last 14 days count as something.
    pub fn dates_at(&self, now: Timestamp) -> Option<String> {
        const DAY: i64 = 86_400;
        let left = self.not_after.as_second() - now.as_second();
        if now < self.not_before {
            Some(format!("is valid from {} only", self.not_before))
        } else if left < 0 {
            Some(format!("expired on {}", self.not_after))
        } else if left < 14 * DAY {
            Some(format!(
                "expires on {}, in {} days",
                self.not_after,
                left / DAY
            ))
        } else {
            None
        }
    }
}

/// Subject, names and end of validity in one line.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if !self.names.is_empty() {
            write!(f, " for {}", self.names.join(", "))?;
        }
        write!(f, ", valid until {}", self.not_after)
    }
}

/// The `tls-server-end-point` channel binding of a server's certificate (RFC 5929 section 4.1):
/// hashed as the certificate is signed, but never weaker than SHA-256.
pub fn end_point_binding(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // With RSA, and with ECDSA.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &SHA512,
        _ => &SHA256,
    };
    let mut binding = b"tls-server-end-point:".to_vec();
    binding.extend_from_slice(digest(algorithm, certificate).as_ref());
    Some(binding)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|v4| std::net::IpAddr::from(v4).to_string())
            .or_else(|_| {
                <[u8; 16]>::try_from(*bytes).map(|v6| std::net::IpAddr::from(v6).to_string())
            })
            .ok(),
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}
