//! `--client-cert F [--user U]`: one person's way through the gateway, step by step.

use std::path::Path;

use jiff::Timestamp;

use super::Report;
use crate::config::Config;
use crate::tls::{self, Certificate};

/// Walks the way of the person with this certificate.
pub(super) fn check(report: &mut Report, config: &Config, file: &Path, wanted: Option<&str>) {
    let part = format!("--client-cert {}", file.display());
    let chain = match tls::certificates(file) {
        Ok(chain) => chain,
        Err(error) => return report.fail(&part, error.reason, error.mend),
    };
    let Some(leaf) = chain.first() else { return };
    let Some(certificate) = Certificate::read(leaf) else {
        return report.fail(
            &part,
            "the first certificate can't be read",
            "copy the file again",
        );
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
    match tls::client_user(leaf, &config.identity.certificate.user) {
        Ok(user) => {
            report.ok(
                "user",
                format!(
                    "the certificate names {} by {}",
                    user.name,
                    user.source.place()
                ),
            );
            if let Some(sid) = &user.sid {
                report.ok(
                    "user",
                    format!("the certificate is bound to the account {sid}"),
                );
            }
            same_user(report, &user.name, wanted);
        }
        Err(reason) => {
            let mend = "issue the certificate with the UPN in its subject alternative name, or set \
                        enable.upn.lookup.from.subject.cn";
            report.fail("user", reason.to_string(), mend);
        }
    }
}

fn same_user(report: &mut Report, named: &str, wanted: Option<&str>) {
    let Some(wanted) = wanted else { return };
    if named.eq_ignore_ascii_case(wanted) {
        report.ok("--user", "is the certificate's user");
    } else {
        let mend = "check which certificate the device has, or add an alias to identity.alias.path";
        report.fail(
            "--user",
            format!("the certificate is for {named}, not for {wanted}"),
            mend,
        );
    }
}
