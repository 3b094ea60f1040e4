//! The other ways: pass-through routes, the proxy for what is not mail, and ways around the gateway as
//! far as they can be seen from here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;

use super::upstream::{Line, resolve, told_addresses};
use super::{Report, local};
use crate::config::{Config, Origin, Route, UpstreamTls};
use crate::redirect::is_public;
use crate::tls;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Looks at all of them.
pub(super) async fn check(report: &mut Report, config: &Config) {
    for (name, route) in &config.routes {
        pass_through(report, name, route).await;
    }
    if let Some(proxy) = &config.outbound_proxy {
        let part = format!("outbound.proxy.url {}", proxy.origin);
        reachable(report, &part, &proxy.origin).await;
    }
    around(report, config).await;
}

/// The servers of a route: each must resolve, connect, prove who it is, and answer whatever it likes.
async fn pass_through(report: &mut Report, name: &str, route: &Route) {
    if let Some(bundle) = &route.ca {
        local::authorities(report, &format!("route.{name}.ca.path"), bundle);
    }
    let trust = UpstreamTls {
        ca: route.ca.clone(),
        ..UpstreamTls::default()
    };
    // A bundle that can't be used has its line.
    let Ok(built) = tls::client_config(&trust) else {
        return;
    };
    for origin in &route.upstreams {
        let part = format!("route.{name}.upstream {origin}");
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: seg-check\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            route.path,
            route
                .hosts
                .first()
                .cloned()
                .unwrap_or_else(|| origin.authority()),
        );
        let answered = async {
            let addresses = resolve(origin).await?;
            told_addresses(report, &part, origin, &addresses);
            let line = Line {
                origin,
                addresses: &addresses,
                tls: &built.config,
                connect: CONNECT,
            };
            line.exchange(&request).await
        };
        match answered.await {
            Err(failure) => report.fail(&part, failure.reason, failure.mend),
            Ok(answer) => {
                report.ok(
                    &part,
                    format!("answers {} at {}", answer.status, route.path),
                );
                if let Some(certificate) = &answer.certificate {
                    report.ok(&part, format!("shows the certificate {certificate}"));
                    if let Some(dates) = certificate.dates_at(Timestamp::now()) {
                        report.warning(&part, format!("its certificate {dates}"));
                    }
                }
            }
        }
    }
}

/// Whether something listens there.
async fn reachable(report: &mut Report, part: &str, origin: &Origin) {
    let addresses = match resolve(origin).await {
        Ok(addresses) => addresses,
        Err(failure) => return report.fail(part, failure.reason, failure.mend),
    };
    told_addresses(report, part, origin, &addresses);
    match connected(&addresses).await {
        true => report.ok(part, "takes connections"),
        false => report.fail(
            part,
            "can't be connected to",
            "check that the proxy runs, and that no firewall stands in between",
        ),
    }
}

async fn connected(addresses: &[SocketAddr]) -> bool {
    for address in addresses {
        let connecting = tokio::net::TcpStream::connect(address);
        if let Ok(Ok(_)) = tokio::time::timeout(CONNECT, connecting).await {
            return true;
        }
    }
    false
}

/// Ways that a client could take instead of ours: a mail server with a public address, and an
/// Autodiscover name that leads elsewhere. What can be seen from inside need not be open outside:
/// advice, no failure.
async fn around(report: &mut Report, config: &Config) {
    let servers = config.eas.upstreams.iter().chain(&config.ews.upstreams);
    let mut seen = BTreeSet::new();
    for origin in servers.filter(|origin| seen.insert(origin.to_string())) {
        // Where it does not resolve, that has been said.
        let addresses = resolve(origin).await.unwrap_or_default();
        let public: Vec<SocketAddr> = of_the_public(&addresses);
        if connected(&public).await {
            let part = format!("way around {origin}");
            report.warning(&part, open_to_all(&public));
        }
    }
    let (Some(ours), Some(domain)) = (&config.server.public_url, &config.identity.default_domain)
    else {
        return;
    };
    let host = format!("autodiscover.{domain}");
    let Ok(name) = Origin::parse(&format!("https://{host}")) else {
        return;
    };
    let (Ok(there), Ok(here)) = (resolve(&name).await, resolve(ours).await) else {
        return;
    };
    if let Some(elsewhere) = leads_elsewhere(&host, &there, &here) {
        report.warning("way around server.public.url", elsewhere);
    }
}

fn of_the_public(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let public = |address: &&SocketAddr| is_public(address.ip());
    addresses.iter().filter(public).copied().collect()
}

fn open_to_all(public: &[SocketAddr]) -> String {
    format!(
        "it answers at {}, an address of the public network: who knows it may go around the gateway; \
         let it take connections from the gateway alone",
        ips(public)
    )
}

/// What is said where a name leads to other addresses than ours.
fn leads_elsewhere(host: &str, there: &[SocketAddr], here: &[SocketAddr]) -> Option<String> {
    let ours: BTreeSet<IpAddr> = here.iter().map(SocketAddr::ip).collect();
    let other = there.iter().filter(|address| !ours.contains(&address.ip()));
    let other: Vec<SocketAddr> = other.copied().collect();
    (!other.is_empty()).then(|| {
        format!(
            "{host} leads to {}, and server.public.url to {}: clients that look for their server are \
             led around the gateway; let the name lead here",
            ips(&other),
            ips(here)
        )
    })
}

fn ips(addresses: &[SocketAddr]) -> String {
    let ips: BTreeSet<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    ips.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ips: &[&str]) -> Vec<SocketAddr> {
        let parse = |ip: &&str| SocketAddr::new(ip.parse().expect("an address"), 443);
        ips.iter().map(parse).collect()
    }

    #[test]
    fn a_server_with_a_public_address_is_a_way_around() {
        let all = at(&[
            "10.0.0.1",
            "203.0.113.7",
            "::1",
            "2001:db8::1",
            "169.254.169.254",
        ]);
        let public = of_the_public(&all);
        assert_eq!(public, at(&["203.0.113.7", "2001:db8::1"]));
        assert!(open_to_all(&public).contains("2001:db8::1, 203.0.113.7"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_a_way_around() {
        let (ours, host) = (at(&["203.0.113.7"]), "autodiscover.corp.example");
        assert_eq!(leads_elsewhere(host, &ours, &ours), None);
        assert_eq!(leads_elsewhere(host, &[], &ours), None);
        let elsewhere = leads_elsewhere(host, &at(&["203.0.113.7", "203.0.113.8"]), &ours);
        let said = elsewhere.expect("advice");
        assert!(said.contains("leads to 203.0.113.8, and"), "{said}");
    }
}
