//! Every way in: several addresses, plain HTTP, balancers that speak the PROXY protocol, a service
//! manager that wants to know; and the way out for what is not mail.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustls::pki_types::ServerName;
use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions};
use seg_tests::authority::Authority;
use seg_tests::eas::Request;
use seg_tests::gateway::free_address;
use seg_tests::tunnel::{Asked, Tunnel};
use seg_tests::wire::{Wire, client_config};
use seg_tests::{Gateway, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::sandbox::{self, folder_sync, is_served};

/// Sends bytes in the clear and reads what comes until the end.
async fn plain(address: SocketAddr, request: &Request) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = request.clone().header("Connection", "close");
    stream.write_all(&request.bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn plain_http_serves_other_services_and_sends_everything_else_to_tls() {
    let mail = sandbox::start();
    let mdm = Sandbox::start(SandboxOptions::plain()).expect("a sandbox");
    let http = free_address();
    let gateway = Gateway::before(&mail)
        .set("server.http.listen", http.to_string())
        .set("server.public.url", "https://mail.public.example")
        .set("route.mdm.path", "/zdm")
        .set("route.mdm.upstream", mdm.url())
        .start()
        .await;
    let served = plain(http, &Request::new("GET", "/zdm/enrol")).await;
    assert!(served.starts_with("HTTP/1.1 401 "), "{served}");
    let seen = mdm
        .last(&Filter::kind(Kind::Other))
        .expect("a request")
        .head;
    assert_eq!(seen.header("x-forwarded-proto"), Some(&b"http"[..]));

    for request in [
        folder_sync("PLAIN"),
        Request::new("GET", "/EWS/Exchange.asmx"),
        Request::new("GET", "/nowhere?x=1"),
    ] {
        let target = String::from_utf8(request.head()).expect("text");
        let target = target.split(' ').nth(1).expect("a target").to_owned();
        let sent = plain(http, &request).await;
        assert!(sent.starts_with("HTTP/1.1 308 "), "{sent}");
        let location = format!("location: https://mail.public.example{target}\r\n");
        assert!(sent.contains(&location), "{sent}");
    }
    let health = plain(http, &Request::new("GET", "/lb-health")).await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    assert_eq!(sandbox::arrivals(&mail), 0);
    assert!(is_served(&gateway.ask(&folder_sync("TLS")).await));
}

#[tokio::test]
async fn several_addresses_of_both_families_are_served() {
    let sandbox = sandbox::start();
    let (four, other) = (free_address(), free_address());
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, other.port()));
    let gateway = Gateway::before(&sandbox)
        .environment("SEG_SERVER_LISTEN", format!("{four},{six}"))
        .start()
        .await;
    for address in [four, six] {
        let mut wire = Wire::connect(address, &gateway.ca_pem).await;
        wire.send(folder_sync("FAMILY").bytes()).await;
        assert!(is_served(&wire.answer().await), "{address}");
    }
}

#[tokio::test]
async fn every_host_has_its_own_certificate_and_no_other_host_is_served() {
    let sandbox = sandbox::start();
    let second = Authority::new();
    let builder =
        Gateway::before(&sandbox).set("server.allowed.hosts", "localhost,mail.second.example");
    let identity = second.server(&["mail.second.example"]);
    let (certificate, key) = identity.write(&builder.path(""), "second");
    let gateway = builder
        .environment(
            "SEG_SERVER_TLS_CERTIFICATE_PATH",
            format!("server.crt,{}", certificate.display()),
        )
        .environment(
            "SEG_SERVER_TLS_PRIVATE_KEY_PATH",
            format!("server.key,{}", key.display()),
        )
        .start()
        .await;
    for (host, ca) in [
        ("localhost", &gateway.ca_pem),
        ("mail.second.example", &second.pem()),
    ] {
        let stream = TcpStream::connect(gateway.address).await;
        let name = ServerName::try_from(host).expect("a name");
        let connector = TlsConnector::from(client_config(ca, None));
        let tls = connector.connect(name, stream.expect("connected")).await;
        assert!(tls.is_ok(), "{host} is shown another certificate");
    }
    for (host, status) in [("mail.second.example", 200), ("other.example", 421)] {
        let named = folder_sync("NAMED").without("Host").header("Host", host);
        let answer = gateway.ask(&named).await;
        assert_eq!(answer.status(), status, "{host}");
    }
}

/// A TLS client behind a balancer that sends `header` first; the status it gets, if any.
async fn behind(gateway: &Gateway, header: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(gateway.address)
        .await
        .expect("connected");
    stream.write_all(header).await.expect("written");
    over(stream, gateway).await
}

/// The status that a TLS client gets over a connection, if any.
async fn over(stream: TcpStream, gateway: &Gateway) -> Option<String> {
    let config = client_config(&gateway.ca_pem, None);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .ok()?;
    let request = folder_sync("BEHIND").header("Connection", "close");
    tls.write_all(&request.bytes()).await.ok()?;
    let mut answer = Vec::new();
    // Some close without a word of TLS.
    let _ = tls.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ').nth(1).map(str::to_owned)
}

