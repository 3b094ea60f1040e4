//! Clients that are slow, silent or idle hold nothing for long, and disturb nobody.

use seg_tests::Gateway;
use seg_tests::wait::in_time;
use tokio::io::AsyncReadExt as _;

use crate::sandbox::{self, arrivals, folder_sync, is_served};

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.timeout.header.seconds", "1")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.send("POST /Microsoft-Server-ActiveSync?Cmd=Sync HTTP/1.1\r\nHost: loc")
        .await;
    wire.ended().await;
    assert_eq!(arrivals(&sandbox), 0);
    assert!(is_served(&gateway.ask(&folder_sync("QUICK")).await));
}

#[tokio::test]
async fn a_body_that_stands_still_is_not_waited_for() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.timeout.body.seconds", "1")
        .start()
        .await;
    let request = folder_sync("SLOW").bytes();
    let mut wire = gateway.connect().await;
    wire.send(&request[..request.len() - 1]).await;
    if let Some(answer) = wire.try_answer(false).await {
        assert!([400, 408].contains(&answer.status()), "{}", answer.start);
    }
    wire.ended().await;
    assert_eq!(sandbox::count(&sandbox, "SLOW"), 0);
    assert!(is_served(&gateway.ask(&folder_sync("QUICK")).await));
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_not_waited_for() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.timeout.handshake.seconds", "1")
        .start()
        .await;
    let mut silent = tokio::net::TcpStream::connect(gateway.address)
        .await
        .expect("a connection");
    let read = in_time("the end", silent.read(&mut [0; 16])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(is_served(&gateway.ask(&folder_sync("QUICK")).await));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.timeout.idle.seconds", "1")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.send(folder_sync("IDLE").bytes()).await;
    assert!(is_served(&wire.answer().await));
    wire.ended().await;
}

#[tokio::test]
async fn an_open_poll_is_no_idle_connection() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.timeout.idle.seconds", "1")
        .set("server.timeout.body.seconds", "1")
        .set("server.timeout.header.seconds", "1")
        .start()
        .await;
    let mut poll = gateway.connect().await;
    poll.send(sandbox::ping("POLLING").bytes()).await;
    sandbox::holds_poll(&sandbox, "POLLING").await;
    // Another connection is opened behind the poll, and is closed for being idle.
    let mut idle = gateway.connect().await;
    idle.send(folder_sync("IDLE").bytes()).await;
    assert!(is_served(&idle.answer().await));
    idle.ended().await;
    sandbox::holds_poll(&sandbox, "POLLING").await;
    gateway.admin.block("POLLING").await;
    assert_eq!(&poll.answer().await.body[..], sandbox::PING_REFUSED);
}
