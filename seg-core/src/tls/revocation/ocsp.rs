//! One question to a responder, and its answer (RFC 6960).
//!
//! Sent without a nonce: answers are kept until their own end, so one that is replayed within it
//! says nothing that the kept one would not.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jiff::Timestamp;
use jiff::civil::DateTime;
use thiserror::Error;
use x509_parser::asn1_rs::BitString;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::verify::verify_signature;
use x509_parser::x509::AlgorithmIdentifier;

use super::{Link, Serial, serial};
use crate::der::{self, Reader, Value};

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// How far clocks may differ, in seconds.
const SKEW: i64 = 300;
/// How long an answer holds that names no end, in seconds.
const WITHOUT_END: i64 = 3600;

/// id-sha1, with NULL as its parameter.
const SHA1: &[u8] = &[
    0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00,
];
const SHA1_OID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-ad-ocsp.
const AD_OCSP: &str = "1.3.6.1.5.5.7.48.1";

/// What is asked about: a certificate as responders name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    name_hash: [u8; 20],
    key_hash: [u8; 20],
    serial: Serial,
}

/// What an answer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
    /// The responder doesn't know it.
    Unknown,
}

/// Why an answer can't be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OcspError {
    /// No OCSP response, or one of another kind.
    #[error("its answer is no OCSP response")]
    Unreadable,
    /// The responder says so itself.
    #[error("it refuses to answer (status {0})")]
    Refused(u8),
    /// Signed by nobody who may.
    #[error("its answer is not signed by the CA, nor by a responder that the CA has named")]
    Signature,
    /// About other certificates.
    #[error("its answer is about another certificate")]
    Another,
    /// Past its time, or not yet in it.
    #[error("its answer is out of date; check the clocks of both machines")]
    Stale,
}

impl CertId {
    /// The id of a certificate, given its issuer's.
    pub fn new(link: &Link, issuer: &X509Certificate<'_>) -> Self {
        Self {
            name_hash: sha1(issuer.subject().as_raw()),
            key_hash: sha1(&issuer.public_key().subject_public_key.data),
            serial: link.serial.clone(),
        }
    }

    /// The request that asks about it.
    pub fn request(&self) -> Vec<u8> {
        // An INTEGER whose first bit is set would be negative.
        let sign: &[u8] = if self.serial.first().is_none_or(|byte| *byte >= 0x80) {
            &[0]
        } else {
            &[]
        };
        let id = der::write(
            der::SEQUENCE,
            &[
                SHA1,
                &der::write(der::OCTET_STRING, &[&self.name_hash]),
                &der::write(der::OCTET_STRING, &[&self.key_hash]),
                &der::write(der::INTEGER, &[sign, &self.serial]),
            ],
        );
        let mut bytes = id;
        // Request, requestList, tbsRequest, OCSPRequest.
        for _ in 0..4 {
            bytes = der::write(der::SEQUENCE, &[&bytes]);
        }
        bytes
    }

    fn is(&self, id: Value<'_>) -> Option<bool> {
        let mut id = id.inside();
        let algorithm = id.take(der::SEQUENCE)?.inside().take(der::OID)?;
        let name = id.take(der::OCTET_STRING)?;
        let key = id.take(der::OCTET_STRING)?;
        let number = id.take(der::INTEGER)?;
        Some(
            algorithm.content == SHA1_OID
                && name.content == self.name_hash
                && key.content == self.key_hash
                && serial(number.content) == self.serial,
        )
    }
}

/// Reads an answer about `id` from a responder that `issuer` vouches for, at the time `now`. Gives
/// what it says and until when, in seconds from now.
///
/// # Errors
/// Why it can't be used.
pub fn read(
    answer: &[u8],
    id: &CertId,
    issuer: &X509Certificate<'_>,
    now: Timestamp,
) -> Result<(Answer, u64), OcspError> {
    let basic = basic_response(answer)?;
    let mut basic = Reader(basic);
    let mut parts = basic
        .take(der::SEQUENCE)
        .map(Value::inside)
        .ok_or(OcspError::Unreadable)?;
    let (data, algorithm, signature) = (|| {
        Some((
            parts.take(der::SEQUENCE)?,
            parts.take(der::SEQUENCE)?,
            parts.take(der::BIT_STRING)?,
        ))
    })()
    .ok_or(OcspError::Unreadable)?;
    let certificates = parts.take(0xa0);
    if !is_signed(data.whole, algorithm, signature, certificates, issuer, now) {
        return Err(OcspError::Signature);
    }
    single(data, id, now)
}

/// The BasicOCSPResponse inside an OCSPResponse.
fn basic_response(answer: &[u8]) -> Result<&[u8], OcspError> {
    let mut outer = Reader(answer)
        .take(der::SEQUENCE)
        .map(Value::inside)
        .ok_or(OcspError::Unreadable)?;
    let status = outer.take(der::ENUMERATED).ok_or(OcspError::Unreadable)?;
    match status.content {
        [0] => {}
        [status] => return Err(OcspError::Refused(*status)),
        _ => return Err(OcspError::Unreadable),
    }
    (|| {
        let mut bytes = outer.take(0xa0)?.inside().take(der::SEQUENCE)?.inside();
        bytes.take(der::OID).filter(|kind| kind.content == BASIC)?;
        bytes.take(der::OCTET_STRING).map(|octets| octets.content)
    })()
    .ok_or(OcspError::Unreadable)
}

