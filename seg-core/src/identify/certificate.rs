//! Whose a verified client certificate is, and how it is told to the server behind.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use seg_compliance::{DeviceKey, UserKey};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::IdentityRules;
use crate::config::certificate_map::{self, CertificateMap};
use crate::config::{CertificateHeader, CertificateRules, DeviceField, TableError};
use crate::tls::revocation::Link;
use crate::tls::{self, ClientUser, DeviceSource, NameSource, NoUser};
use crate::transform::Inward;

/// A verified client certificate, as the requests of its connection know it.
#[derive(Debug)]
pub struct ClientCertificate {
    leaf: CertificateDer<'static>,
    /// The chain as revocation lists name it, leaf first.
    pub links: Vec<Link>,
    /// The user whom it names, in canonical form.
    pub user: Option<UserKey>,
    /// The name as it stands in the certificate, or as the configuration maps it.
    pub user_name: Option<Box<str>>,
    /// The device that it names.
    pub device: Option<DeviceKey>,
    /// What of it only the directory knows.
    pub open: Open,
    /// Why nothing is served with it.
    pub closed: Option<Box<Closed>>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    written: [OnceLock<HeaderValue>; 3],
}

/// What a certificate does not say itself, and the directory is to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Whose it is.
    pub user: bool,
    /// To which device it belongs.
    pub device: bool,
}

/// Why nothing is served with a certificate that counts otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// A word for logs and metrics.
    pub reason: &'static str,
    /// More of it, for the log.
    pub detail: Option<String>,
    /// It may be otherwise in a moment.
    pub later: bool,
}

/// Who issued a certificate, and for how long: by which one is known as another one's renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The issuer's name.
    pub issuer: String,
    /// From when on it counts, in seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

/// How certificates become users and devices: `identity.certificate.*`.
#[derive(Clone, Debug)]
pub struct CertificateMapping {
    rules: CertificateRules,
    map: CertificateMap,
}

impl CertificateMapping {
    /// Out of the configuration.
    pub fn new(rules: CertificateRules, map: CertificateMap) -> Self {
        Self { rules, map }
    }

    /// Out of the configuration, its table read.
    ///
    /// # Errors
    /// A table that can't be used.
    pub fn load(rules: &CertificateRules) -> Result<Self, TableError> {
        let map = match &rules.map_path {
            Some(path) => certificate_map::load(path)?,
            None => CertificateMap::default(),
        };
        Ok(Self::new(rules.clone(), map))
    }

    /// The user's name, before it is made canonical.
    ///
    /// # Errors
    /// Why the certificate names nobody.
    pub fn user(&self, leaf: &CertificateDer<'_>) -> Result<String, NoUser> {
        let serial = tls::serial_number(leaf).ok_or(NoUser::Unreadable)?;
        if let Some(user) = self.map.row(&serial).and_then(|row| row.user.as_deref()) {
            return Ok(user.to_owned());
        }
        let ClientUser { name, .. } = tls::client_user(leaf, &self.rules.user)?;
        let mapped = match (&self.rules.user_pattern, &self.rules.user_as) {
            (None, _) => Some(name),
            (Some(pattern), None) => pattern.first(&name).map(str::to_owned),
            (Some(pattern), Some(template)) => pattern.fill(&name, template),
        };
        mapped
            .filter(|name| !name.is_empty())
            .ok_or(NoUser::Unmapped)
    }

    /// The device, as it would stand in a request; `None` where the certificate names none.
    pub fn device(&self, leaf: &CertificateDer<'_>) -> Option<String> {
        let serial = tls::serial_number(leaf)?;
        if let Some(device) = self.map.row(&serial).and_then(|row| row.device.as_deref()) {
            return Some(device.to_owned());
        }
        let name = tls::client_device(leaf, self.rules.device?).ok()?;
        self.device_in(&name).map(str::to_owned)
    }

    /// The part of a name that is the DeviceId.
    pub fn device_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        match &self.rules.device_pattern {
            None => Some(name),
            Some(pattern) => pattern.first(name),
        }
    }

    /// What of a certificate the directory is to be asked.
    fn open(&self, user: &Result<String, NoUser>, device: Option<&DeviceKey>) -> Open {
        let by_directory = self.rules.user.contains(&NameSource::Directory);
        Open {
            user: by_directory && matches!(user, Err(NoUser::Missing)),
            device: device.is_none() && self.rules.device == Some(DeviceSource::Directory),
        }
    }
}

