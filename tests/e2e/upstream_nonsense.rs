//! A mail server that is down, lies or stops halfway: a definite status, never a hang, never a short
//! answer that looks whole.

use std::time::Duration;

use bytes::Bytes;
use seg_core::sandbox::requests;
use seg_core::sandbox::{
    Answer, End, Filter, Framing, Play, Sandbox, SandboxOptions, Script, Transport,
};
use seg_tests::Gateway;
use seg_tests::eas::Request;
use seg_tests::gateway::free_address;

use crate::bad_input::{counted, logged_with_reasons};
use crate::sandbox::{self, count, folder_sync, is_served};

/// Bytes that are no answer.
const NONSENSE: [(&str, &[u8]); 11] = [
    ("no HTTP", b"220 mail.example ESMTP\r\n"),
    ("no status", b"HTTP/1.1 OK\r\n\r\n"),
    ("a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    (
        "two lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    ),
    (
        "length and coding",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length that is none",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    ),
    (
        "an unknown coding",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\nabc",
    ),
    (
        "a folded line",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "NUL in a header",
        b"HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a switch of protocols",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ),
    ("nothing but a status line", b"HTTP/1.1 200 OK\r\n"),
];

#[tokio::test]
async fn nonsense_becomes_502() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for ((name, bytes), number) in NONSENSE.into_iter().zip(1..) {
        let bytes = Bytes::from_static(bytes);
        sandbox.script(Script::new(
            Filter::name("SendMail"),
            Play::Raw {
                bytes,
                end: End::Close,
            },
        ));
        let answer = gateway.ask(&send_mail("NONSENSE")).await;
        assert_eq!(answer.status(), 502, "{name}");
        assert!(
            is_served(&gateway.ask(&folder_sync("OTHER")).await),
            "{name}: others are disturbed"
        );
        counted(&gateway, number, name).await;
    }
    logged_with_reasons(&gateway, NONSENSE.len()).await;
    let mut told = gateway.events();
    told.retain(|event| event["reason"] == "bad_response" && event["status"] == 502);
    assert_eq!(told.len(), NONSENSE.len(), "{told:?}");
    assert!(
        told.iter().all(|event| event["detail"].is_string()),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_answer_that_stops_halfway_does_not_look_whole() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut broken = 0;
    for framing in [Framing::Length, Framing::Chunked(1000)] {
        for end in [End::Close, End::Drop] {
            let whole = Answer::wbxml(vec![7; 100_000]).framing(framing);
            let play = Play::Cut {
                answer: Some(whole),
                after: 50_000,
                end,
            };
            sandbox.script(Script::new(Filter::name("ItemOperations"), play));
            let mut wire = gateway.connect().await;
            let ask = Request::eas("ItemOperations", "alice", "HALF", requests::ITEM_OPERATIONS);
            wire.send(ask.bytes()).await;
            assert!(
                wire.try_answer(false).await.is_none(),
                "{framing:?}, {end:?}"
            );
            broken += 1;
            counted(&gateway, broken, "a broken answer").await;
        }
    }
    // In the line of the request, and in no other.
    logged_with_reasons(&gateway, broken).await;
    let mut told = gateway.events();
    told.retain(|event| {
        event["reason"] == "upstream_broke_off"
            && event["outcome"] == "upstream_failed"
            && event["device"] == "HALF"
            && event["detail"].is_string()
    });
    assert_eq!(told.len(), broken, "{told:?}");
    let labels = ["reason=\"upstream_broke_off\""];
    let counted = gateway
        .admin
        .metric("seg_bad_requests_total", &labels)
        .await;
    assert_eq!(counted, broken as f64);
    assert!(is_served(&gateway.ask(&folder_sync("HALF")).await));
}

#[tokio::test]
async fn an_answer_without_framing_ends_where_the_server_ends_it() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let answer = Answer::wbxml(vec![7; 100_000]).framing(Framing::UntilClose);
    sandbox.script(Script::answer(Filter::name("ItemOperations"), answer));
    let ask = Request::eas(
        "ItemOperations",
        "alice",
        "UNTIL",
        requests::ITEM_OPERATIONS,
    );
    let answer = gateway.ask(&ask).await;
    assert_eq!((answer.status(), answer.body.len()), (200, 100_000));
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for_forever() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("email.server.timeout.response.seconds", "1")
        .start()
        .await;
    sandbox.script(Script::new(Filter::name("SendMail"), Play::Hang));
    let answer = gateway.ask(&send_mail("HANGS")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("Retry-After").is_some());
}

#[tokio::test]
async fn a_poll_is_waited_for_as_long_as_it_asks() {
    let sandbox = sandbox::start();
    // Everything but a poll would end after a second.
    let gateway = Gateway::before(&sandbox)
        .set("email.server.timeout.response.seconds", "1")
        .start()
        .await;
    let poll = Request::eas("Ping", "alice", "PATIENT", requests::ping(60));
    let delay = Duration::from_secs(3);
    let status_2 = Answer::wbxml(&b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x032\x00\x01\x01"[..]);
    sandbox.script(Script::answer(Filter::name("Ping"), status_2).delay(delay));
    assert_eq!(gateway.ask(&poll).await.status(), 200);

    // The empty form repeats the last full one, so it is waited for as long.
    let status_2 = Answer::wbxml(&b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x032\x00\x01\x01"[..]);
    sandbox.script(Script::answer(Filter::name("Ping"), status_2).delay(delay));
    let empty = Request::eas("Ping", "alice", "PATIENT", "");
    assert_eq!(gateway.ask(&empty).await.status(), 200);
}

#[tokio::test]
async fn a_sync_that_waits_is_waited_for_as_long_as_it_asks() {
    let sandbox = sandbox::start();
    // Everything but a poll would end after a second.
    let gateway = Gateway::before(&sandbox)
        .set("email.server.timeout.response.seconds", "1")
        .start()
        .await;
    let late = || {
        let delay = Duration::from_secs(3);
        Script::answer(Filter::name("Sync"), Answer::wbxml("")).delay(delay)
    };
    let sync = |device: &str, body: Bytes| Request::eas("Sync", "alice", device, body);
    let asks = [
        requests::sync_wait("2", 1),
        // Repeats the last full one (MS-ASCMD 2.2.1.21), which waits as long.
        Bytes::new(),
        requests::sync_heartbeat("2", 60),
        Bytes::new(),
    ];
    for ask in asks {
        sandbox.script(late());
        let answer = gateway.ask(&sync("WAITS", ask.clone())).await;
        assert_eq!(answer.status(), 200, "{ask:?}");
    }
    // Nor does a device that was not told to wait, or its empty form.
    for ask in [requests::sync("2"), Bytes::new()] {
        sandbox.script(late());
        let answer = gateway.ask(&sync("HURRIES", ask.clone())).await;
        assert_eq!(answer.status(), 503, "{ask:?}");
    }
}

#[tokio::test]
async fn no_poll_is_waited_for_longer_than_the_longest() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("eas.heartbeat.margin.seconds", "0")
        .set("eas.heartbeat.max.seconds", "1")
        .start()
        .await;
    for (command, ask) in [
        ("Ping", requests::ping(3540)),
        ("Sync", requests::sync_wait("2", 59)),
    ] {
        sandbox.script(Script::new(Filter::name(command), Play::Hang));
        let poll = Request::eas(command, "alice", "LONGEST", ask);
        assert_eq!(gateway.ask(&poll).await.status(), 503, "{command}");
    }
}

#[tokio::test]
async fn a_poll_that_the_server_forgets_ends_behind_its_margin() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("eas.heartbeat.margin.seconds", "1")
        .start()
        .await;
    sandbox.script(Script::new(Filter::name("Ping"), Play::Hang));
    let poll = Request::eas("Ping", "alice", "FORGOTTEN", requests::ping(1));
    assert_eq!(gateway.ask(&poll).await.status(), 503);
}

#[tokio::test]
async fn a_server_that_is_down_is_503_with_retry_after() {
    let url = format!("https://{}", free_address());
    let gateway = Gateway::alone()
        .set("email.server.host.and.port", url)
        .set("email.server.health.interval.seconds", "1")
        .set("email.server.health.threshold", "1")
        .start()
        .await;
    let answer = gateway.ask(&folder_sync("DOWN")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("Retry-After").is_some());
    seg_tests::eventually("seg_upstream_up is 0", || async {
        (gateway.admin.metric("seg_upstream_up", &[]).await == 0.0).then_some(())
    })
    .await;
    assert!(
        gateway.admin.is_ready().await,
        "readiness does not hang on the mail server"
    );
}

#[tokio::test]
async fn a_certificate_that_does_not_match_is_not_spoken_to() {
    let names = vec!["other.example".to_owned()];
    let transport = Transport::Tls {
        names,
        client_ca_pem: None,
    };
    let options = SandboxOptions {
        transport,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).expect("a sandbox");
    let gateway = Gateway::before(&sandbox).start().await;
    assert_eq!(gateway.ask(&folder_sync("MISMATCH")).await.status(), 503);
    assert_eq!(count(&sandbox, "MISMATCH"), 0);
    gateway
        .event("a log line that names the certificate", |event| {
            let detail = event["detail"].as_str().unwrap_or_default();
            event["status"] == 503
                && event["reason"] == "tls_failed"
                && detail.contains("certificate name mismatch")
        })
        .await;
    // The health checks tell of it too; the request has one line.
    let mut told = gateway.events();
    told.retain(|event| event["device"] == "MISMATCH");
    assert_eq!(told.len(), 1, "{told:?}");
    let labels = ["outcome=\"upstream_failed\"", "status=\"503\""];
    let failed = gateway.admin.metric("seg_requests_total", &labels).await;
    assert_eq!(failed, 1.0);
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_not_spoken_to() {
    let sandbox = sandbox::start();
    let stranger = seg_tests::authority::Authority::new();
    let gateway = Gateway::alone()
        .upstream(&sandbox.url(), &stranger.pem())
        .start()
        .await;
    assert_eq!(gateway.ask(&folder_sync("STRANGE")).await.status(), 503);
    assert_eq!(count(&sandbox, "STRANGE"), 0);
}

fn send_mail(device: &str) -> Request {
    Request::eas("SendMail", "alice", device, requests::send_mail("nonsense"))
}
