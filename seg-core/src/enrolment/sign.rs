//! Signed profiles: CMS SignedData (RFC 5652 section 5) with the profile inside, one signer, his
//! chain with it, as phones want it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::PemPair;
use crate::der::{INTEGER, OCTET_STRING, OID, SEQUENCE, write};
use crate::tls::{self, TlsError};

const SET: u8 = 0x31;
const NULL: [u8; 2] = [0x05, 0x00];
const UTC_TIME: u8 = 0x17;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;

const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const CONTENT_TYPE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
const MESSAGE_DIGEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
const SIGNING_TIME: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05";
const SHA_256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const ECDSA_SHA_256: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// The digest is SHA-256 whatever the key: these two schemes sign it.
const SCHEMES: [SignatureScheme; 2] = [
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP256_SHA256,
];

/// Signs profiles.
pub struct Signer(Arc<CertifiedKey>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} certificates)", self.0.cert.len())
    }
}

impl Signer {
    /// Reads certificate, chain and key.
    ///
    /// # Errors
    /// A file that can't be used, or a key of another kind.
    pub(super) fn load(pair: &PemPair) -> Result<Self, TlsError> {
        let certified = tls::signing_pair(&pair.certificate, &pair.key)?;
        if certified.key.choose_scheme(&SCHEMES).is_none() {
            return Err(TlsError::new(
                &pair.key,
                "the key can't sign profiles",
                "use an RSA or ECDSA P-256 key",
            ));
        }
        Ok(Self(Arc::new(certified)))
    }

    /// A profile, signed; `None`: the key refuses.
    pub(super) fn sign(&self, profile: &[u8]) -> Option<Vec<u8>> {
        let leaf = self.0.cert.first()?;
        let signed = attributes(profile);
        let signer = self.0.key.choose_scheme(&SCHEMES)?;
        let scheme = signer.scheme();
        // The signature is over the set; inside the signer's part it stands under another tag.
        let signature = signer.sign(&write(SET, &[&signed])).ok()?;
        let algorithm = match scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => write(SEQUENCE, &[&write(OID, &[RSA]), &NULL]),
            _ => write(SEQUENCE, &[&write(OID, &[ECDSA_SHA_256])]),
        };
        let sha256 = write(SEQUENCE, &[&write(OID, &[SHA_256])]);
        let version = write(INTEGER, &[&[1]]);
        let signer_info = write(
            SEQUENCE,
            &[
                &version,
                &issuer_and_serial(leaf)?,
                &sha256,
                &write(CONTEXT_0, &[&signed]),
                &algorithm,
                &write(OCTET_STRING, &[&signature]),
            ],
        );
        let content = write(CONTEXT_0, &[&write(OCTET_STRING, &[profile])]);
        let certificates: Vec<&[u8]> = self.0.cert.iter().map(AsRef::as_ref).collect();
        let signed_data = write(
            SEQUENCE,
            &[
                &version,
                &write(SET, &[&sha256]),
                &write(SEQUENCE, &[&write(OID, &[DATA]), &content]),
                &write(CONTEXT_0, &certificates),
                &write(SET, &[&signer_info]),
            ],
        );
        Some(write(
            SEQUENCE,
            &[
                &write(OID, &[SIGNED_DATA]),
                &write(CONTEXT_0, &[&signed_data]),
            ],
        ))
    }
}

/// The signed attributes, in DER's order: content type, time, digest.
fn attributes(profile: &[u8]) -> Vec<u8> {
    let attribute =
        |kind: &[u8], value: &[u8]| write(SEQUENCE, &[&write(OID, &[kind]), &write(SET, &[value])]);
    let now = Timestamp::now();
    // UTCTime has two digits for the year (RFC 5652 11.3: until 2049).
    let time = now.strftime("%y%m%d%H%M%SZ").to_string();
    let hash = digest(&SHA256, profile);
    let mut all = [
        attribute(CONTENT_TYPE, &write(OID, &[DATA])),
        attribute(SIGNING_TIME, &write(UTC_TIME, &[time.as_bytes()])),
        attribute(MESSAGE_DIGEST, &write(OCTET_STRING, &[hash.as_ref()])),
    ];
    all.sort();
    all.concat()
}

fn issuer_and_serial(leaf: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let serial = write(INTEGER, &[certificate.raw_serial()]);
    Some(write(SEQUENCE, &[certificate.issuer().as_raw(), &serial]))
}
