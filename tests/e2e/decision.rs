//! The decision service, as NetScaler's callout asks it; the others' ways are in `balancers`.

mod balancers;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_tests::Gateway;
use seg_tests::eas::basic;
use seg_tests::gateway::free_address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sandbox;

/// One plain HTTP request: status, head and body.
async fn get(address: SocketAddr, target: &str, headers: &str) -> (u16, String, String) {
    sent(address, &format!("GET {target} HTTP/1.1\r\nHost: callout.asfilter.internal\r\n{headers}Connection: close\r\n\r\n")).await
}

async fn sent(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), head.to_owned(), body.to_owned())
}

fn callout(user: &str, url: &str, device: &str) -> String {
    format!(
        "/services/ActiveSync/Authorize?user={user}&agent=Apple-iPhone&ip=192.0.2.1&url={}&resultType=json&DeviceId={device}",
        BASE64_STANDARD.encode(url)
    )
}

fn eas(device: &str) -> String {
    format!("/Microsoft-Server-ActiveSync?Cmd=Sync&User=alice&DeviceId={device}&DeviceType=test")
}

const EWS: &str = "https://mail.example/EWS/Exchange.asmx";

pub(super) async fn deciding(sandbox: &seg_core::sandbox::Sandbox) -> (Gateway, SocketAddr) {
    let address = free_address();
    let gateway = Gateway::before(sandbox)
        .set("decision.listen", address.to_string())
        .set("compliance.unknown.device", "block")
        .start()
        .await;
    for device in ["GOOD1", "BAD1"] {
        let record = r#"{"user":"alice@sandbox.example","managed":true}"#;
        gateway
            .admin
            .write("PUT", &format!("/v1/devices/{device}"), record)
            .await;
    }
    gateway.admin.block("BAD1").await;
    (gateway, address)
}

#[tokio::test]
async fn netscaler_asks_as_it_asks_the_connector_for_xenmobile() {
    let sandbox = sandbox::start();
    let (gateway, address) = deciding(&sandbox).await;
    let url = |device: &str| format!("https://mail.corp.example{}", eas(device));
    // Version 14.1, Sync, DeviceId of four characters, no policy key, DeviceType "test".
    let base64_query = |device: &str| {
        let mut bytes = vec![141, 0, 9, 4, u8::try_from(device.len()).expect("short")];
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(b"\x00\x04test");
        format!(
            "https://mail.corp.example/microsoft-server-activesync?{}",
            BASE64_STANDARD.encode(bytes)
        )
    };
    for (target, expected) in [
        (callout("alice", &url("GOOD1"), "GOOD1"), "allow"),
        (callout("SANDBOX%5Calice", &url("GOOD1"), ""), "deny"),
        (
            callout("alice%40sandbox.example", &url("GOOD1"), ""),
            "allow",
        ),
        (callout("alice", &url("BAD1"), "BAD1"), "deny"),
        (callout("bob", &url("GOOD1"), "GOOD1"), "deny"),
        (callout("alice", &url("UNKNOWN1"), "UNKNOWN1"), "deny"),
        // No device has such a name, and the URL tells of none; without one the user counts.
        (callout("alice", EWS, "no%20name"), "deny"),
        (callout("alice", EWS, ""), "allow"),
        // The parameter of the callout is empty for a base64 query; the URL says it.
        (callout("alice", &base64_query("GOOD1"), ""), "allow"),
        (callout("alice", &base64_query("BAD1"), ""), "deny"),
        // Two names of a device.
        (callout("alice", &url("GOOD1"), "BAD1"), "deny"),
        (callout("alice", "not a url", "GOOD1"), "deny"),
        (callout("", "https://mail.corp.example/owa/", ""), "deny"),
    ] {
        let (status, head, body) = get(address, &target, "").await;
        assert_eq!(status, 200, "{head}");
        assert!(body.len() <= 20, "{body}");
        assert_eq!(body, format!("{{\"result\":\"{expected}\"}}"), "{target}");
    }
    let text = callout("alice", &url("BAD1"), "BAD1").replace("resultType=json", "resultType=text");
    assert_eq!(get(address, &text, "").await.2, "deny");
    let (status, _, body) = get(address, "/services/ActiveSync/Version", "").await;
    assert!(
        status == 200 && body.starts_with(|c: char| c.is_ascii_digit()),
        "{body}"
    );
    assert_eq!(get(address, "/nowhere", "").await.0, 404);
    // What it has said is counted like what the gateway decides for itself.
    let counted = async |verdict: &str| {
        let labels = ["protocol=\"eas\"", &format!("verdict=\"{verdict}\"")];
        gateway.admin.metric("seg_decisions_total", &labels).await
    };
    assert!(counted("allow").await >= 2.0 && counted("block").await >= 3.0);
}