/// Whose address the mail server was told last.
fn told(sandbox: &Sandbox) -> String {
    let seen = sandbox
        .last(&Filter::name("FolderSync"))
        .expect("a request");
    let line = seen.head.header("x-forwarded-for").unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

const VERSION_TWO: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x0a\xc0\0\x02\x01\xc7\x38\x01\xbb";

#[tokio::test]
async fn a_trusted_balancer_tells_whose_connection_it_is() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.trusted.proxies", "127.0.0.0/8")
        .set("server.proxy.protocol", "true")
        .start()
        .await;
    let line = b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n";
    assert_eq!(behind(&gateway, line).await.as_deref(), Some("200"));
    assert_eq!(told(&sandbox), "203.0.113.9");
    assert_eq!(behind(&gateway, VERSION_TWO).await.as_deref(), Some("200"));
    assert_eq!(told(&sandbox), "203.0.113.10");
    let before = sandbox::arrivals(&sandbox);
    for header in [
        &b""[..],
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY UDP4 1 2 3 4\r\n",
    ] {
        assert_eq!(behind(&gateway, header).await, None);
    }
    assert_eq!(sandbox::arrivals(&sandbox), before);
    let refused = gateway
        .admin
        .metric("seg_bad_requests_total", &["reason=\"proxy_header\""]);
    assert!(refused.await >= 3.0);
}

#[tokio::test]
async fn a_stranger_can_not_say_that_he_is_somebody_else() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.trusted.proxies", "192.0.2.0/24")
        .set("server.proxy.protocol", "true")
        .start()
        .await;
    assert_eq!(behind(&gateway, VERSION_TWO).await, None);
    assert_eq!(behind(&gateway, b"").await.as_deref(), Some("200"));
}

#[tokio::test]
async fn sockets_of_a_service_manager_keep_their_queue_over_a_restart() {
    let sandbox = sandbox::start();
    // For both families, as systemd opens it where only a port is named.
    let listener = std::net::TcpListener::bind("[::]:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let early = TcpStream::connect(address).await.expect("queued");
    let mut gateway = Gateway::before(&sandbox).passed(listener).start().await;
    assert_eq!(over(early, &gateway).await.as_deref(), Some("200"));
    assert_eq!(told(&sandbox), "127.0.0.1");

    gateway.signal("KILL");
    gateway.ended().await;
    let meanwhile = TcpStream::connect(address).await.expect("queued");
    gateway.restart_after_kill().await;
    assert_eq!(over(meanwhile, &gateway).await.as_deref(), Some("200"));
}

#[tokio::test]
async fn a_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    let mut gateway = Gateway::alone()
        .environment("NOTIFY_SOCKET", path.display().to_string())
        .start()
        .await;
    let heard = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1\nSTATUS=Serving clients\n");
    gateway.signal("INT");
    assert!(heard().starts_with("STOPPING=1\n"));
    gateway.ended().await;
}

#[tokio::test]
async fn a_service_manager_learns_which_process_it_has_after_a_handover() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    let mut gateway = Gateway::alone()
        .environment("NOTIFY_SOCKET", path.display().to_string())
        .start()
        .await;
    let mut former = gateway.take_over().await;
    let heard = std::iter::from_fn(|| {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("a message");
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    });
    let told = format!("READY=1\nMAINPID={}\n", gateway.pid());
    let mut heard = heard.skip_while(|text| !text.contains("MAINPID"));
    let taken_over = heard.next().expect("it is told");
    assert!(taken_over.starts_with(&told), "{taken_over}");
    assert_eq!(former.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_not_mail_goes_through_the_proxy() {
    let sandbox = sandbox::start();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = proxy.local_addr().expect("its address");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = proxy.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let _ = tell.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    let people = Authority::new();
    let gateway = Gateway::before(&sandbox);
    let ca = gateway.file("people.pem", people.pem());
    let gateway = gateway
        .set("outbound.proxy.url", format!("http://user:pass@{address}"))
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", ca.display().to_string())
        .set("enable.cert.revocation.validation", "true")
        .set(
            "remote.crl.distribution.http.uris",
            "http://lists.example/people.crl",
        )
        .start()
        .await;
    let asked = eventually("a request at the proxy", || {
        let asked = told.try_recv().ok();
        async move { asked }
    })
    .await;
    assert!(
        asked.starts_with("GET http://lists.example/people.crl HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"),
        "{asked}"
    );
    // Mail does not.
    assert!(is_served(&gateway.ask(&folder_sync("DIRECT")).await));
    assert!(
        told.try_recv()
            .is_err_and(|none| none == tokio::sync::mpsc::error::TryRecvError::Empty)
    );
}

#[tokio::test]
async fn what_speaks_tls_goes_through_a_tunnel_of_the_proxy() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let identity = authority.server(&["decisions.example"]);
    let mut tunnel = Tunnel::start(&identity, "allow").await;
    let builder = Gateway::before(&sandbox);
    let ca = builder.file("decisions-ca.pem", authority.pem());
    let gateway = builder
        .environment("SSL_CERT_FILE", ca.display().to_string())
        .set("outbound.proxy.url", tunnel.url())
        .set("compliance.unknown.device", "allow")
        .set("callout.url", "https://decisions.example:8443/authorize")
        .start()
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("TUNNEL")).await));
    let Asked { proxy, server } = tunnel.asked().await;
    let connect = "CONNECT decisions.example:8443 HTTP/1.1\r\n";
    assert!(proxy.starts_with(connect), "{proxy}");
    let proxy = proxy.to_lowercase();
    let login = "\r\nproxy-authorization: basic dxnlcjpwyxnz\r\n";
    assert!(proxy.contains(login), "{proxy}");
    assert!(!proxy.contains("tunnel"), "the question goes inside");
    let question = "GET /authorize?user=alice%40sandbox.example&";
    assert!(server.starts_with(question), "{server}");
    assert!(server.contains("&DeviceId=TUNNEL"), "{server}");
    let server = server.to_lowercase();
    assert!(!server.contains("proxy-authorization"), "{server}");
}
