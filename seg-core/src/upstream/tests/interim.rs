//! Interim responses, and the question before the body (`Expect: 100-continue`).

use super::server::*;
use crate::upstream::{BadResponse, BodyKind, RequestHead, SendErrorKind};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn asking(body: BodyKind) -> RequestHead {
    RequestHead {
        expect_continue: true,
        ..post(body)
    }
}

#[tokio::test]
async fn interim_answers_are_read_over() {
    let server = Server::plain().await;
    let pool = pool();
    let answer = [
        CONTINUE,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        OK,
    ]
    .concat();
    let (got, _peer) = tokio::join!(go(&pool, &server, get()), async {
        let mut peer = server.accept().await;
        peer.answer(&answer).await;
        peer
    });
    let got = got.unwrap();
    assert!(!got.headers.contains_key("link"));
    assert_eq!(text(got).await, "ok");
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn another_protocol_and_endless_interim_answers_are_refused() {
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    for (bytes, reason) in [
        (switching.to_vec(), BadResponse::SwitchingProtocols),
        (CONTINUE.repeat(17), BadResponse::TooManyInterim),
    ] {
        match refusal(bytes).await.kind {
            SendErrorKind::BadResponse(got) => assert_eq!(got, reason),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_body_waits_for_the_servers_word() {
    let (body, source) = channel();
    body.give(b"abc");
    let server = Server::plain().await;
    let pool = pool();
    let head = asking(BodyKind::Stream { len: Some(3) });
    let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        assert!(peer.read_head().await.contains("expect: 100-continue\r\n"));
        assert_eq!(body.asked(), 0, "the source is not touched before the 100");
        drop(body);
        peer.write(CONTINUE).await;
        assert_eq!(peer.read(3).await, b"abc");
        peer.write(OK).await;
        peer
    });
    let got = got.unwrap();
    assert!(got.request_complete);
    assert_eq!(text(got).await, "ok");
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn a_held_body_waits_too() {
    let server = Server::tls().await;
    let pool = pool();
    let (got, _peer) = tokio::join!(go(&pool, &server, asking(full(b"abc"))), async {
        let mut peer = server.accept().await;
        peer.answer(CONTINUE).await;
        assert_eq!(peer.read(3).await, b"abc");
        peer.write(OK).await;
        peer
    });
    assert_eq!(text(got.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_final_answer_instead_of_the_word_saves_the_body() {
    let (body, source) = channel();
    body.give(b"abc");
    let server = Server::plain().await;
    let pool = pool();
    let head = asking(BodyKind::Stream { len: Some(3) });
    let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        peer.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            .await;
        peer
    });
    let got = got.unwrap();
    assert_eq!(got.status, 401);
    assert!(!got.request_complete);
    assert_eq!(body.asked(), 0);
    assert_eq!(
        pool.stats().idle,
        0,
        "the server may still wait for the body"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_question_gets_the_body_after_a_second() {
    let (body, source) = channel();
    body.give(b"abc");
    drop(body);
    let server = Server::plain().await;
    let pool = pool();
    let start = tokio::time::Instant::now();
    let head = asking(BodyKind::Stream { len: Some(3) });
    let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        assert_eq!(peer.read(3).await, b"abc");
        assert_eq!(start.elapsed().as_secs(), 1);
        peer.write(OK).await;
        peer
    });
    let got = got.unwrap();
    assert!(got.request_complete);
    assert_eq!(text(got).await, "ok");
}

#[tokio::test]
async fn the_word_and_the_final_answer_may_come_together() {
    let server = Server::plain().await;
    let pool = pool();
    let (got, _peer) = tokio::join!(go(&pool, &server, asking(full(b"abc"))), async {
        let mut peer = server.accept().await;
        peer.answer([CONTINUE, OK].concat()).await;
        assert_eq!(peer.read(3).await, b"abc");
        peer
    });
    assert_eq!(text(got.unwrap()).await, "ok");
    assert_eq!(pool.stats().idle, 1);
}
