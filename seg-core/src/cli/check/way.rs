//! The further way of the person with a certificate: whether it was revoked, whose account it is,
//! and whether a ticket to each mail server is given in his name.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use seg_compliance::UserKey;
use tokio::runtime::Handle;

use super::Report;
use crate::config::{self, Config, UpstreamLogin};
use crate::delegate::{self, Delegation};
use crate::directory::{Directory, Verdict};
use crate::identify::IdentityRules;
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

/// The account of the certificate's user, and tickets in its name.
pub(super) async fn account(report: &mut Report, config: &Config, name: &str) {
    let identity = IdentityRules::new(
        config
            .identity
            .domain_map
            .iter()
            .map(|(from, to)| (from.as_str(), to.as_str())),
        config.identity.default_domain.as_deref(),
        std::iter::empty(),
    );
    let Some(user) = identity.canonical(name) else {
        return report.fail("user", "is no name", "check the certificate");
    };
    let login = match &config.directory {
        None => Some(user),
        Some(settings) => in_directory(report, settings, &identity, &user).await,
    };
    if let Some(login) = login
        && config.needs_kerberos()
    {
        tickets(report, config, &login).await;
    }
}

/// The name under which the domain controller knows the user; `None` where he is not let in.
async fn in_directory(
    report: &mut Report,
    settings: &config::Directory,
    identity: &IdentityRules,
    user: &UserKey,
) -> Option<UserKey> {
    const PART: &str = "directory.url";
    let directory = match Directory::new(Some(settings), None) {
        Ok(directory) => directory?,
        Err(error) => {
            report.fail(PART, error.reason, error.mend);
            return None;
        }
    };
    match directory.account(&Handle::current(), user).await {
        None => {
            report.warning(
                PART,
                "the account can't be looked up without directory.bind.user",
            );
            Some(user.clone())
        }
        Some(Verdict::Good(account)) => {
            report.ok(PART, format!("{user} is {}", account.dn));
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
                format!("{user}: {reason}"),
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

async fn tickets(report: &mut Report, config: &Config, login: &UserKey) {
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
