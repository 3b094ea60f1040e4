//! The further way of the person with a certificate: whether it was revoked, whose account it is,
//! and whether a ticket to each mail server is given in his name.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use seg_compliance::UserKey;
use tokio::runtime::Handle;

use super::upstream::{self, Schemes};
use super::{Report, delegation};
use crate::config::{Config, UpstreamLogin};
use crate::delegate::{self, Delegation};
use crate::directory::{Directory, Verdict};
use crate::identify::{CertificateMapping, ClientCertificate, IdentityRules};
use crate::outbound::Outbound;
use crate::servers::Leg;
use crate::tls::{self, revocation};

/// From a difference of this many seconds on, Kerberos refuses.
const MAX_SKEW: u64 = 300;

/// Whether one of the certificates was revoked.
pub(super) async fn revoked(report: &mut Report, config: &Config, chain: &[CertificateDer<'_>]) {
    const PART: &str = "enable.cert.revocation.validation";
    let rules = &config.server.tls.revocation;
    if !rules.enabled {
        report.warning(
            PART,
            "revoked certificates are let in: nobody looks for them",
        );
        return;
    }
    let authorities = match revocation::Authorities::load(&config.server.tls) {
        Ok(authorities) => authorities,
        Err(error) => return report.fail(PART, error.reason, error.mend),
    };
    let outbound = Outbound::new(Handle::current());
    let revocations = revocation::Revocations::new(outbound.clone());
    if let Err(error) = revocation::fetch_all(&revocations, &outbound, config, &authorities).await {
        report.warning("remote.crl.distribution.http.uris", error);
    }
    let now = Timestamp::now();
    for list in revocations.lists().iter() {
        let part = list.source.to_string();
        match list.until {
            Some(until) if list.is_stale(now) => {
                report.warning(&part, format!("has ended on {until}; publish a new list"));
            }
            _ => report.ok(&part, format!("revokes {} certificates", list.len())),
        }
    }
    let links: Vec<_> = chain.iter().filter_map(revocation::Link::read).collect();
    match revocations.check(rules, &authorities, &links).await.refused {
        None => report.ok(PART, "the certificate was not revoked"),
        Some(why) => report.fail(PART, why, "give the device a new certificate"),
    }
}

/// The account of the certificate's user, and tickets in its name. `leaf` names nobody where `name`
/// is missing: then the directory is asked whose it is.
pub(super) async fn account(
    report: &mut Report,
    config: &Config,
    leaf: &CertificateDer<'_>,
    name: Option<&str>,
) {
    let identity = match IdentityRules::load(&config.identity) {
        Ok(identity) => identity,
        Err(error) => {
            let mend = "mend the file, or the key that names it";
            return report.fail("identity.alias.path", error.to_string(), mend);
        }
    };
    let directory = match Directory::new(config.directory.as_ref(), None) {
        Ok(directory) => directory,
        Err(error) => return report.fail("directory.url", error.reason, error.mend),
    };
    if let Some(directory) = &directory {
        device(report, config, directory, leaf).await;
    }
    let login = match (&directory, name) {
        (Some(directory), name) => in_directory(report, directory, &identity, leaf, name).await,
        (None, Some(name)) => {
            let user = identity.canonical(name);
            if user.is_none() {
                report.fail("user", "is no name", "check the certificate");
            }
            user
        }
        (None, None) => {
            let mend = "set directory.url and directory.bind.user";
            report.fail("user", "there is no directory that could name it", mend);
            None
        }
    };
    methods(report, config).await;
    if let Some(login) = login
        && config.needs_kerberos()
    {
        if let Some(directory) =
            directory.filter(|directory| !directory.config.bind_user.is_empty())
        {
            delegation::check(report, config, &directory).await;
        }
        tickets(report, config, &login).await;
    }
}

/// The device of the certificate, where the directory is asked for it.
async fn device(
    report: &mut Report,
    config: &Config,
    directory: &Arc<Directory>,
    leaf: &CertificateDer<'_>,
) {
    const PART: &str = "identity.certificate.device";
    let mapping = match CertificateMapping::load(&config.identity.certificate) {
        Ok(mapping) => mapping,
        Err(error) => return report.fail(PART, error.to_string(), "mend the file"),
    };
    let chain = std::slice::from_ref(leaf);
    let Ok(identity) = IdentityRules::load(&config.identity) else {
        return;
    };
    let Some(mut certificate) = ClientCertificate::read(chain, &mapping, &identity) else {
        return;
    };
    if !certificate.open.device {
        return;
    }
    let runtime = Handle::current();
    certificate
        .ask(directory, &runtime, &mapping, &identity)
        .await;
    match (&certificate.device, &certificate.closed) {
        (Some(device), _) => report.ok(PART, format!("the directory names {device}")),
        (None, closed) => {
            let why = closed.as_ref().map(|closed| {
                let detail = closed.detail.as_deref().unwrap_or_default();
                format!("{}: {detail}", closed.reason)
            });
            report.fail(
                PART,
                why.unwrap_or_default(),
                "let one entry that directory.device.filter finds hold the DeviceId in \
                 directory.device.attribute",
            );
        }
    }
}

/// Whether each leg's servers take what the gateway logs in with, and both legs the same.
async fn methods(report: &mut Report, config: &Config) {
    let legs = [
        ("email.server", &config.eas, true),
        ("ews.email.server", &config.ews, config.ews_enabled),
    ];
    let mut seen: Vec<(&str, Schemes)> = Vec::new();
    for (prefix, leg, _) in legs.into_iter().filter(|(_, _, open)| *open) {
        for origin in &leg.upstreams {
            let part = format!("{prefix}.host.and.port {origin}");
            match upstream::offered(leg, origin, prefix.starts_with("ews")).await {
                Ok(schemes) => {
                    let negotiates = schemes
                        .iter()
                        .any(|word| word.eq_ignore_ascii_case("Negotiate"));
                    if leg.login == UpstreamLogin::Kerberos && !negotiates {
                        report.fail(&part, upstream::NO_NEGOTIATE, upstream::WINDOWS_LOGIN);
                    }
                    if !seen.iter().any(|(known, _)| *known == prefix) {
                        seen.push((prefix, schemes));
                    }
                }
                Err(why) => report.warning(&part, why),
            }
        }
    }
    if let [(_, eas), (_, ews)] = seen.as_slice()
        && (eas != ews || config.eas.login != config.ews.login)
    {
        let words = |schemes: &Schemes| schemes.iter().cloned().collect::<Vec<_>>().join(", ");
        let message = format!(
            "ActiveSync is logged in at by {} and offers {}, EWS by {} and offers {}: a client that is set up for one may fail at the other",
            config.eas.login.word(),
            words(eas),
            config.ews.login.word(),
            words(ews)
        );
        report.warning("ways to log in", message);
    }
}

/// The name under which the domain controller knows the user; `None` where he is not let in.
async fn in_directory(
    report: &mut Report,
    directory: &Arc<Directory>,
    identity: &IdentityRules,
    leaf: &CertificateDer<'_>,
    name: Option<&str>,
) -> Option<UserKey> {
    const PART: &str = "directory.url";
    let runtime = Handle::current();
    let user = name.and_then(|name| identity.canonical(name));
    let found = match &user {
        Some(user) => directory.account(&runtime, user).await,
        None => {
            let identities = tls::alternative_identities(leaf);
            for identity in &identities {
                report.ok(PART, format!("asked for altSecurityIdentities={identity}"));
            }
            directory.mapped(&runtime, "check", identities).await
        }
    };
    let shown = user.as_ref().map_or("the certificate", UserKey::as_str);
    match found {
        None => {
            report.warning(
                PART,
                "the account can't be looked up without directory.bind.user",
            );
            user
        }
        Some(Verdict::Good(account)) => {
            report.ok(PART, format!("{shown} is {}", account.dn));
            if account.sensitive {
                let mend = "clear `account is sensitive and cannot be delegated`";
                report.fail(
                    PART,
                    "the account is sensitive and cannot be delegated",
                    mend,
                );
            }
            let in_groups = account.groups.join(", ");
            match directory.admits(&account, "", "/") {
                Ok(()) => report.ok("directory.groups.permitted", format!("is in {in_groups}")),
                Err("group_not_here") => {
                    report.ok(
                        "directory.groups.permitted",
                        format!("is in {in_groups}, for some paths"),
                    );
                }
                Err(reason) => {
                    let mend = "add the account to a group of directory.groups.permitted";
                    report.fail("directory.groups.permitted", reason, mend);
                }
            }
            identity.canonical(&directory.login_name(&account))
        }
        Some(Verdict::Refused(reason)) => {
            report.fail(
                PART,
                format!("{shown}: {reason}"),
                "look at the account in the directory",
            );
            None
        }
        Some(Verdict::Unavailable(why)) => {
            report.fail(
                PART,
                why,
                "check directory.url, directory.ca.path and directory.bind.user",
            );
            None
        }
    }
}

/// What has to be done elsewhere, for whoever stands before it for the first time.
pub(super) fn advice(report: &mut Report, config: &Config) {
    report.advise(
        "CA",
        "issue client certificates with the user principal name in the subject alternative name \
         (\"Supply in the request\" or from Active Directory), the purpose Client Authentication, \
         and a CRL or OCSP address that the gateway reaches; put root and issuing CAs into \
         server.client.ca.path",
    );
    report.advise(
        "SCEP",
        "in the management system's SCEP profile: subject CN={EmailUserName}, subject alternative \
         name User Principal Name={UserPrincipalName}, key size 2048, usage digital signature; with \
         alternative UPN suffixes see kerberos.user.name=enterprise or directory.bind.user",
    );
    let host = config.server.public_url.as_ref();
    let host = host.map_or("the gateway's name", |origin| origin.host.as_str());
    report.advise(
        "phone",
        format!(
            "one Exchange account by profile: host {host}, TLS on, the certificate as its identity, \
             no password; the gateway's own certificate must be from a CA that the phone trusts"
        ),
    );
}

async fn tickets(report: &mut Report, config: &Config, login: &UserKey) {
    let realm = login.as_str().rsplit_once('@').map(|(_, domain)| domain);
    let of_realm = config
        .kerberos
        .kdcs
        .iter()
        .filter(|kdc| realm.is_none_or(|realm| kdc.realm.eq_ignore_ascii_case(realm)));
    if of_realm.count() == 1 {
        report.warning(
            "kerberos.kdc",
            "only one domain controller is named: name a second one, or nobody logs in while it restarts",
        );
    }
    for kdc in &config.kerberos.kdcs {
        let part = format!("kerberos.kdc {}", kdc.host);
        match delegate::probe(kdc).await {
            Ok(alive) => match alive.ahead {
                Some(ahead) if ahead.unsigned_abs() > MAX_SKEW => {
                    let message = format!("its clock is {ahead} seconds ahead of ours");
                    report.fail(
                        &part,
                        message,
                        "set both clocks by NTP; 5 minutes are allowed",
                    );
                }
                _ => report.ok(&part, "answers"),
            },
            Err(why) => report.fail(&part, why, "check the address and port 88"),
        }
    }
    let Some(delegation) = Delegation::new(config, None) else {
        return;
    };
    let legs = [
        ("email.server", &config.eas, true),
        ("ews.email.server", &config.ews, config.ews_enabled),
    ];
    for (prefix, settings, _) in legs
        .into_iter()
        .filter(|(_, leg, open)| *open && leg.login == UpstreamLogin::Kerberos)
    {
        let leg = tls::client_config(&settings.tls)
            .map_err(|error| error.to_string())
            .and_then(|built| {
                Leg::new(settings, &built.config, None, false).map_err(|error| error.to_string())
            });
        let leg = match leg {
            Ok(leg) => leg,
            Err(why) => {
                report.fail(prefix, why, "mend that first");
                continue;
            }
        };
        for upstream in &leg.upstreams {
            let part = format!("{prefix}.login {}", upstream.name);
            let runtime = Handle::current();
            match delegation
                .authorize(&runtime, login, &leg, upstream, None)
                .await
            {
                Ok(_) => report.ok(&part, format!("a ticket is given in the name of {login}")),
                Err(refusal) => report.fail(&part, refusal.text, refusal.mend),
            }
        }
    }
}
