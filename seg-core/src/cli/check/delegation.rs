//! Whether the directory lets the gateway's account ask for tickets in people's names: a domain
//! controller says no more than that it can't.

use super::Report;
use crate::config::{Config, Leg, UpstreamLogin};
use crate::directory::{Directory, Owner};

/// Looks at our own accounts, and at the service names of the mail servers.
pub(super) async fn check(report: &mut Report, config: &Config, directory: &Directory) {
    let domain = directory.domain();
    let ours = config.kerberos.principals.iter().filter_map(|principal| {
        let (name, realm) = principal.rsplit_once('@')?;
        realm.eq_ignore_ascii_case(&domain).then_some(name)
    });
    let services = services(config);
    for name in ours {
        let part = format!("kerberos.principals {name}");
        let delegate = match directory.delegate(name).await {
            Ok(Some(delegate)) => delegate,
            Ok(None) => {
                report.fail(&part, "there is no such account", "check the name");
                continue;
            }
            Err(why) => return report.fail("directory.url", why, "mend that first"),
        };
        if delegate.any_protocol {
            report.ok(&part, "may act for people whatever they have shown");
        } else {
            report.fail(
                &part,
                "is not trusted for delegation with any authentication protocol",
                "in its Delegation tab choose \"Use any authentication protocol\"",
            );
        }
        for service in &services {
            let listed = delegate
                .services
                .iter()
                .any(|one| one.eq_ignore_ascii_case(service));
            match directory.owners(service).await {
                Ok(owners) => judge(report, name, service, listed, &owners),
                Err(why) => return report.fail("directory.url", why, "mend that first"),
            }
        }
    }
}

/// Whether our account `name` may ask for tickets to a service. `listed`: it is among those to which
/// that account may delegate.
fn judge(report: &mut Report, name: &str, service: &str, listed: bool, owners: &[Owner]) {
    let part = format!("email.server.spn {service}");
    match owners {
        [] => report.fail(
            &part,
            "no account has this service name",
            "register it: setspn -S, on the mail servers' account",
        ),
        [owner] if listed => {
            report.ok(
                &part,
                format!("{}'s, and {name} may ask for it", owner.name),
            );
        }
        [owner] if owner.resource_based => report.warning(
            &part,
            format!(
                "is not in msDS-AllowedToDelegateTo of {name}; {} says itself who may act for \
                 others towards it (resource-based delegation), which not every domain \
                 controller goes by",
                owner.name
            ),
        ),
        [_] => report.fail(
            &part,
            format!("is not in msDS-AllowedToDelegateTo of {name}"),
            "add it in the Delegation tab of that account",
        ),
        _ => report.fail(
            &part,
            format!("several accounts have this service name: {}", names(owners)),
            "take it from all but one: setspn -D; setspn -X finds such names",
        ),
    }
}

fn names(owners: &[Owner]) -> String {
    let names: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
    names.join(", ")
}

/// The service name of each server that is logged in at by Kerberos.
fn services(config: &Config) -> Vec<String> {
    let legs = [Some(&config.eas), config.ews_enabled.then_some(&config.ews)];
    let by_kerberos = |leg: &&Leg| leg.login == UpstreamLogin::Kerberos;
    let mut services: Vec<String> = legs
        .into_iter()
        .flatten()
        .filter(by_kerberos)
        .flat_map(|leg| {
            leg.upstreams
                .iter()
                .map(|origin| leg.spn.replace("{host}", &origin.host))
        })
        .map(|spn| spn.split('@').next().unwrap_or_default().to_owned())
        .collect();
    services.sort();
    services.dedup();
    services
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::State;

    /// Domain controllers from Windows Server 2012 R2 on keep a service name from being given twice;
    /// those before did not.
    #[test]
    fn a_service_name_has_one_owner() {
        let owner = |name: &str| Owner {
            name: name.to_owned(),
            resource_based: false,
        };
        let said = |listed, owners: &[Owner]| {
            let mut report = Report::default();
            judge(&mut report, "svc-seg", "HTTP/mail", listed, owners);
            let finding = report.findings.pop().expect("a finding");
            (finding.state, finding.message)
        };
        assert_eq!(said(true, &[owner("a")]).0, State::Ok);
        assert_eq!(said(false, &[owner("a")]).0, State::Failed);
        let (state, message) = said(true, &[owner("a"), owner("b")]);
        assert_eq!(state, State::Failed);
        assert!(
            message.contains("several accounts have this service name: a, b"),
            "{message}"
        );
        assert!(said(true, &[]).1.contains("no account has"));
    }
}