#[tokio::test]
async fn the_url_is_standard_base64_as_it_stands_there() {
    let sandbox = sandbox::start();
    let (_gateway, address) = deciding(&sandbox).await;
    let encoded = |filler: &str| {
        let url = format!("https://mail.corp.example{}&X={filler}", eas("GOOD1"));
        BASE64_STANDARD.encode(url)
    };
    let find = |is_meant: &dyn Fn(&str) -> bool| {
        let fillers = [
            "", "a", "aa", "~~~", "a~~~", "aa~~~", "???", "a???", "aa???",
        ];
        let found = fillers
            .iter()
            .map(|filler| encoded(filler))
            .find(|text| is_meant(text));
        found.expect("an URL whose base64 is meant")
    };
    let asked = |url: &str| {
        format!(
            "/services/ActiveSync/Authorize?user=alice&agent=a&ip=192.0.2.1&url={url}&resultType=text&DeviceId="
        )
    };
    let (plus, slash) = (
        find(&|text| text.contains('+')),
        find(&|text| text.contains('/')),
    );
    let padded = find(&|text| text.ends_with('='));
    for (url, expected) in [
        // A plus is a digit, escaped or not; who reads it as a blank has read something else.
        (plus.clone(), "allow"),
        (plus.replace('+', "%2B"), "allow"),
        (plus.replace('+', "%20"), "deny"),
        (slash.clone(), "allow"),
        (slash.replace('/', "%2f"), "allow"),
        // The other alphabet is another.
        (plus.replace('+', "-"), "deny"),
        (slash.replace('/', "_"), "deny"),
        // With its padding, escaped or not, and without.
        (padded.clone(), "allow"),
        (padded.replace('=', "%3D"), "allow"),
        (padded.trim_end_matches('=').to_owned(), "allow"),
        (padded.clone() + "====", "deny"),
        (String::new(), "deny"),
        ("!".to_owned(), "deny"),
        (BASE64_STANDARD.encode(b"https://mail/\xff"), "deny"),
    ] {
        let (status, _, body) = get(address, &asked(&url), "").await;
        assert_eq!((status, body.as_str()), (200, expected), "{url}");
    }
}

#[tokio::test]
async fn what_can_not_be_read_of_a_callout_is_no() {
    let sandbox = sandbox::start();
    let (gateway, address) = deciding(&sandbox).await;
    let record = "{\"user\":\"j\u{f6}rg@sandbox.example\"}";
    gateway
        .admin
        .write("PUT", "/v1/devices/UMLAUT1", record)
        .await;
    let whole = |device: &str| {
        let url = format!(
            "https://mail.corp.example{}",
            eas(device).replace("&User=alice", "")
        );
        callout("alice", &url, "").replace("resultType=json", "resultType=text")
    };
    let good = || whole("GOOD1");
    let with_url =
        |url: &str| callout("alice", url, "").replace("resultType=json", "resultType=text");
    let url = format!("https://mail.corp.example{}", eas("GOOD1"));
    for (what, target, expected) in [
        ("as it should be", good(), "allow"),
        ("two users", good() + "&user=bob", "deny"),
        ("the same user twice", good() + "&USER=alice", "deny"),
        ("two agents", good() + "&agent=other", "deny"),
        ("two addresses", good() + "&ip=10.0.0.1", "deny"),
        ("two URLs", good() + "&url=aGk=", "deny"),
        ("two devices", good() + "&DeviceId=", "deny"),
        (
            "a long agent",
            good().replace("agent=", &format!("agent={}", "x".repeat(8_193))),
            "deny",
        ),
        (
            "a long user",
            good().replace("user=", &format!("user={}", "x".repeat(8_193))),
            "deny",
        ),
        (
            "a long URL",
            with_url(&format!("{url}&X={}", "x".repeat(8_193))),
            "deny",
        ),
        (
            "no address",
            good().replace("ip=192.0.2.1", "ip=nowhere"),
            "deny",
        ),
        (
            "no address at all",
            good().replace("&ip=192.0.2.1", ""),
            "allow",
        ),
        (
            "broken escapes",
            good().replace("Apple-iPhone", "Apple%2"),
            "deny",
        ),
        (
            "a user of no letters",
            good().replace("user=alice", "user=%00"),
            "deny",
        ),
        // Latin-1 is what some clients say; it is who the mail server takes them for.
        (
            "latin-1",
            whole("UMLAUT1").replace("user=alice", "user=j%F6rg"),
            "allow",
        ),
        (
            "utf-8",
            whole("UMLAUT1").replace("user=alice", "user=j%C3%B6rg"),
            "allow",
        ),
        (
            "latin-1 of another",
            good().replace("user=alice", "user=j%F6rg"),
            "deny",
        ),
        (
            "behind a hash",
            with_url(&format!("{url}#&DeviceId=BAD1")),
            "deny",
        ),
        (
            "below ActiveSync",
            with_url(&url.replace("Sync?", "Sync/default.eas?")),
            "deny",
        ),
        (
            "dots",
            with_url(&url.replace("/Micro", "/x/../Micro")),
            "deny",
        ),
        (
            "no URL",
            "/services/ActiveSync/Authorize?user=alice&resultType=text".to_owned(),
            "deny",
        ),
        (
            "nothing",
            "/services/ActiveSync/Authorize".to_owned(),
            "deny",
        ),
    ] {
        let (status, _, body) = get(address, &target, "").await;
        assert_eq!((status, body.as_str()), (200, expected), "{what}");
    }
    // A question larger than any is refused before it is one, and the service goes on.
    let huge = format!("/services/ActiveSync/Authorize?url={}", "A".repeat(1 << 20));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {huge} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // It may hang up while it is still being told.
    let _written = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("allow"));
    assert_eq!(get(address, &good(), "").await.2, "allow");
}

