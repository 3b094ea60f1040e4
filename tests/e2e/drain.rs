//! SIGTERM: nobody who is being served notices more than an early end of a poll.

use std::time::Duration;

use seg_core::sandbox::{Event, Filter, Play, Release, Script, What, requests};
use seg_tests::Gateway;
use seg_tests::eas::Request;
use tokio::net::TcpStream;

use crate::sandbox::{self, folder_sync, holds_poll, is_served, ping};

#[tokio::test]
async fn sigterm_ends_polls_and_the_process_leaves_with_0() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "2")
        .start()
        .await;
    let health = Request::new("GET", "/lb-health");
    assert_eq!(gateway.ask(&health).await.status(), 200);
    let mut wire = gateway.connect().await;
    wire.send(ping("DRAINED").bytes()).await;
    holds_poll(&sandbox, "DRAINED").await;
    let mut waiting = gateway.connect().await;
    let sync = Request::eas("Sync", "alice", "WAITS", requests::sync_wait("2", 59));
    waiting.send(sync.bytes()).await;
    holds_poll(&sandbox, "WAITS").await;

    gateway.signal("TERM");
    // While load balancers learn of it, everybody is still served.
    seg_tests::eventually("/lb-health says 503", || async {
        (gateway.ask(&health).await.status() == 503).then_some(())
    })
    .await;
    assert!(is_served(&gateway.ask(&folder_sync("LATE")).await));

    let answer = wire.answer().await;
    assert_eq!(answer.status(), 200);
    assert!(
        answer
            .body
            .starts_with(b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01"),
        "{:?}",
        answer.body
    );
    wire.ended().await;
    // Nothing has changed, says a Sync by saying nothing (MS-ASCMD 2.2.1.21).
    let answer = waiting.answer().await;
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    waiting.ended().await;
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn new_connections_are_served_while_the_drain_is_announced_and_refused_behind_it() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "60")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.send(ping("STAYS").bytes()).await;
    holds_poll(&sandbox, "STAYS").await;

    gateway.signal("TERM");
    let health = Request::new("GET", "/lb-health");
    seg_tests::eventually("/lb-health says 503", || async {
        (gateway.ask(&health).await.status() == 503).then_some(())
    })
    .await;
    // Another connection, which comes although the drain has been announced.
    assert!(is_served(&gateway.ask(&folder_sync("LATE")).await));

    gateway
        .event("the end of the announcement", |event| {
            let message = event["message"].as_str();
            message.is_some_and(|text| text.contains("no new connections"))
        })
        .await;
    seg_tests::eventually("a connection that is refused", || async {
        TcpStream::connect(gateway.address).await.err()
    })
    .await;
    // Who is there already is served to the end.
    let polls = Filter::any().device("STAYS");
    assert_eq!(sandbox.release(&polls, &Release::Changes), 1);
    let answer = wire.answer().await;
    let changes = b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x032\x00\x01";
    assert!(answer.body.starts_with(changes), "{:?}", answer.body);
    wire.ended().await;
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// It is on its way to the server, which has all of it: nobody can tell whether it was sent if the
/// process ends before the answer.
#[tokio::test]
async fn a_mail_whose_client_has_gone_is_finished_first() {
    let sandbox = sandbox::start();
    let mail = Filter::name("SendMail").device("GONE");
    sandbox.script(Script::new(mail.clone(), Play::Stall));
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "60")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    let request = Request::eas("SendMail", "alice", "GONE", requests::send_mail("once"));
    wire.send(request.bytes()).await;
    holds_poll(&sandbox, "GONE").await;
    wire.tear().await;
    gateway
        .event("the end of its connection", |event| {
            event["device"] == "GONE"
        })
        .await;

    gateway.signal("TERM");
    seg_tests::eventually("a connection that is refused", || async {
        TcpStream::connect(gateway.address).await.err()
    })
    .await;
    let early = tokio::time::timeout(Duration::from_secs(1), gateway.ended()).await;
    assert!(early.is_err(), "it has left a mail behind");
    assert_eq!(sandbox.release(&mail, &Release::Changes), 1);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(sandbox.count(&mail), 1);
    let written =
        |event: &Event| matches!(&event.what, What::Written(seen) if seen.name == "SendMail");
    assert_eq!(
        sandbox
            .events()
            .iter()
            .filter(|event| written(event))
            .count(),
        1
    );
}

#[tokio::test]
async fn health_is_told_without_a_token() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut admin = gateway.admin.clone();
    admin.token.clear();
    for (target, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/v1/devices", 401),
    ] {
        assert_eq!(admin.request("GET", target, "").await.0, status, "{target}");
    }
    for target in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/devices",
    ] {
        let answer = gateway.ask(&Request::new("GET", target)).await;
        assert!(answer.status() >= 400, "{target} is open to everybody");
    }
}
