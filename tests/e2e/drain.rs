//! SIGTERM: nobody who is being served notices more than an early end of a poll.

use seg_tests::Gateway;
use seg_tests::eas::Request;

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
    assert_eq!(gateway.ended().await.code(), Some(0));
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
