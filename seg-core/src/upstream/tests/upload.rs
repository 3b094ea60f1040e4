//! Request bodies that come piece by piece.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::server::*;
use crate::upstream::{BodyKind, BodySource, Phase, SendErrorKind, Side, SourceError};

#[tokio::test]
async fn a_body_of_known_length_streams_through() {
    for server in [Server::plain().await, Server::tls().await] {
        let (body, source) = channel();
        let pool = pool();
        let head = post(BodyKind::Stream { len: Some(6) });
        let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
            let mut peer = server.accept().await;
            assert!(
                peer.read_head()
                    .await
                    .ends_with("content-length: 6\r\n\r\n")
            );
            for piece in [b"ab", b"cd", b"ef"] {
                body.give(piece);
                body.give(b"");
                assert_eq!(peer.read(2).await, piece);
            }
            // The request is complete when its source says so, not when the count is full.
            drop(body);
            peer.write(OK).await;
            peer
        });
        let got = got.unwrap();
        assert!(got.request_complete);
        assert_eq!(text(got).await, "ok");
        assert_eq!(pool.stats().idle, 1);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked() {
    let server = Server::tls().await;
    let (body, source) = channel();
    body.give(b"first");
    let pool = pool();
    let head = post(BodyKind::Stream { len: None });
    let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        assert!(
            peer.read_head()
                .await
                .ends_with("transfer-encoding: chunked\r\n\r\n")
        );
        assert_eq!(peer.read(8).await, b"5\r\nfirst");
        body.give(b"0123456789abcdef");
        assert_eq!(peer.read(22).await, b"\r\n10\r\n0123456789abcdef");
        drop(body);
        assert_eq!(peer.read(7).await, b"\r\n0\r\n\r\n");
        peer.write(OK).await;
        peer
    });
    assert_eq!(text(got.unwrap()).await, "ok");
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn an_empty_body_of_unknown_length_is_one_last_chunk() {
    let server = Server::plain().await;
    let (body, source) = channel();
    drop(body);
    let pool = pool();
    let head = post(BodyKind::Stream { len: None });
    let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        assert_eq!(peer.read(5).await, b"0\r\n\r\n");
        peer.write(OK).await;
        peer
    });
    assert_eq!(text(got.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_large_held_body_arrives_whole() {
    let data: Vec<u8> = (0..5_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    for server in [Server::plain().await, Server::tls().await] {
        let pool = pool();
        let head = post(BodyKind::Full(Bytes::from(data.clone())));
        let (got, _peer) = tokio::join!(go(&pool, &server, head), async {
            let mut peer = server.accept().await;
            peer.read_head().await;
            assert!(peer.read(data.len()).await == data);
            peer.write(OK).await;
            peer
        });
        assert_eq!(text(got.unwrap()).await, "ok");
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_ends_the_upload() {
    for server in [Server::plain().await, Server::tls().await] {
        let (body, source) = channel();
        body.give(b"abc");
        let pool = pool();
        let head = post(BodyKind::Stream { len: Some(1000) });
        let (got, _peer) = tokio::join!(stream(&pool, &server, head, source), async {
            let mut peer = server.accept().await;
            peer.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                .await;
            peer
        });
        let got = got.unwrap();
        assert_eq!(got.status, 413);
        assert!(!got.request_complete);
        drop(got);
        assert_eq!(pool.stats().idle, 0);
    }
}

#[tokio::test]
async fn an_answer_is_heard_while_the_server_takes_nothing_more() {
    let server = Server::plain().await;
    let pool = pool();
    let head = post(BodyKind::Full(Bytes::from(vec![0; 64 << 20])));
    let (got, _peer) = tokio::join!(go(&pool, &server, head), async {
        let mut peer = server.accept().await;
        peer.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        peer
    });
    let got = got.unwrap();
    assert_eq!((got.status.as_u16(), got.request_complete), (413, false));
}

#[tokio::test]
async fn faults_of_the_source_are_the_clients() {
    for (len, pieces, fault, text) in [
        (
            Some(5),
            &[&b"abc"[..]][..],
            None,
            "ended before its Content-Length",
        ),
        (Some(2), &[b"abc"], None, "longer than its Content-Length"),
        (
            None,
            &[b"abc"],
            Some("client went away"),
            "client went away",
        ),
        (
            Some(9),
            &[b"abc"],
            Some("client went away"),
            "client went away",
        ),
        (Some(9), &[], Some("client went away"), "client went away"),
        (
            Some(3),
            &[b"abc"],
            Some("not well-formed"),
            "not well-formed",
        ),
        (Some(0), &[b"abc"], None, "longer than its Content-Length"),
    ] {
        let server = Server::plain().await;
        let (body, source) = channel();
        pieces.iter().for_each(|piece| body.give(piece));
        if let Some(fault) = fault {
            body.fail(fault);
        }
        drop(body);
        let pool = pool();
        let head = replayable(post(BodyKind::Stream { len }));
        let (got, seen) = tokio::join!(stream(&pool, &server, head, source), async {
            server.accept().await.read_to_end().await
        });
        let error = got.unwrap_err();
        assert!(
            matches!(error.kind, SendErrorKind::BodySource(_)),
            "{error}"
        );
        assert_eq!(error.to_string(), format!("request body: {text}"));
        assert_eq!(error.side(), Side::Downstream);
        assert!(!error.retryable());
        assert!(
            !seen.ends_with(b"0\r\n\r\n"),
            "a torn body must not look complete"
        );
    }
}

/// Always has more, and counts how much was taken.
struct Endless<'a>(&'a AtomicUsize);

impl BodySource for Endless<'_> {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Bytes::from_static(&[0; 64 * 1024]))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_stops_the_source() {
    for server in [Server::plain().await, Server::tls().await] {
        let taken = AtomicUsize::new(0);
        let pool = pool();
        let head = post(BodyKind::Stream { len: None });
        let (got, _peer) = tokio::join!(
            stream(&pool, &server, head, Endless(&taken)),
            server.accept()
        );
        let error = got.unwrap_err();
        assert!(
            matches!(error.kind, SendErrorKind::Timeout(Phase::RequestBody)),
            "{error}"
        );
        let taken = taken.load(Ordering::Relaxed) * 64 * 1024;
        assert!(
            taken < 64 << 20,
            "{taken} bytes for a server that reads nothing"
        );
    }
}

#[tokio::test]
async fn a_server_that_closes_behind_an_early_answer_is_heard() {
    let server = Server::plain().await;
    let (body, source) = channel();
    body.give(b"abc");
    let pool = pool();
    let head = post(BodyKind::Stream { len: None });
    let (got, ()) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        peer.answer(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
            .await;
        peer.close().await;
        body.give(b"def");
    });
    let got = got.unwrap();
    assert_eq!(got.status, 403);
    assert_eq!(text(got).await, "no");
}
