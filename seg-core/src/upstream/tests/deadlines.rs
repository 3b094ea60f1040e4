//! Servers that are slow, in time that only passes when nothing else happens.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::server::*;
use crate::upstream::target::OPENED_AT_ONCE;
use crate::upstream::{BodyError, BodyKind, Phase, SendErrorKind};

#[tokio::test(start_paused = true)]
async fn a_handshake_counts_into_the_connect_deadline() {
    let server = Server::tls().await;
    let start = Instant::now();
    let pool = pool();
    let (got, _tcp) = tokio::join!(go(&pool, &server, get()), server.accept_tcp());
    let error = got.unwrap_err();
    assert!(
        matches!(error.kind, SendErrorKind::Timeout(Phase::Connect)),
        "{error}"
    );
    assert_eq!(error.label(), "connect_timeout");
    assert_eq!(start.elapsed(), DEADLINES.connect);
}

#[tokio::test(start_paused = true)]
async fn connections_are_opened_in_turns_and_a_turn_is_waited_for_as_long_as_a_connection() {
    let server = Server::plain().await;
    let everybody = u32::try_from(OPENED_AT_ONCE).unwrap();
    let others = server.target().turns().acquire_many(everybody);
    let others = others.await.unwrap();
    let (start, pool) = (Instant::now(), pool());
    let error = go(&pool, &server, get()).await.unwrap_err();
    assert_eq!(error.label(), "connect_timeout");
    assert_eq!(start.elapsed(), DEADLINES.connect);

    let (got, ()) = tokio::join!(go(&pool, &server, get()), async {
        sleep(DEADLINES.connect / 2).await;
        drop(others);
        server.accept().await.answer(OK).await;
    });
    assert_eq!(text(got.unwrap()).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_waited_for_as_long_as_asked() {
    let server = Server::plain().await;
    let start = Instant::now();
    let pool = pool();
    let (got, _peer) = tokio::join!(go(&pool, &server, get()), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        peer
    });
    let error = got.unwrap_err();
    assert!(
        matches!(error.kind, SendErrorKind::Timeout(Phase::ResponseHead)),
        "{error}"
    );
    assert_eq!(start.elapsed(), DEADLINES.head);
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_does_not_stretch_its_deadline() {
    let server = Server::plain().await;
    let start = Instant::now();
    let pool = pool();
    let (got, ()) = tokio::join!(go(&pool, &server, get()), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        for byte in b"HTTP/1.1 2" {
            peer.write([*byte]).await;
            sleep(Duration::from_secs(10)).await;
        }
        assert!(peer.read_to_end().await.is_empty());
    });
    let error = got.unwrap_err();
    assert!(
        matches!(error.kind, SendErrorKind::Timeout(Phase::ResponseHead)),
        "{error}"
    );
    assert!(start.elapsed() <= DEADLINES.head + Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_may_take_long_but_not_stand_still() {
    let server = Server::plain().await;
    let start = Instant::now();
    let pool = pool();
    let (error, _peer) = tokio::join!(
        async {
            let mut body = go(&pool, &server, get()).await.unwrap().body;
            for left in (10..20).rev() {
                let piece = poll_fn(|cx| body.poll_next(cx)).await;
                assert_eq!(piece.unwrap().unwrap(), "x");
                assert_eq!(body.remaining(), Some(left));
            }
            poll_fn(|cx| body.poll_next(cx)).await.unwrap().unwrap_err()
        },
        async {
            let mut peer = server.accept().await;
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
                .await;
            for _ in 0..10 {
                sleep(DEADLINES.between_bytes - Duration::from_secs(1)).await;
                peer.write(b"x").await;
            }
            peer
        }
    );
    assert!(matches!(error, BodyError::Timeout), "{error}");
    let slow = (DEADLINES.between_bytes - Duration::from_secs(1)) * 10;
    assert_eq!(start.elapsed(), slow + DEADLINES.between_bytes);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_not_the_servers_fault() {
    let server = Server::plain().await;
    let (body, source) = channel();
    let pool = pool();
    let head = post(BodyKind::Stream { len: Some(3) });
    let (got, ()) = tokio::join!(stream(&pool, &server, head, source), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        for piece in [b"a", b"b", b"c"] {
            sleep(Duration::from_secs(3600)).await;
            body.give(piece);
            assert_eq!(peer.read(1).await, piece);
        }
        drop(body);
        sleep(DEADLINES.head - Duration::from_secs(1)).await;
        peer.write(OK).await;
    });
    let got = got.unwrap();
    assert!(got.request_complete);
    assert_eq!(text(got).await, "ok");
}
