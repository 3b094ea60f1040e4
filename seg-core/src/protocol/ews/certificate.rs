//! What `[ews]` wants to know of a client's certificate.

use rustls::pki_types::CertificateDer;
use seg_ews::policy::CertificatePart;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The parts of a verified client certificate that name a client or a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's distinguished name.
    pub subject: String,
    common_name: Option<String>,
    serial: String,
    uri: Option<String>,
}

impl ClientCertificate {
    /// Reads a certificate that has been verified; `None` if it can't be read.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let serial: String = parsed
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let names = parsed.subject_alternative_name().ok().flatten();
        let uri = names.and_then(|names| {
            names
                .value
                .general_names
                .iter()
                .find_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                })
        });
        Some(Self {
            subject: parsed.subject().to_string(),
            common_name: parsed
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            serial: serial.trim_start_matches('0').to_owned(),
            uri,
        })
    }

    /// The text of that part that names the device.
    pub fn part(&self, part: CertificatePart) -> Option<&str> {
        let text = match part {
            CertificatePart::CommonName => self.common_name.as_deref(),
            CertificatePart::Serial => Some(self.serial.as_str()),
            CertificatePart::Uri => self
                .uri
                .as_deref()
                .and_then(|uri| uri.rsplit(['/', ':']).next()),
        };
        text.filter(|text| !text.is_empty())
    }
}