/// By the issuer itself, or by somebody whom it has named (RFC 6960 4.2.2.2).
fn is_signed(
    data: &[u8],
    algorithm: Value<'_>,
    signature: Value<'_>,
    certificates: Option<Value<'_>>,
    issuer: &X509Certificate<'_>,
    now: Timestamp,
) -> bool {
    let Ok((_, algorithm)) = AlgorithmIdentifier::from_der(algorithm.whole) else {
        return false;
    };
    let Some((0, bits)) = signature.content.split_first() else {
        return false;
    };
    let signature = BitString::new(0, bits);
    let by = |signer: &X509Certificate<'_>| {
        verify_signature(signer.public_key(), &algorithm, &signature, data).is_ok()
    };
    if by(issuer) {
        return true;
    }
    let Some(mut certificates) = certificates
        .and_then(|wrapped| wrapped.inside().take(der::SEQUENCE))
        .map(Value::inside)
    else {
        return false;
    };
    // A few at most: who answers sends himself, and perhaps his CA.
    std::iter::from_fn(|| certificates.any())
        .take(8)
        .any(|value| {
            let Ok((_, signer)) = X509Certificate::from_der(value.whole) else {
                return false;
            };
            let named =
                matches!(signer.extended_key_usage(), Ok(Some(usage)) if usage.value.ocsp_signing);
            let current = x509_parser::time::ASN1Time::from_timestamp(now.as_second())
                .is_ok_and(|now| signer.validity().is_valid_at(now));
            named
                && current
                && signer.issuer().as_raw() == issuer.subject().as_raw()
                && signer.verify_signature(Some(issuer.public_key())).is_ok()
                && by(&signer)
        })
}

fn single(data: Value<'_>, id: &CertId, now: Timestamp) -> Result<(Answer, u64), OcspError> {
    let mut data = data.inside();
    data.take(0xa0);
    // Who answers, and when: the signature has said enough.
    let mut responses = (|| {
        data.any()?;
        data.take(der::GENERALIZED_TIME)?;
        data.take(der::SEQUENCE).map(Value::inside)
    })()
    .ok_or(OcspError::Unreadable)?;
    while let Some(response) = responses.take(der::SEQUENCE) {
        let mut response = response.inside();
        let about = response.take(der::SEQUENCE).ok_or(OcspError::Unreadable)?;
        if id.is(about) != Some(true) {
            continue;
        }
        let (status, made) = (|| Some((response.any()?, response.take(der::GENERALIZED_TIME)?)))()
            .ok_or(OcspError::Unreadable)?;
        let answer = match status.tag {
            0x80 => Answer::Good,
            0xa1 => Answer::Revoked,
            0x82 => Answer::Unknown,
            _ => return Err(OcspError::Unreadable),
        };
        let made = time(made.content).ok_or(OcspError::Unreadable)?;
        let until = match response.take(0xa0) {
            Some(until) => until
                .inside()
                .take(der::GENERALIZED_TIME)
                .and_then(|until| time(until.content))
                .ok_or(OcspError::Unreadable)?,
            None => made.max(now.as_second()) + WITHOUT_END,
        };
        let now = now.as_second();
        if made > now + SKEW || until + SKEW < now {
            return Err(OcspError::Stale);
        }
        return Ok((answer, u64::try_from(until - now).unwrap_or_default()));
    }
    Err(OcspError::Another)
}

/// `YYYYMMDDHHMMSSZ`, the only form that RFC 6960 allows, as seconds.
fn time(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let at = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second())
}

/// The responder that a certificate names.
pub(super) fn named_responder(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut places = certificate.extensions().iter().filter_map(|extension| {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        }
    });
    let access = places.next()?;
    access
        .accessdescs
        .iter()
        .find_map(|description| match &description.access_location {
            GeneralName::URI(uri)
                if description.access_method.to_id_string() == AD_OCSP
                    && uri.starts_with("http://") =>
            {
                Some((*uri).to_owned())
            }
            _ => None,
        })
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    hash.as_ref().try_into().unwrap_or_default()
}

/// Walks through an answer without its signature.
pub(in crate::tls) fn read_unsigned(data: &[u8]) {
    let _ = walk(data);
}

fn walk(data: &[u8]) -> Option<()> {
    let basic = basic_response(data).ok()?;
    let mut parts = Reader(basic).take(der::SEQUENCE)?.inside();
    let body = parts.take(der::SEQUENCE)?;
    let id = CertId {
        name_hash: [0; 20],
        key_hash: [0; 20],
        serial: Serial::new(),
    };
    let _ = single(body, &id, Timestamp::UNIX_EPOCH);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_standard_has_them() {
        assert_eq!(time(b"20260102030405Z"), Some(1_767_323_045));
        for text in [
            &b"20260102030405"[..],
            b"20261302030405Z",
            b"2026010203Z",
            b"",
        ] {
            assert_eq!(time(text), None);
        }
    }

    #[test]
    fn a_request_is_der() {
        let id = CertId {
            name_hash: [1; 20],
            key_hash: [2; 20],
            serial: serial(&[0, 0x90, 1]),
        };
        let bytes = id.request();
        let mut value = Reader(&bytes).take(der::SEQUENCE).expect("OCSPRequest");
        for _ in 0..3 {
            value = value.inside().take(der::SEQUENCE).expect("a level");
        }
        let about = value.inside().take(der::SEQUENCE).expect("CertID");
        assert_eq!(id.is(about), Some(true));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            read_unsigned(&data);
        }
    }
}
