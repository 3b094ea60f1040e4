//! Webhooks: who is believed, once, and what happens while the disk is slow.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use aws_lc_rs::hmac;
use seg_tests::authority::Authority;
use seg_tests::gateway::free_address;
use seg_tests::wire::Wire;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sandbox::{self, PING_REFUSED, folder_sync, holds_poll, is_served, ping};

const SECRET: &str = "a-secret-of-the-test";
/// Compiled for the test: a disk that stands still while a file is there.
const HOLD: &str = include_str!("webhooks/hold.c");

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn sign(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={digits}")
}

/// A call of a source's webhook with these header lines.
fn call(source: &str, lines: &[(&str, &str)], body: &str) -> String {
    let lines: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "POST /webhook/{source} HTTP/1.1\r\nHost: seg\r\nConnection: close\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A call of the webhook of `uem`, signed as it must be.
fn signed(at: i64, body: &str) -> String {
    let signature = sign(SECRET, at, body);
    let lines = [
        ("X-Seg-Timestamp", &*at.to_string()),
        ("X-Seg-Signature", &*signature),
    ];
    call("uem", &lines, body)
}

/// The status of the answer, and its body.
async fn sent(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // Whoever is refused early does not take the rest.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}

fn says(device: &str, compliant: bool) -> String {
    format!(
        "{{\"device_id\":\"{device}\",\"user\":\"alice@sandbox.example\",\"compliant\":{compliant}}}"
    )
}

fn hooked(sandbox: &seg_core::sandbox::Sandbox, webhook: SocketAddr) -> GatewayBuilder {
    let builder = Gateway::before(sandbox).set("webhook.listen", webhook.to_string());
    builder.file("secret", SECRET);
    builder.file("other-secret", "another-secret-of-the-test");
    builder.file(
        "sources.toml",
        "[[source]]\nname=\"uem\"\ntype=\"csv\"\npath=\"none.csv\"\nwebhook_secret=\"file:secret\"\n\
         [[source]]\nname=\"other one\"\ntype=\"csv\"\npath=\"none.csv\"\nwebhook_secret=\"file:other-secret\"\n\
         [[source]]\nname=\"unsigned\"\ntype=\"csv\"\npath=\"none.csv\"\n",
    );
    builder
}

#[tokio::test]
async fn a_call_that_is_not_as_it_must_be_changes_nothing() {
    let (sandbox, webhook) = (sandbox::start(), free_address());
    let gateway = hooked(&sandbox, webhook).start().await;
    let (bad, at) = (says("WRONG", false), now());
    let with = |source: &str, at: i64, signature: &str| {
        let lines = [
            ("X-Seg-Timestamp", &*at.to_string()),
            ("X-Seg-Signature", signature),
        ];
        call(source, &lines, &bad)
    };
    let good = sign(SECRET, at, &bad);
    let long = "x".repeat(1024 * 1024 + 1);
    let half = format!(
        "{}\n{{\"device_id\":\"WRONG\",\"compliant\":7}}\n",
        says("WRONG", false)
    );
    let calls = [
        ("no signature", call("uem", &[], &bad), 401),
        (
            "no time",
            call("uem", &[("X-Seg-Signature", &good)], &bad),
            401,
        ),
        (
            "another secret",
            with("uem", at, &sign("another", at, &bad)),
            401,
        ),
        ("no secret", with("uem", at, &sign("", at, &bad)), 401),
        (
            "another body",
            with("uem", at, &sign(SECRET, at, &says("WRONG", true))),
            401,
        ),
        ("another time", with("uem", at - 1, &good), 401),
        ("another source", with("other%20one", at, &good), 401),
        ("not hexadecimal", with("uem", at, "sha256=good"), 401),
        (
            "no algorithm",
            with("uem", at, good.trim_start_matches("sha256=")),
            401,
        ),
        ("too old", signed(at - 400, &bad), 401),
        ("of tomorrow", signed(at + 86_400, &bad), 401),
        (
            "no number",
            call(
                "uem",
                &[("X-Seg-Timestamp", "soon"), ("X-Seg-Signature", &good)],
                &bad,
            ),
            401,
        ),
        ("an unknown source", with("nobody", at, &good), 401),
        (
            "a source without a secret",
            with("unsigned", at, &good),
            401,
        ),
        ("no source", with("", at, &good), 401),
        (
            "no webhook",
            signed(at, &bad).replace("/webhook/uem", "/v1/devices"),
            404,
        ),
        ("no POST", signed(at, &bad).replace("POST", "PUT"), 405),
        ("too long", signed(at, &long), 413),
        ("half of it bad", signed(at, &half), 422),
        ("no JSON", signed(at, "WRONG"), 422),
    ];
    for (what, request, status) in calls {
        let (answered, said) = sent(webhook, &request).await;
        assert_eq!(answered, status, "{what}: {said}");
        assert!(
            is_served(&gateway.ask(&folder_sync("WRONG")).await),
            "{what}"
        );
    }
    assert!(!gateway.log().contains(SECRET), "a secret is no news");
    // As it must be, it is taken, under a name that is written in percents too.
    let lines = [
        ("X-Seg-Timestamp", &*at.to_string()),
        (
            "X-Seg-Signature",
            &*sign("another-secret-of-the-test", at, &bad),
        ),
    ];
    let (status, said) = sent(webhook, &call("other%20one", &lines, &bad)).await;
    assert_eq!(status, 200, "{said}");
    assert!(!is_served(&gateway.ask(&folder_sync("WRONG")).await));
    let shown = gateway.admin.read("/v1/devices/WRONG").await;
    assert_eq!(shown["source"], "other one");
}

#[tokio::test]
async fn one_call_may_tell_of_several_devices() {
    let (sandbox, webhook) = (sandbox::start(), free_address());
    let gateway = hooked(&sandbox, webhook).start().await;
    let (one, two) = (says("MANY1", false), says("MANY2", false));
    for (body, device) in [
        (format!("[{one},{two}]"), "MANY2"),
        (format!("{one}\n{two}\n").replace("MANY", "MORE"), "MORE2"),
        (one.replace(',', ",\n ").replace("MANY", "LINES"), "LINES1"),
    ] {
        let (status, said) = sent(webhook, &signed(now(), &body)).await;
        assert_eq!(status, 200, "{said}");
        assert!(
            !is_served(&gateway.ask(&folder_sync(device)).await),
            "{device}"
        );
    }
}

#[tokio::test]
async fn a_call_is_taken_once_across_restarts_and_handovers() {
    let (sandbox, webhook) = (sandbox::start(), free_address());
    let mut gateway = hooked(&sandbox, webhook)
        .set("server.drain.seconds", "1")
        .start()
        .await;
    let recorded = signed(now(), &says("ONCE", false));
    assert_eq!(sent(webhook, &recorded).await.0, 200);
    assert_eq!(sent(webhook, &recorded).await.0, 401, "a replay");
    // The device is well again, and somebody would have it blocked.
    assert_eq!(
        sent(webhook, &signed(now(), &says("ONCE", true))).await.0,
        200
    );
    gateway.restart_after_kill().await;
    assert_eq!(sent(webhook, &recorded).await.0, 401, "after a restart");
    let mut former = gateway.take_over().await;
    assert!(former.ended().await.success());
    assert_eq!(sent(webhook, &recorded).await.0, 401, "after a handover");
    assert!(is_served(&gateway.ask(&folder_sync("ONCE")).await));
    // Equal calls of one second are one: whoever says it anew says when.
    let anew = signed(now() + 5, &says("ONCE", false));
    assert_eq!(sent(webhook, &anew).await.0, 200, "others are taken");
    assert!(!is_served(&gateway.ask(&folder_sync("ONCE")).await));
}

/// A certificate of the CA speaks for sources without a secret, and does not replace one.
#[tokio::test]
async fn a_certificate_does_not_replace_a_signature() {
    let (sandbox, webhook, authority) = (sandbox::start(), free_address(), Authority::new());
    let builder = hooked(&sandbox, webhook).set("webhook.client.ca.path", "partners.pem");
    builder.file("partners.pem", authority.pem());
    let gateway = builder.start().await;
    let partner = authority.client("uem@corp.example");
    let body = says("CERTIFIED", false);
    let ask = async |request: String| {
        let mut wire = Wire::connect_as(webhook, &gateway.ca_pem, Some(&partner)).await;
        wire.send(request).await;
        wire.answer().await.status()
    };
    assert_eq!(ask(call("uem", &[], &body)).await, 401);
    assert_eq!(ask(call("nobody", &[], &body)).await, 401);
    assert!(is_served(&gateway.ask(&folder_sync("CERTIFIED")).await));
    assert_eq!(ask(signed(now(), &body)).await, 200);
    assert!(!is_served(&gateway.ask(&folder_sync("CERTIFIED")).await));
    assert_eq!(
        ask(call("unsigned", &[], &says("CERTIFIED", true))).await,
        200
    );
    assert!(is_served(&gateway.ask(&folder_sync("CERTIFIED")).await));
}

/// The poll is cut at once; the call is answered when what it says can't be lost any more.
#[tokio::test]
async fn a_slow_disk_delays_the_answer_and_not_the_cut() {
    let (sandbox, webhook) = (sandbox::start(), free_address());
    let builder = hooked(&sandbox, webhook);
    let (hold, held) = (builder.path("hold"), builder.path("held"));
    let gateway = builder
        .preload("hold.c", HOLD)
        .environment("HOLD_WHILE", hold.display().to_string())
        .environment("HOLD_TOLD", held.display().to_string())
        .start()
        .await;
    assert_eq!(
        sent(webhook, &signed(now(), &says("SLOW", true))).await.0,
        200
    );
    let mut phone = gateway.connect().await;
    phone.send(ping("SLOW").bytes()).await;
    holds_poll(&sandbox, "SLOW").await;

    fs::write(&hold, "").expect("a file");
    let request = signed(now(), &says("SLOW", false));
    let told = tokio::spawn(async move { sent(webhook, &request).await });
    assert_eq!(&phone.answer().await.body[..], PING_REFUSED);
    eventually("a flush that waits", || async {
        held.exists().then_some(())
    })
    .await;
    assert!(!is_served(&gateway.ask(&folder_sync("SLOW")).await));
    assert!(
        !told.is_finished(),
        "nothing is acknowledged that can be lost"
    );
    fs::remove_file(&hold).expect("the file");
    let (status, said) = told.await.expect("an answer");
    assert!(status == 200 && said.contains("\"cut\":1"), "{said}");
}

#[tokio::test]
async fn a_signed_webhook_cuts_an_open_ping_once() {
    let sandbox = sandbox::start();
    let webhook = free_address();
    let builder = Gateway::before(&sandbox).set("webhook.listen", webhook.to_string());
    let secret = builder.file("secret", "a-secret-of-the-test\n");
    builder.file(
        "sources.toml",
        format!("[[source]]\nname=\"uem\"\ntype=\"csv\"\npath=\"none.csv\"\nwebhook_secret=\"file:{}\"\n", secret.display()),
    );
    let gateway = builder.start().await;
    let line = "{\"device_id\":\"HOOKED\",\"user\":\"alice@sandbox.example\",\"compliant\":true}\n";
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=uem", line)
        .await;
    let mut wire = gateway.connect().await;
    wire.send(ping("HOOKED").bytes()).await;
    holds_poll(&sandbox, "HOOKED").await;

    let body = r#"{"device_id":"HOOKED","compliant":false}"#;
    let now = jiff::Timestamp::now().as_second();
    let script = format!(
        "printf '%s.%s' {now} '{body}' | openssl dgst -sha256 -hmac a-secret-of-the-test | sed 's/.* //'"
    );
    let hex = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("openssl runs");
    let hex = String::from_utf8(hex.stdout).expect("hex");
    let call = |signature: &str| {
        format!(
            "POST /webhook/uem HTTP/1.1\r\nHost: a\r\nX-Seg-Timestamp: {now}\r\nX-Seg-Signature: sha256={signature}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    assert_eq!(sent(webhook, &call(&"0".repeat(64))).await.0, 401);
    let (status, answer) = sent(webhook, &call(hex.trim())).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"cut\":1"), "{answer}");
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    assert_eq!(sent(webhook, &call(hex.trim())).await.0, 401, "a replay");
    let trail = gateway.admin.text("/v1/audit").await;
    assert!(trail.contains("\"action\":\"webhook\""), "{trail}");
}
