//! Whose certificate a client showed: the user principal name in its subject alternative name, as
//! Active Directory's certificates carry it, or the common name where that is configured.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// szOID_NT_PRINCIPAL_NAME (MS-WCCE 2.2.2.7.7.3).
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";
/// szOID_NTDS_CA_SECURITY_EXT (MS-WCCE 2.2.2.7.7.4).
const SECURITY_EXTENSION: &str = "1.3.6.1.4.1.311.25.2";
/// szOID_NTDS_OBJECTSID, the name inside that extension.
const OBJECT_SID: &str = "1.3.6.1.4.1.311.25.2.1";
/// The longest name that is taken from a certificate, in bytes.
const MAX_NAME: usize = 1024;

/// The user that a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientUser {
    /// The name as it stands in the certificate.
    pub name: String,
    /// Where it stood.
    pub source: NameSource,
    /// The certificate's serial number in hexadecimal.
    pub serial: String,
    /// The account's SID (`S-1-5-21-…`), where the CA put it in; for logs and strong mapping.
    pub sid: Option<String>,
}

/// Where in a certificate a user's name stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The user principal name in the subject alternative name.
    Upn,
    /// The mail address (rfc822Name) in the subject alternative name.
    Email,
    /// The subject's common name.
    SubjectCn,
    /// The directory, which maps the certificate to an account (`altSecurityIdentities`).
    Directory,
}

impl NameSource {
    /// Reads `upn`, `email`, `cn` or `directory`.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "upn" => Ok(Self::Upn),
            "email" => Ok(Self::Email),
            "cn" => Ok(Self::SubjectCn),
            "directory" => Ok(Self::Directory),
            _ => Err(format!(
                "`{text}` is not possible, expected one of upn, email, cn, directory"
            )),
        }
    }

    /// Its place in words.
    pub fn place(self) -> &'static str {
        match self {
            Self::Upn => "its user principal name",
            Self::Email => "its mail address",
            Self::SubjectCn => "its subject's common name",
            Self::Directory => "the directory",
        }
    }
}

/// Where in a certificate a device's name may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceSource {
    /// The subject's common name.
    SubjectCn,
    /// The subject's serialNumber attribute.
    SubjectSerial,
    /// A DNS name in the subject alternative name.
    Dns,
    /// A URI in the subject alternative name, as Intune and others write it.
    Uri,
    /// A mail address in the subject alternative name.
    Email,
    /// The directory, which knows to which device the certificate belongs.
    Directory,
}

impl DeviceSource {
    /// Reads `cn`, `serial`, `dns`, `uri`, `email` or `directory`.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "cn" => Ok(Self::SubjectCn),
            "serial" => Ok(Self::SubjectSerial),
            "dns" => Ok(Self::Dns),
            "uri" => Ok(Self::Uri),
            "email" => Ok(Self::Email),
            "directory" => Ok(Self::Directory),
            _ => Err(format!(
                "`{text}` is not possible, expected one of none, cn, serial, dns, uri, email, directory"
            )),
        }
    }
}

/// Why a certificate names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUser {
    /// It can't be parsed.
    #[error("the certificate can't be parsed")]
    Unreadable,
    /// None of the configured places holds a name.
    #[error("the certificate names no user principal name")]
    Missing,
    /// There are several names in one place.
    #[error("the certificate names more than one user")]
    Ambiguous,
    /// The name is empty, too long, holds control characters, or a UPN hasn't exactly one `@`.
    #[error("the certificate's user name is malformed")]
    Malformed,
    /// `identity.certificate.user.pattern` doesn't match it.
    #[error("the certificate's user name doesn't match identity.certificate.user.pattern")]
    Unmapped,
}

/// The user that a client certificate names, in the first of `sources` that holds a name. The
/// certificate must have been verified: this only reads. A malformed name is never passed over in
/// favour of another place's.
///
/// # Errors
/// Why there is none.
pub fn client_user(
    leaf: &CertificateDer<'_>,
    sources: &[NameSource],
) -> Result<ClientUser, NoUser> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| NoUser::Unreadable)?;
    for &source in sources {
        let name = match source {
            NameSource::Upn => upn(&certificate),
            NameSource::Email => email(&certificate),
            NameSource::SubjectCn => common_name(&certificate),
            // Asked once the handshake is over: nothing waits in it.
            NameSource::Directory => Err(NoUser::Missing),
        };
        match name {
            Ok(name) => {
                return Ok(ClientUser {
                    name,
                    source,
                    serial: serial_of(&certificate),
                    sid: sid(&certificate),
                });
            }
            Err(NoUser::Missing) => {}
            Err(reason) => return Err(reason),
        }
    }
    Err(NoUser::Missing)
}

/// The device that a client certificate names. The certificate must have been verified.
///
/// # Errors
/// Why there is none.
pub fn client_device(leaf: &CertificateDer<'_>, source: DeviceSource) -> Result<String, NoUser> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| NoUser::Unreadable)?;
    match source {
        DeviceSource::SubjectCn => common_name(&certificate),
        DeviceSource::SubjectSerial => {
            let texts = certificate.subject().iter_by_oid(&OID_X509_SERIALNUMBER);
            only(texts.map(|value| value.as_str().ok()))
        }
        DeviceSource::Dns => alternative(&certificate, |name| match name {
            GeneralName::DNSName(name) => Some(name),
            _ => None,
        }),
        DeviceSource::Uri => alternative(&certificate, |name| match name {
            GeneralName::URI(name) => Some(name),
            _ => None,
        }),
        DeviceSource::Email => email(&certificate),
        // Asked once the handshake is over: nothing waits in it.
        DeviceSource::Directory => Err(NoUser::Missing),
    }
}