#[tokio::test]
async fn a_callout_is_answered_under_any_host_in_the_configured_words() {
    let sandbox = sandbox::start();
    let address = free_address();
    let gateway = Gateway::before(&sandbox)
        .set("decision.listen", address.to_string())
        .set("server.allowed.hosts", "mail.corp.example")
        .set("decision.answer.json.allow", "{\"verdict\": \"allow\"}")
        .set("decision.answer.json.deny", "{\"verdict\":\"deny\"}")
        .set("decision.answer.text.allow", "ALLOW")
        .set("decision.answer.text.deny", "DENY")
        .start()
        .await;
    let record = r#"{"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/GOOD1", record)
        .await;
    gateway.admin.block("BAD1").await;
    let ask = async |host: &str, device: &str, form: &str| {
        let target = callout("alice", &format!("https://m.example{}", eas(device)), "");
        let target = target.replace("resultType=json", form);
        let request = format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        sent(address, &request).await
    };
    for host in [
        "Host: callout.asfilter.internal\r\n",
        "Host: mail.corp.example:443\r\n",
        "Host: 192.0.2.9\r\n",
        "Host: anything.at.all\r\n",
        "Host:\r\n",
    ] {
        for (device, form, media, body) in [
            (
                "GOOD1",
                "resultType=json",
                "application/json",
                "{\"verdict\": \"allow\"}",
            ),
            (
                "BAD1",
                "resultType=JSON",
                "application/json",
                "{\"verdict\":\"deny\"}",
            ),
            ("GOOD1", "resultType=text", "text/plain", "ALLOW"),
            ("BAD1", "x=y", "text/plain", "DENY"),
        ] {
            let (status, head, found) = ask(host, device, form).await;
            assert_eq!(
                (status, found.as_str()),
                (200, body),
                "{host} {device} {form}"
            );
            let head = head.to_lowercase();
            assert!(head.contains(&format!("content-type: {media}")), "{head}");
            assert!(head.contains("cache-control: no-store"), "{head}");
            assert!(found.len() <= 20);
        }
        let request =
            format!("GET /services/ActiveSync/Version HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        assert_eq!(sent(address, &request).await.0, 200, "{host}");
    }
    // HTTP/1.0 has no Host to send.
    let target = callout("alice", &format!("https://m.example{}", eas("BAD1")), "");
    let request = format!("GET {target} HTTP/1.0\r\n\r\n");
    assert_eq!(sent(address, &request).await.2, "{\"verdict\":\"deny\"}");
}

#[tokio::test]
async fn in_observe_mode_every_question_is_answered_with_yes_and_told() {
    let sandbox = sandbox::start();
    let address = free_address();
    let gateway = Gateway::before(&sandbox)
        .set("decision.listen", address.to_string())
        .set("compliance.mode", "observe")
        .start()
        .await;
    gateway.admin.block("BAD1").await;
    let target = callout("alice", &format!("https://m.example{}", eas("BAD1")), "");
    assert_eq!(get(address, &target, "").await.2, "{\"result\":\"allow\"}");
    let headers = format!(
        "X-Original-URI: {}\r\nAuthorization: {}\r\n",
        eas("BAD1"),
        basic("alice")
    );
    let (status, head, _) = get(address, "/authorize", &headers).await;
    assert_eq!(status, 200, "{head}");
    assert!(
        head.to_lowercase().contains("x-seg-verdict: block"),
        "{head}"
    );
    let labels = ["verdict=\"block\"", "mode=\"observe\""];
    assert_eq!(
        gateway.admin.metric("seg_decisions_total", &labels).await,
        2.0
    );
}

/// Policies see what the load balancer tells of a request, whichever way it tells it.
#[tokio::test]
async fn policies_look_at_the_request_that_the_load_balancer_has() {
    let sandbox = sandbox::start();
    let address = free_address();
    let builder = Gateway::before(&sandbox)
        .set("decision.listen", address.to_string())
        .set("identity.user.mismatch", "refuse");
    let policies = r#"
        [[policy]]
        id = "client"
        when = { user_agent = "curl*" }
        action = "block"
        [[policy]]
        id = "network"
        when = { network = "198.51.100.0/24" }
        action = "block"
        [[policy]]
        id = "host"
        when = { host = "old.corp.example" }
        action = "block"
        [[policy]]
        id = "command"
        when = { command = "Search" }
        action = "block"
        [[policy]]
        id = "type"
        when = { device_type = "toaster" }
        action = "quarantine"
        [[policy]]
        id = "nameless"
        when = { user_agent_not = "*" }
        action = "block"
    "#;
    builder.file("policies.toml", policies);
    let gateway = builder.start().await;
    let record = r#"{"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/GOOD1", record)
        .await;

    let base = || callout("alice", &format!("https://m.example{}", eas("GOOD1")), "");
    let with_url = |url: String| callout("alice", &url, "");
    for (target, expected) in [
        (base(), "allow"),
        (
            base().replace("agent=Apple-iPhone", "agent=curl%2F8"),
            "deny",
        ),
        (base().replace("agent=Apple-iPhone", "agent="), "deny"),
        (base().replace("ip=192.0.2.1", "ip=198.51.100.7"), "deny"),
        (
            base().replace("ip=192.0.2.1", "ip=::ffff:198.51.100.7"),
            "deny",
        ),
        (
            with_url(format!("https://old.corp.example:443{}", eas("GOOD1"))),
            "deny",
        ),
        (
            with_url(format!(
                "https://m.example{}",
                eas("GOOD1").replace("Cmd=Sync", "Cmd=Search")
            )),
            "deny",
        ),
        (
            with_url(format!(
                "https://m.example{}",
                eas("GOOD1").replace("=test", "=Toaster")
            )),
            "deny",
        ),
        // The User parameter names another than the credentials do.
        (
            with_url(format!(
                "https://m.example{}",
                eas("GOOD1").replace("User=alice", "User=bob")
            )),
            "deny",
        ),
    ] {
        let body = get(address, &target, "").await.2;
        assert_eq!(body, format!("{{\"result\":\"{expected}\"}}"), "{target}");
    }

    let headers = |client: &str, agent: &str, host: &str| {
        format!(
            "X-Original-Method: POST\r\nX-Real-IP: {client}\r\nUser-Agent: {agent}\r\n\
             X-Forwarded-Host: {host}\r\nAuthorization: {}\r\n",
            basic("alice")
        )
    };
    let uri = |target: String| format!("X-Original-URI: {target}\r\n");
    let good = || headers("192.0.2.1", "Apple-iPhone", "m.example") + &uri(eas("GOOD1"));
    for (headers, status) in [
        (good(), 200),
        (good().replace("Apple-iPhone", "curl/8"), 403),
        (good().replace("User-Agent: Apple-iPhone\r\n", ""), 403),
        (good().replace("192.0.2.1", "198.51.100.7"), 403),
        (good().replace("192.0.2.1", "unknown"), 403),
        (good() + "X-Real-IP: 192.0.2.2\r\n", 403),
        (
            good().replace("X-Real-IP: ", "X-Forwarded-For: 192.0.2.9, "),
            200,
        ),
        (
            good().replace("X-Real-IP: 192.0.2.1", "X-Forwarded-For: 198.51.100.7"),
            403,
        ),
        (good().replace("m.example", "old.corp.example:443"), 403),
        (good().replace("Cmd=Sync", "Cmd=Search"), 403),
        (good().replace("DeviceType=test", "DeviceType=Toaster"), 403),
        (good().replace("User=alice", "User=bob"), 403),
        (good().replace("DeviceId=GOOD1", "DeviceId=GOOD1#&X=1"), 403),
    ] {
        let (found, head, _) = get(address, "/authorize", &headers).await;
        assert_eq!(found, status, "{headers}\n{head}");
    }
    // Envoy leaves Host, method and headers as the client sent them.
    let envoy = |host: &str| {
        format!(
            "POST /envoy{} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nUser-Agent: Apple-iPhone\r\n\
             X-Forwarded-For: 192.0.2.1\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
            eas("GOOD1"),
            basic("alice")
        )
    };
    assert_eq!(sent(address, &envoy("m.example")).await.0, 200);
    assert_eq!(sent(address, &envoy("old.corp.example")).await.0, 403);
    let mismatches = gateway
        .admin
        .metric("seg_bad_requests_total", &["reason=\"user_mismatch\""]);
    assert_eq!(mismatches.await, 2.0);
}
