//! Answers in every framing, whole, in pieces, cut short and followed by what nobody asked for.

use std::future::poll_fn;

use http::Method;
use proptest::prelude::*;

use super::server::*;
use crate::upstream::{
    BadResponse, BodyError, ChunkError, Exchange, RequestHead, SendError, SendErrorKind,
};

/// Plays an answer byte by byte, or at once.
async fn play(
    server: &Server,
    head: RequestHead,
    bytes: &[u8],
    slowly: bool,
) -> (Result<Exchange, SendError>, crate::upstream::Pool, Peer) {
    let pool = pool();
    let (answer, peer) = tokio::join!(go(&pool, server, head), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        if slowly {
            for byte in bytes {
                peer.write([*byte]).await;
                tokio::task::yield_now().await;
            }
        } else {
            peer.write(bytes).await;
        }
        peer
    });
    (answer, pool, peer)
}

#[tokio::test]
async fn a_request_and_its_answer_over_both_transports() {
    for server in [Server::plain().await, Server::tls().await] {
        let pool = pool();
        let mut head = post(full(b"body"));
        head.headers.insert("x-one", header("1"));
        let (answer, (request, body, _peer)) = tokio::join!(go(&pool, &server, head), async {
            let mut peer = server.accept().await;
            let head = peer.read_head().await;
            let body = peer.read(4).await;
            peer.write(OK).await;
            (head, body, peer)
        });
        assert_eq!(
            request,
            "POST /x HTTP/1.1\r\nhost: mail.example\r\nx-one: 1\r\ncontent-length: 4\r\n\r\n"
        );
        assert_eq!(body, b"body");
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-length"], "2");
        assert_eq!(answer.peer, server.address());
        assert!(!answer.reused && !answer.replayed && answer.request_complete);
        assert_eq!(text(answer).await, "ok");
        assert_eq!(pool.stats().idle, 1);
    }
}