impl ClientCertificate {
    /// What a verified chain says, leaf first; `None` for an empty one.
    pub fn read(
        chain: &[CertificateDer<'_>],
        mapping: &CertificateMapping,
        identity: &IdentityRules,
    ) -> Option<Self> {
        let leaf = chain.first()?;
        let user_name = mapping.user(leaf);
        let device = mapping.device(leaf).and_then(|text| device_key(&text));
        let open = mapping.open(&user_name, device.as_ref());
        let user_name = user_name.ok();
        let mut fingerprint = [0; 32];
        let hash = digest(&SHA256, leaf);
        for (to, from) in fingerprint.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        Some(Self {
            links: chain.iter().filter_map(Link::read).collect(),
            user: user_name
                .as_deref()
                .and_then(|name| identity.canonical(name)),
            user_name: user_name.map(Into::into),
            device,
            open,
            closed: None,
            fingerprint,
            leaf: leaf.clone().into_owned(),
            written: Default::default(),
        })
    }

    /// What may be filled in where the directory is asked for it.
    pub fn field(&self, field: DeviceField) -> Vec<String> {
        let one = match field {
            DeviceField::Identity => return tls::alternative_identities(&self.leaf),
            // As openssl prints it: a first byte of zeros only keeps it positive.
            DeviceField::Serial => {
                let serial = self.serial();
                let shown = serial.strip_prefix("00").filter(|rest| !rest.is_empty());
                Some(shown.unwrap_or(&serial).to_owned())
            }
            DeviceField::Fingerprint => Some(self.fingerprint_text()),
            DeviceField::User => self.user.as_ref().map(|user| user.as_str().to_owned()),
            DeviceField::Name(source) => tls::client_device(&self.leaf, source).ok(),
        };
        one.into_iter().collect()
    }

    /// Its serial number in hexadecimal, for the log.
    pub fn serial(&self) -> String {
        tls::serial_number(&self.leaf).unwrap_or_default()
    }

    /// Its SHA-256 in hexadecimal.
    pub fn fingerprint_text(&self) -> String {
        self.fingerprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Who issued it, and for how long.
    pub fn term(&self) -> Option<Term> {
        let (_, read) = X509Certificate::from_der(&self.leaf).ok()?;
        let validity = read.validity();
        Some(Term {
            issuer: read.issuer().to_string(),
            from: validity.not_before.timestamp(),
            until: validity.not_after.timestamp(),
        })
    }

    /// Tells the server of it. The header from outside is gone by then.
    pub fn tell(&self, inward: &mut Inward, form: CertificateHeader) {
        let (slot, name) = match form {
            CertificateHeader::None => return,
            CertificateHeader::ClientCert => (0, HeaderName::from_static("client-cert")),
            CertificateHeader::XSslClientCert => (1, HeaderName::from_static("x-ssl-client-cert")),
            CertificateHeader::NsClientCert => (2, HeaderName::from_static("nsclientcert")),
        };
        let Some(written) = self.written.get(slot) else {
            return;
        };
        let value = written.get_or_init(|| {
            let text = self.written(form);
            HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
                // All of it is base64 and percent signs.
                .unwrap_or_else(|_| HeaderValue::from_static(""))
        });
        inward.add(&name, value);
    }

    /// The value of a header of this name that tells of it, in the form that the name is known
    /// for; base64 for any other.
    pub fn line(&self, name: &HeaderName) -> HeaderValue {
        let form = match name.as_str() {
            "client-cert" => CertificateHeader::ClientCert,
            "x-ssl-client-cert" => CertificateHeader::XSslClientCert,
            _ => CertificateHeader::NsClientCert,
        };
        HeaderValue::try_from(self.written(form)).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn written(&self, form: CertificateHeader) -> String {
        let base64 = BASE64_STANDARD.encode(&self.leaf);
        match form {
            // A byte sequence of structured fields (RFC 8941 section 3.3.5).
            CertificateHeader::ClientCert => format!(":{base64}:"),
            CertificateHeader::XSslClientCert => escaped_pem(&base64),
            CertificateHeader::None | CertificateHeader::NsClientCert => base64,
        }
    }
}

/// A DeviceId as it stands in a certificate, or in an entry about one.
pub(super) fn device_key(text: &str) -> Option<DeviceKey> {
    let id = seg_eas::DeviceId::parse_text(text).ok()?;
    DeviceKey::new(id.as_str()).ok()
}

/// PEM with everything but letters, digits and `-._~` as percent signs.
fn escaped_pem(base64: &str) -> String {
    let mut text = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (index, c) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push_str("%0A");
        }
        match c {
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            c => text.push(c),
        }
    }
    text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    text
}