/// How an account's `altSecurityIdentities` may name a certificate, by the forms that nobody else
/// can get issued to him (MS-PKCA 3.1.5.2.1, "strong"): issuer and serial number, and the key's
/// identifier.
pub fn alternative_identities(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let mut forms = Vec::new();
    if let Some(issuer) = written_name(certificate.issuer()) {
        let mut serial = certificate.raw_serial().to_vec();
        serial.reverse();
        forms.push(format!("X509:<I>{issuer}<SR>{}", hex(&serial)));
    }
    let key =
        certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
                _ => None,
            });
    forms.extend(key.map(|key| format!("X509:<SKI>{}", hex(key))));
    forms
}

/// A name as Active Directory writes it in a mapping: from the root down, commas without blanks.
/// `None` where it holds what has more than one spelling.
fn written_name(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.6" => "C",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "2.5.4.3" => "CN",
            "2.5.4.7" => "L",
            "2.5.4.8" => "S",
            "0.9.2342.19200300.100.1.25" => "DC",
            "1.2.840.113549.1.9.1" => "E",
            _ => return None,
        };
        let value = attribute.as_str().ok()?;
        if value.contains([',', '"', '+', '<', '>']) {
            return None;
        }
        parts.push(format!("{kind}={value}"));
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// A certificate's serial number in lower-case hexadecimal; `None` if it is none.
pub fn serial_number(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    Some(serial_of(&certificate))
}

fn serial_of(certificate: &X509Certificate<'_>) -> String {
    hex(certificate.raw_serial())
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn email(certificate: &X509Certificate<'_>) -> Result<String, NoUser> {
    let name = alternative(certificate, |name| match name {
        GeneralName::RFC822Name(name) => Some(name),
        _ => None,
    })?;
    qualified(name)
}

/// The only subject alternative name of a kind.
fn alternative<'c>(
    certificate: &'c X509Certificate<'_>,
    kind: impl Fn(&'c GeneralName<'c>) -> Option<&'c str>,
) -> Result<String, NoUser> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| NoUser::Unreadable)?;
    let names = extension
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    only(names.iter().filter_map(kind).map(Some))
}

/// The only text; an unreadable one is `None`.
fn only<'t>(mut texts: impl Iterator<Item = Option<&'t str>>) -> Result<String, NoUser> {
    let text = texts.next().ok_or(NoUser::Missing)?;
    if texts.next().is_some() {
        return Err(NoUser::Ambiguous);
    }
    well_formed(text.ok_or(NoUser::Malformed)?.to_owned())
}

/// A name with exactly one `@`, and something on both sides of it.
fn qualified(name: String) -> Result<String, NoUser> {
    if name.matches('@').count() != 1 || name.starts_with('@') || name.ends_with('@') {
        return Err(NoUser::Malformed);
    }
    well_formed(name)
}

fn upn(certificate: &X509Certificate<'_>) -> Result<String, NoUser> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| NoUser::Unreadable)?;
    let names = extension
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut values = names.iter().filter_map(|name| match name {
        GeneralName::OtherName(oid, value) if oid.to_id_string() == UPN => Some(*value),
        _ => None,
    });
    let value = values.next().ok_or(NoUser::Missing)?;
    if values.next().is_some() {
        return Err(NoUser::Ambiguous);
    }
    let name = wrapped_text(value).ok_or(NoUser::Malformed)?;
    qualified(name)
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<String, NoUser> {
    let names = certificate.subject().iter_common_name();
    only(names.map(|name| name.as_str().ok()))
}

fn well_formed(name: String) -> Result<String, NoUser> {
    let plain = !name.chars().any(char::is_control);
    if plain && (1..=MAX_NAME).contains(&name.len()) {
        Ok(name)
    } else {
        Err(NoUser::Malformed)
    }
}

/// The text inside an otherName's `[0] EXPLICIT` (RFC 5280 4.2.1.6). UTF-8 by the book; old CAs
/// wrote IA5 or printable strings.
fn wrapped_text(value: &[u8]) -> Option<String> {
    let inner = wrapped(value)?;
    let text = std::str::from_utf8(inner.data).ok()?;
    match inner.tag() {
        Tag::Utf8String => Some(text.to_owned()),
        Tag::Ia5String | Tag::PrintableString if text.is_ascii() => Some(text.to_owned()),
        _ => None,
    }
}

/// The one value inside an explicit tag, with nothing behind it.
fn wrapped(value: &[u8]) -> Option<Any<'_>> {
    let (rest, outer) = Any::from_der(value).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (rest, inner) = Any::from_der(outer.data).ok()?;
    rest.is_empty().then_some(inner)
}

/// The SID of the security extension: a general name of otherName form that holds it as text.
fn sid(certificate: &X509Certificate<'_>) -> Option<String> {
    let extension = certificate
        .extensions()
        .iter()
        .find(|one| one.oid.to_id_string() == SECURITY_EXTENSION)?;
    let (_, sequence) = Any::from_der(extension.value).ok()?;
    let (_, name) = GeneralName::from_der(sequence.data).ok()?;
    let GeneralName::OtherName(oid, value) = name else {
        return None;
    };
    if oid.to_id_string() != OBJECT_SID {
        return None;
    }
    let text = std::str::from_utf8(wrapped(value)?.data).ok()?;
    let plausible = text.starts_with("S-1-")
        && text.len() <= 184
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'-' || b == b'S');
    plausible.then(|| text.to_owned())
}
