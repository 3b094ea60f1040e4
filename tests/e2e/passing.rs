//! Other services behind the same address: by host, path and priority, and never around the
//! verdict.

use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions};
use seg_tests::eas::Request;
use seg_tests::wire::{Wire, client_config};
use seg_tests::{Gateway, GatewayBuilder};

use crate::sandbox::{self, arrivals, folder_sync, is_served};

fn service() -> Sandbox {
    Sandbox::start(SandboxOptions::plain()).expect("a sandbox")
}

fn get(host: &str, path: &str) -> Request {
    Request::new("GET", path)
        .without("Host")
        .header("Host", host)
}

fn others(service: &Sandbox) -> u64 {
    service.count(&Filter::kind(Kind::Other))
}

fn before(mail: &Sandbox, mdm: &Sandbox) -> GatewayBuilder {
    Gateway::before(mail)
        .set("route.mdm.path", "/zdm")
        .set("route.mdm.upstream", mdm.url())
}

#[tokio::test]
async fn requests_go_by_host_path_and_priority() {
    let (mail, mdm, portal, rest) = (sandbox::start(), service(), service(), service());
    let gateway = before(&mail, &mdm)
        .set("route.portal.host", "portal.example")
        .set("route.portal.path", "/zdm/portal")
        .set("route.portal.priority", "5")
        .set("route.portal.upstream", portal.url())
        .set("route.rest.host", "rest.example")
        .set("route.rest.upstream", rest.url())
        .start()
        .await;
    for (host, path, to) in [
        ("localhost", "/zdm", Some(&mdm)),
        ("localhost", "/ZDM/enrol?x=%2e%2e", Some(&mdm)),
        ("localhost", "/zdm/portal", Some(&mdm)),
        ("portal.example", "/zdm/portal/x", Some(&portal)),
        ("portal.example", "/zdm/other", Some(&mdm)),
        ("rest.example", "/anything/", Some(&rest)),
        ("localhost", "/zdmx", None),
        ("localhost", "/", None),
        ("localhost", "/zdm/../x", None),
        ("localhost", "/zdm%2f..", None),
    ] {
        let before = [&mdm, &portal, &rest].map(others);
        let status = gateway.ask(&get(host, path)).await.status();
        let after = [&mdm, &portal, &rest].map(others);
        match to {
            // The sandbox asks everybody for a name.
            Some(to) => {
                assert_eq!(status, 401, "{host}{path}");
                let seen = to.last(&Filter::kind(Kind::Other)).expect("a request");
                assert_eq!(
                    seen.head.header("host"),
                    Some(host.as_bytes()),
                    "{host}{path}"
                );
                assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1);
            }
            None => {
                assert!([400, 404].contains(&status), "{host}{path}: {status}");
                assert_eq!(before, after, "{host}{path}");
            }
        }
    }
}

#[tokio::test]
async fn no_route_publishes_mail_around_the_verdict() {
    let (mail, rest) = (sandbox::start(), service());
    let gateway = Gateway::before(&mail)
        .set("enable.boxer.ens.ews.proxy", "false")
        .set("route.rest.path", "/")
        .set("route.rest.priority", "1000")
        .set("route.rest.upstream", rest.url())
        .start()
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("JUDGED")).await));
    gateway.admin.block("JUDGED").await;
    assert!(!is_served(&gateway.ask(&folder_sync("JUDGED")).await));
    for path in [
        "/EWS/Exchange.asmx",
        "/ews/mrsproxy.svc",
        "/Microsoft-Server-ActiveSync/x",
        "/mapi/emsmdb",
        "/autodiscover/autodiscover.xml",
        "/PowerShell/",
        "/owa/",
    ] {
        assert_eq!(
            gateway.ask(&get("localhost", path)).await.status(),
            404,
            "{path}"
        );
    }
    assert_eq!(arrivals(&rest), 0);
    assert_eq!(gateway.ask(&get("localhost", "/else")).await.status(), 401);
    assert_eq!(others(&rest), 1);
}

#[tokio::test]
async fn sizes_are_limited_upgrades_are_refused_and_claims_are_removed() {
    let (mail, mdm) = (sandbox::start(), service());
    let gateway = before(&mail, &mdm)
        .set("route.mdm.body.max.bytes", "10")
        .set("route.mdm.client.cert.header", "X-Client-Certificate")
        .set("route.mdm.host.header", "upstream")
        .start()
        .await;
    let large = Request::new("POST", "/zdm/x").body("12345678901");
    assert_eq!(gateway.ask(&large).await.status(), 413);
    let upgrade = get("localhost", "/zdm/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    assert_eq!(gateway.ask(&upgrade).await.status(), 403);
    assert_eq!(others(&mdm), 0);

    let claims = get("localhost", "/zdm/x")
        .header("X-Client-Certificate", "mine")
        .header("NSClientCert", "mine")
        .header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(gateway.ask(&claims).await.status(), 401);
    let seen = mdm
        .last(&Filter::kind(Kind::Other))
        .expect("a request")
        .head;
    assert_eq!(seen.header("x-client-certificate"), None);
    assert_eq!(seen.header("nsclientcert"), None);
    assert_eq!(seen.header("x-forwarded-for"), Some(&b"127.0.0.1"[..]));
    assert_eq!(seen.header("host"), Some(mdm.addr().to_string().as_bytes()));
}

#[tokio::test]
async fn a_service_that_is_gone_is_a_503_and_mail_goes_on() {
    let (mail, mdm) = (sandbox::start(), service());
    let gateway = before(&mail, &mdm).start().await;
    drop(mdm);
    let answer = gateway.ask(&get("localhost", "/zdm/x")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").is_some());
    assert!(is_served(&gateway.ask(&folder_sync("GOESON")).await));
}

#[tokio::test]
async fn the_server_behind_a_route_is_shown_the_clients_certificate() {
    let (mail, mdm) = (sandbox::start(), service());
    let people = seg_tests::authority::Authority::new();
    let gateway = before(&mail, &mdm).set("route.mdm.client.cert.header", "NSClientCert");
    let ca = gateway.file("people.pem", people.pem());
    let gateway = gateway
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", ca.display().to_string())
        .start()
        .await;
    assert_eq!(gateway.ask(&get("localhost", "/zdm/x")).await.status(), 401);
    let without = mdm
        .last(&Filter::kind(Kind::Other))
        .expect("a request")
        .head;
    assert_eq!(without.header("nsclientcert"), None);

    let identity = people.client("alice@sandbox.example");
    let config = client_config(&gateway.ca_pem, Some(&identity));
    let mut wire = Wire::open(gateway.address, "localhost", config).await;
    let forged = get("localhost", "/zdm/x").header("NSClientCert", "mine");
    wire.send(forged.bytes()).await;
    assert_eq!(wire.answer().await.status(), 401);
    let shown = mdm
        .last(&Filter::kind(Kind::Other))
        .expect("a request")
        .head;
    let lines: Vec<&[u8]> = shown.all("nsclientcert").collect();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with(b"MII"),
        "{:?}",
        String::from_utf8_lossy(lines[0])
    );
}
