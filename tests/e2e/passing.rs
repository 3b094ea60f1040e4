//! Other services behind the same address: by host, path and priority, and never around the
//! verdict.

use std::net::SocketAddr;

use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions};
use seg_tests::eas::Request;
use seg_tests::wire::{Wire, client_config};
use seg_tests::{Gateway, GatewayBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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

/// A WebSocket server that agrees, says `welcome`, and echoes; anybody else gets 426.
pub(crate) async fn socket_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text").to_lowercase();
            let asked = head.starts_with("get /zdm/socket?a=b http/1.1\r\n")
                && head.contains("\r\nupgrade: websocket\r\n")
                && head.contains("\r\nconnection: upgrade\r\n")
                && head.contains("\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n")
                && head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n")
                && !head.contains("x-commonaccesstoken");
            if !asked {
                let no = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno";
                stream.write_all(no).await.expect("written");
                continue;
            }
            let yes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome";
            stream.write_all(yes).await.expect("written");
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                // Until the client leaves.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

pub(crate) fn websocket(path: &str) -> Request {
    get("localhost", path)
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("X-CommonAccessToken", "forged")
}

#[tokio::test]
async fn a_websocket_passes_where_the_route_allows_it() {
    let mail = sandbox::start();
    let server = socket_server().await;
    let gateway = Gateway::before(&mail)
        .set("route.mdm.path", "/zdm")
        .set("route.mdm.upstream", format!("http://{server}"))
        .set("route.mdm.websocket", "true")
        .set("route.closed.path", "/closed")
        .set("route.closed.upstream", format!("http://{server}"))
        .set("server.timeout.idle.seconds", "1")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.send(websocket("/zdm/socket?a=b").bytes()).await;
    wire.until("\r\n\r\nwelcome").await;
    let head = String::from_utf8_lossy(wire.received()).to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    for frame in ["GET / HTTP/1.1\n\n", "\u{1}\u{2}three"] {
        wire.send(frame).await;
        wire.until(frame).await;
    }

    // A server that does not agree is heard.
    let refused = gateway.ask(&websocket("/zdm/other")).await;
    assert_eq!(refused.status(), 426);
    for request in [
        websocket("/closed/socket"),
        websocket("/Microsoft-Server-ActiveSync"),
        get("localhost", "/zdm/socket")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c"),
        get("localhost", "/zdm/socket")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket, h2c"),
    ] {
        let status = gateway.ask(&request).await.status();
        assert!(status == 403 || status == 401, "{status}: {request:?}");
    }
    // It goes on, however long nobody says anything: longer than an idle connection may.
    let idle = gateway.connect().await;
    let mut idle = idle;
    idle.ended().await;
    wire.send("still here").await;
    wire.until("still here").await;
}
