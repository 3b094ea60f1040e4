//! `--client-cert F [--user U]`: one person's way through the gateway, step by step.

use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use seg_compliance::UserKey;

use super::Report;
use crate::config::Config;
use crate::identify::{CertificateMapping, IdentityRules};
use crate::tls::{self, Certificate, NameSource, NoUser};

/// Walks the way of the person with this certificate.
/// What of it counts further on: the chain, and the user that it names.
pub(super) fn check(
    report: &mut Report,
    config: &Config,
    file: &Path,
    wanted: Option<&str>,
) -> Option<(Vec<CertificateDer<'static>>, Option<String>)> {
    let part = format!("--client-cert {}", file.display());
    let chain = match tls::certificates(file) {
        Ok(chain) => chain,
        Err(error) => {
            report.fail(&part, error.reason, error.mend);
            return None;
        }
    };
    let leaf = chain.first()?;
    let Some(certificate) = Certificate::read(leaf) else {
        let message = "the first certificate can't be read";
        report.fail(&part, message, "copy the file again");
        return None;
    };
    report.ok(
        &part,
        format!("{certificate}, issued by {}", certificate.issuer),
    );
    if let Some(dates) = certificate.dates_at(Timestamp::now()) {
        report.warning(&part, dates);
    }
    match tls::verify_client(&config.server.tls, &chain) {
        Ok(()) => report.ok(
            "server.client.ca.path",
            "one of its CAs has signed the certificate",
        ),
        Err(why) => report.fail("server.client.ca.path", why.reason, why.mend),
    }
    let mapping = match CertificateMapping::load(&config.identity.certificate) {
        Ok(mapping) => mapping,
        Err(error) => {
            let part = "identity.certificate.map.path";
            report.fail(part, error.to_string(), "mend the file");
            return None;
        }
    };
    if let Some(device) = mapping.device(leaf) {
        report.ok(
            "device",
            format!("the certificate belongs to {device} alone"),
        );
    }
    match mapping.user(leaf) {
        Ok(name) => {
            let source = tls::client_user(leaf, &config.identity.certificate.user);
            let by = source
                .as_ref()
                .map_or("identity.certificate.map.path", |user| user.source.place());
            report.ok("user", format!("the certificate names {name} by {by}"));
            if let Some(sid) = source.ok().and_then(|user| user.sid) {
                report.ok(
                    "user",
                    format!("the certificate is bound to the account {sid}"),
                );
            }
            same_user(report, config, &name, wanted);
            Some((chain, Some(name)))
        }
        Err(NoUser::Missing)
            if config
                .identity
                .certificate
                .user
                .contains(&NameSource::Directory) =>
        {
            report.ok(
                "user",
                "the certificate names nobody; the directory is asked whose it is",
            );
            Some((chain, None))
        }
        Err(reason) => {
            let mend = "issue the certificate with the UPN in its subject alternative name (SCEP: \
                        User Principal Name in the template), or see identity.certificate.user";
            let email = tls::client_user(leaf, &[NameSource::Email]);
            let reason = match (reason, email) {
                (NoUser::Missing, Ok(email)) => format!(
                    "{reason}, only the mail address {}; identity.certificate.user=upn,email would take it",
                    email.name
                ),
                (NoUser::Missing, Err(_)) => {
                    format!("{reason}, and no mail address either")
                }
                _ => reason.to_string(),
            };
            report.fail("user", reason, mend);
            None
        }
    }
}

/// Whether both names mean one user to the gateway: domain map, default domain and aliases make
/// one of many.
fn same_user(report: &mut Report, config: &Config, named: &str, wanted: Option<&str>) {
    let Some(wanted) = wanted else { return };
    let rules = match IdentityRules::load(&config.identity) {
        Ok(rules) => rules,
        Err(error) => {
            let mend = "mend the file, or the key that names it";
            return report.fail("identity.alias.path", error.to_string(), mend);
        }
    };
    let (by_name, by_certificate) = (rules.canonical(wanted), rules.canonical(named));
    let user = |user: &Option<UserKey>, name: &str| {
        user.as_ref()
            .map_or_else(|| name.to_owned(), |user| user.as_str().to_owned())
    };
    if by_name.is_some() && by_name == by_certificate {
        let user = user(&by_name, wanted);
        report.ok("--user", format!("is the certificate's user, {user}"));
    } else {
        let mend = "check which certificate the device has, or make the two names one user by \
                    identity.domain.map, identity.default.domain or identity.alias.path";
        report.fail(
            "--user",
            format!(
                "the certificate is for {}, not for {}",
                user(&by_certificate, named),
                user(&by_name, wanted)
            ),
            mend,
        );
    }
}
