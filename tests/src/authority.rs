//! Certificates for the tests: an authority of their own, and what it signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, OtherNameValue, SanType};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// `szOID_NT_PRINCIPAL_NAME`.
const UPN: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 20, 2, 3];

/// A certificate authority that lives as long as a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Identity {
    /// What a TLS server that shows it and asks for none is set up with.
    ///
    /// # Panics
    /// When certificate and key don't fit.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .expect("a chain in PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key in PEM");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        Arc::new(config)
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a self-signed certificate"))
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server certificate for these DNS names and addresses.
    ///
    /// # Panics
    /// When a name can't stand in a certificate.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate whose subject alternative name is this UPN (the form that Active
    /// Directory gives to smart cards and devices).
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn client(&self, upn: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::OtherName((
            UPN.to_vec(),
            OtherNameValue::Utf8String(upn.to_owned()),
        ))];
        self.sign(params)
    }

    /// A client certificate with this serial number, for a UPN, if any; its common name is
    /// `client-<serial>`.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn numbered_client(&self, upn: Option<&str>, serial: u64) -> Identity {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
            .distinguished_name
            .push(DnType::CommonName, format!("client-{serial}"));
        let name = |upn: &str| OtherNameValue::Utf8String(upn.to_owned());
        params.subject_alt_names = upn
            .map(|upn| SanType::OtherName((UPN.to_vec(), name(upn))))
            .into_iter()
            .collect();
        self.sign(params)
    }

    /// A list that revokes these serial numbers, in PEM.
    ///
    /// # Panics
    /// When it can't be signed.
    #[must_use]
    pub fn revoke(&self, serials: &[u64]) -> String {
        let day = |year| rcgen::date_time_ymd(year, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: day(2026),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: day(2026),
            next_update: day(2096),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("a signed list");
        list.pem().expect("PEM")
    }

    /// Its private key, in PEM, for a responder.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.0.key().serialize_pem()
    }

    fn sign(&self, mut params: CertificateParams) -> Identity {
        // Python's ssl wants the key identifiers to chain.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("a signed certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Writes `<name>.crt` and `<name>.key` and returns their paths.
    ///
    /// # Panics
    /// When the folder can't be written.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.crt"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).expect("the folder can be written");
        std::fs::write(&key, &self.key).expect("the folder can be written");
        (certificate, key)
    }
}
