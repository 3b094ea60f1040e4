//! Revocation lists, read, verified, and searched.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{Authorities, Link, Serial, Standing, serial};

/// The largest list, in bytes: some two million serial numbers.
pub(super) const MAX_BYTES: usize = 96 * 1024 * 1024;
/// Lists in one PEM file.
const MAX_IN_FILE: usize = 256;

/// id-ce-deltaCRLIndicator (RFC 5280 5.2.4).
const DELTA: &str = "2.5.29.27";

/// One list that a trusted CA has signed.
#[derive(Clone, Debug)]
pub struct List {
    /// The file or address it came from.
    pub source: Arc<str>,
    issuer: Box<[u8]>,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it holds.
    pub until: Option<Timestamp>,
    /// Whether what it doesn't name is good: not for lists of CAs, or of some reasons only.
    complete: bool,
    /// Sorted.
    serials: Vec<Serial>,
}

/// Why a list can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ListError {
    /// Neither DER nor PEM.
    #[error("is no revocation list")]
    Unreadable,
    /// More than is read.
    #[error("has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// No CA of that name.
    #[error("is of {0}, which server.client.ca.path doesn't hold")]
    Stranger(String),
    /// The signature is not the CA's.
    #[error("is not signed by {0}")]
    Signature(String),
    /// It changes another list, or speaks for other CAs.
    #[error("is {0}, which is not supported; fetch the CA's base list")]
    Unsupported(&'static str),
}

/// Reads the lists of a file or an answer, DER or PEM, and verifies each.
///
/// # Errors
/// The first that can't be used.
pub fn read_lists(
    bytes: &[u8],
    source: &Arc<str>,
    authorities: &Authorities,
) -> Result<Vec<List>, ListError> {
    if bytes.len() > MAX_BYTES {
        return Err(ListError::TooLarge);
    }
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return List::read(bytes, source, authorities).map(|list| vec![list]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .take(MAX_IN_FILE)
        .map(|der| {
            let der = der.map_err(|_| ListError::Unreadable)?;
            List::read(&der, source, authorities)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if lists.is_empty() {
        return Err(ListError::Unreadable);
    }
    Ok(lists)
}

impl List {
    fn read(der: &[u8], source: &Arc<str>, authorities: &Authorities) -> Result<Self, ListError> {
        let (_, list) =
            CertificateRevocationList::from_der(der).map_err(|_| ListError::Unreadable)?;
        let name = list.issuer().as_raw();
        let mut known = false;
        let signed = authorities.named(name).any(|authority| {
            known = true;
            list.verify_signature(authority.public_key()).is_ok()
        });
        let issuer = || list.issuer().to_string();
        if !known {
            return Err(ListError::Stranger(issuer()));
        }
        if !signed {
            return Err(ListError::Signature(issuer()));
        }
        let mut complete = true;
        for extension in list.extensions() {
            if extension.oid.to_id_string() == DELTA {
                return Err(ListError::Unsupported("a delta list"));
            }
            match extension.parsed_extension() {
                ParsedExtension::IssuingDistributionPoint(point) => {
                    if point.indirect_crl {
                        return Err(ListError::Unsupported("an indirect list"));
                    }
                    complete &= !point.only_contains_ca_certs
                        && !point.only_contains_attribute_certs
                        && point.only_some_reasons.is_none();
                }
                ParsedExtension::UnsupportedExtension { .. } if extension.critical => {
                    return Err(ListError::Unsupported(
                        "a list with an unknown critical part",
                    ));
                }
                _ => {}
            }
        }
        let mut serials: Vec<Serial> = list
            .iter_revoked_certificates()
            .map(|revoked| serial(revoked.raw_serial()))
            .collect();
        serials.sort_unstable();
        serials.shrink_to_fit();
        let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).ok();
        Ok(Self {
            source: Arc::clone(source),
            issuer: name.into(),
            made: time(list.last_update()).unwrap_or(Timestamp::MIN),
            until: list.next_update().and_then(time),
            complete,
            serials,
        })
    }

    /// How many certificates it revokes.
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether it revokes none.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    /// Whether it is past its time.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// All lists, by their CA.
#[derive(Clone, Debug, Default)]
pub struct Lists(HashMap<Box<[u8]>, Vec<Arc<List>>>);

impl Lists {
    /// Puts lists together.
    pub fn new(lists: impl IntoIterator<Item = Arc<List>>) -> Self {
        let mut by_issuer: HashMap<Box<[u8]>, Vec<Arc<List>>> = HashMap::new();
        for list in lists {
            by_issuer.entry(list.issuer.clone()).or_default().push(list);
        }
        Self(by_issuer)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &List> {
        self.0.values().flatten().map(AsRef::as_ref)
    }

    /// What they say of a certificate. A revocation counts in a stale list too: nothing but a
    /// hold is ever taken back, and a hold is a reason as well.
    pub fn standing(&self, link: &Link, now: Timestamp) -> Standing {
        let Some(lists) = self.0.get(&link.issuer) else {
            return Standing::Unknown("there is no list of its CA".to_owned());
        };
        let mut known = None;
        for list in lists {
            if list.serials.binary_search(&link.serial).is_ok() {
                return Standing::Revoked(shortened(&list.source));
            }
            if list.is_stale(now) {
                known.get_or_insert(false);
            } else if list.complete {
                known = Some(true);
            }
        }
        match known {
            Some(true) => Standing::Good,
            Some(false) => Standing::Unknown("the list of its CA is out of date".to_owned()),
            None => Standing::Unknown("the lists of its CA are partial".to_owned()),
        }
    }
}

/// A file's name, or a whole address.
fn shortened(source: &str) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    let name = Path::new(source).file_name().and_then(|name| name.to_str());
    name.unwrap_or(source).to_owned()
}