#[tokio::test]
async fn every_framing_at_once_and_byte_by_byte() {
    let head = || RequestHead {
        method: Method::HEAD,
        ..get()
    };
    for (request, answer, body, reusable) in [
        (get(), &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], "hello", true),
        (get(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        (get(), b"HTTP/1.1 204 No Content\r\n\r\n", "", true),
        (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", true),
        (head(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", true),
        (head(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", true),
        (
            get(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
            "hello world",
            true,
        ),
        (get(), b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", false),
        (get(), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
    ] {
        let shown = answer.escape_ascii().to_string();
        for slowly in [false, true] {
            let server = Server::plain().await;
            let request =
                RequestHead { method: request.method.clone(), ..get() };
            let (got, pool, peer) = play(&server, request, answer, slowly).await;
            assert_eq!(text(got.unwrap()).await, body, "{shown} slowly={slowly}");
            assert_eq!(pool.stats().idle, usize::from(reusable), "{shown} slowly={slowly}");
            drop(peer);
        }
    }
}

#[tokio::test]
async fn an_answer_without_length_ends_with_the_connection() {
    for server in [Server::plain().await, Server::tls().await] {
        for version in ["1.0", "1.1"] {
            let answer = format!("HTTP/{version} 200 OK\r\n\r\nall of it");
            let (got, pool, peer) = play(&server, get(), answer.as_bytes(), false).await;
            let got = got.unwrap();
            assert_eq!(got.body.remaining(), None);
            let (body, ()) = tokio::join!(text(got), peer.close());
            assert_eq!(body, "all of it");
            assert_eq!(pool.stats().idle, 0);
        }
    }
}

#[tokio::test]
async fn tls_that_just_stops_is_no_end_of_a_body() {
    let server = Server::tls().await;
    let (got, _pool, peer) = play(&server, get(), b"HTTP/1.1 200 OK\r\n\r\nhalf", false).await;
    drop(peer);
    let error = got.unwrap().body.collect(100).await.unwrap_err();
    assert!(matches!(error, BodyError::Truncated(Some(_))), "{error}");
}

#[tokio::test]
async fn bodies_cut_short_are_errors_after_what_came() {
    for (answer, came) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"[..],
            "hell",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "hello",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "hello",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ] {
        for server in [Server::plain().await, Server::tls().await] {
            let (got, pool, peer) = play(&server, get(), answer, false).await;
            peer.close().await;
            let mut body = got.unwrap().body;
            let mut seen = Vec::new();
            let error = loop {
                match poll_fn(|cx| body.poll_next(cx)).await {
                    Some(Ok(piece)) => seen.extend_from_slice(&piece),
                    Some(Err(error)) => break error,
                    None => panic!("a short body looks complete: {}", answer.escape_ascii()),
                }
            };
            assert!(matches!(error, BodyError::Truncated(_)), "{error}");
            assert_eq!(String::from_utf8(seen).unwrap(), came);
            assert!(!body.is_end());
            assert_eq!(body.remaining(), None);
            assert!(poll_fn(|cx| body.poll_next(cx)).await.is_none());
            drop(body);
            assert_eq!(pool.stats().idle, 0);
        }
    }
}

#[tokio::test]
async fn broken_chunks_are_named() {
    let server = Server::plain().await;
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n";
    let (got, _pool, _peer) = play(&server, get(), answer, false).await;
    let error = got.unwrap().body.collect(100).await.unwrap_err();
    assert!(
        matches!(error, BodyError::Malformed(ChunkError::LineEnd)),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_talks_on_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
    ] {
        for server in [Server::plain().await, Server::tls().await] {
            let (got, pool, _peer) = play(&server, get(), answer, false).await;
            let body = text(got.unwrap()).await;
            assert!(["ok", ""].contains(&&*body));
            assert_eq!(pool.stats().idle, 0, "{}", answer.escape_ascii());
        }
    }
}

#[tokio::test]
async fn nonsense_is_refused_by_name() {
    for (bytes, reason) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            BadResponse::LengthAndEncoding,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            BadResponse::DifferingLengths,
        ),
        (
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            BadResponse::Folded,
        ),
        (b"220 mail.example ESMTP\r\n", BadResponse::NotHttp),
        (b"HTTP/2 200\r\n\r\n", BadResponse::Http2),
        (b"HTTP/1.1 200 OK\r\nA: ", BadResponse::Truncated),
        (b"H", BadResponse::Truncated),
    ] {
        let error = refusal(bytes).await;
        match error.kind {
            SendErrorKind::BadResponse(got) => assert_eq!(got, reason),
            other => panic!("{other} instead of {reason}"),
        }
        assert!(!error.reused);
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused_at_its_limit() {
    let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
    endless.extend(b"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(3000));
    let server = Server::plain().await;
    let pool = pool();
    let answer = tokio::join!(go(&pool, &server, get()), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        peer.write_or_fail(&endless).await;
    })
    .0;
    let error = answer.unwrap_err();
    assert!(
        matches!(
            error.kind,
            SendErrorKind::BadResponse(BadResponse::TooLarge)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn large_bodies_come_in_pieces_that_add_up() {
    let data: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    for server in [Server::plain().await, Server::tls().await] {
        let pool = pool();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len());
        let ((), got) = tokio::join!(
            async {
                let mut peer = server.accept().await;
                peer.read_head().await;
                peer.write(&answer).await;
                peer.write(&data).await;
            },
            async {
                let exchange = go(&pool, &server, get()).await.unwrap();
                assert_eq!(exchange.body.remaining(), Some(3_000_000));
                exchange.body.collect(3_000_000).await.unwrap()
            }
        );
        assert!(got == data);
        assert_eq!(pool.stats().opened, 1);
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_gathered() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = Server::plain().await;
        let (got, ..) = play(&server, get(), answer, false).await;
        let error = got.unwrap().body.collect(4).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge(4)), "{error}");
        let (got, ..) = play(&server, get(), answer, false).await;
        assert_eq!(got.unwrap().body.collect(5).await.unwrap(), "hello");
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Length,
    Chunked(usize),
    Close,
}

fn answer(interims: usize, shape: Shape, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(interims);
    bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nX-Filler: some header\r\n");
    match shape {
        Shape::Length => {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend_from_slice(body);
        }
        Shape::Chunked(size) => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(size) {
                bytes.extend(format!("{:X};e=1\r\n", chunk.len()).bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\nX-Trailer: z\r\n\r\n");
        }
        Shape::Close => {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(body);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn splitting_an_answer_changes_nothing(
        interims in 0..3_usize,
        shape in prop_oneof![
            Just(Shape::Length), (1..50_usize).prop_map(Shape::Chunked), Just(Shape::Close)
        ],
        body in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bytes = answer(interims, shape, &body);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::plain().await;
            let pool = pool();
            let (got, peer) = tokio::join!(
                async {
                    let exchange = go(&pool, &server, get()).await.unwrap();
                    assert_eq!(exchange.status, 200);
                    assert_eq!(exchange.headers["x-filler"], "some header");
                    exchange.body.collect(1000).await.unwrap()
                },
                async {
                    let mut peer = server.accept().await;
                    peer.read_head().await;
                    for pair in cuts.windows(2) {
                        peer.write(&bytes[pair[0]..pair[1]]).await;
                        tokio::task::yield_now().await;
                    }
                    if matches!(shape, Shape::Close) { None } else { Some(peer) }
                }
            );
            assert_eq!(got, body);
            assert_eq!(pool.stats().idle, usize::from(peer.is_some()));
        });
    }
}
