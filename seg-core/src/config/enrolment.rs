//! `enrolment.*`: people fetch their mail profile.

use std::path::PathBuf;

use super::reader::Reader;
use super::settings::PemPair;

/// Where profiles come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// `enrolment.profiles.path`: a folder, one profile or one folder of profiles a user.
    pub profiles: Option<PathBuf>,
    /// `enrolment.template.path`: a profile with gaps, for whom the folder holds none.
    pub template: Option<PathBuf>,
    /// `enrolment.pkcs12.path`: a folder, one file a user, for the template's certificate.
    pub pkcs12: Option<PathBuf>,
    /// `enrolment.signing.certificate.path` and `.private.key.path`.
    pub signing: Option<PemPair>,
}

/// Reads the keys; `None`: `/eas` is closed.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Enrolment> {
    const CERTIFICATE: &str = "enrolment.signing.certificate.path";
    let signing = match (
        reader.path(CERTIFICATE),
        reader.path("enrolment.signing.private.key.path"),
    ) {
        (Some(certificate), Some(key)) => Some(PemPair { certificate, key }),
        (None, None) => None,
        _ => {
            reader.refuse(
                CERTIFICATE,
                "and enrolment.signing.private.key.path need each other",
            );
            None
        }
    };
    let enrolment = Enrolment {
        profiles: reader.path("enrolment.profiles.path"),
        template: reader.path("enrolment.template.path"),
        pkcs12: reader.path("enrolment.pkcs12.path"),
        signing,
    };
    if enrolment.profiles.is_none() && enrolment.template.is_none() {
        if enrolment.pkcs12.is_some() || enrolment.signing.is_some() {
            reader.warn(
                "enrolment.template.path",
                "is empty, and so is enrolment.profiles.path: /eas stays closed",
            );
        }
        return None;
    }
    let is_empty = |key: &str| reader.raw(key).text.trim().is_empty();
    let no_certificates = reader.raw("server.client.auth").text.trim() == "none"
        && is_empty("server.client.auth.hosts")
        && is_empty("server.client.auth.listeners");
    if is_empty("directory.url") && is_empty("oauth.issuers") && no_certificates {
        reader.refuse(
            "directory.url",
            "is empty, and nobody else could tell who fetches a profile at /eas: enrolment.* needs directory.url, oauth.issuers or client certificates",
        );
    }
    Some(enrolment)
}
