//! What happens when a connection dies under a request.

use socket2::SockRef;
use tokio::io::AsyncWriteExt;

use super::server::*;
use crate::upstream::{BadResponse, BodyKind, Pool, PoolStats, SendErrorKind};

fn totals(pool: &Pool) -> (u64, u64, u64) {
    let PoolStats {
        replays,
        reconnects,
        opened,
        ..
    } = pool.stats();
    (replays, reconnects, opened)
}

#[tokio::test]
async fn a_request_over_a_dying_reused_connection_is_sent_once_more() {
    for server in [Server::plain().await, Server::tls().await] {
        for body in [BodyKind::None, full(b"body")] {
            let pool = pool();
            let mut old = warm(&pool, &server).await;
            let head = replayable(post(body.clone()));
            let (got, (first, second)) = tokio::join!(go(&pool, &server, head), async {
                let first = old.read_head().await;
                old.close().await;
                let mut new = server.accept().await;
                let second = new.read_head().await;
                if matches!(body, BodyKind::Full(_)) {
                    assert_eq!(new.read(4).await, b"body");
                }
                new.write(OK).await;
                (first, second)
            });
            let got = got.unwrap();
            assert!(got.replayed && !got.reused);
            assert_eq!(text(got).await, "ok");
            assert_eq!(first, second);
            assert_eq!(totals(&pool), (1, 0, 2));
        }
    }
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not() {
    let server = Server::plain().await;
    for (head, held) in [
        (post(full(b"body")), true),
        (replayable(post(BodyKind::Stream { len: Some(0) })), false),
        (
            replayable(post(BodyKind::Full(vec![0; 64 * 1024 + 1].into()))),
            false,
        ),
    ] {
        let pool = pool();
        let mut old = warm(&pool, &server).await;
        let (got, ()) = tokio::join!(go(&pool, &server, head), async {
            let length = old.read_head().await;
            let length = length.split("content-length: ").nth(1).unwrap();
            let length = length.split("\r\n").next().unwrap().parse().unwrap();
            old.read(length).await;
            old.close().await;
        });
        let error = got.unwrap_err();
        assert!(
            matches!(error.kind, SendErrorKind::ClosedBeforeByte { .. }),
            "{error}"
        );
        assert!(error.reused && !error.replayed);
        assert_eq!(error.held, held);
        assert_eq!(
            error.retryable(),
            held,
            "only where the policy was in the way"
        );
        assert_eq!(totals(&pool), (0, 0, 1));
    }
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_no_reason_to_repeat() {
    let server = Server::plain().await;
    let pool = pool();
    let (got, ()) = tokio::join!(go(&pool, &server, replayable(get())), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        peer.close().await;
    });
    let error = got.unwrap_err();
    assert!(
        matches!(error.kind, SendErrorKind::ClosedBeforeByte { .. }),
        "{error}"
    );
    assert!(!error.reused && !error.retryable());
    assert_eq!(totals(&pool), (0, 0, 1));
}

#[tokio::test]
async fn one_byte_of_an_answer_forbids_the_repetition() {
    let server = Server::plain().await;
    let pool = pool();
    let mut old = warm(&pool, &server).await;
    let (got, ()) = tokio::join!(go(&pool, &server, replayable(get())), async {
        old.answer(b"H").await;
        old.close().await;
    });
    let error = got.unwrap_err();
    let truncated = matches!(
        error.kind,
        SendErrorKind::BadResponse(BadResponse::Truncated)
    );
    assert!(truncated && error.reused && !error.retryable(), "{error}");
    assert_eq!(totals(&pool), (0, 0, 1));
}

#[tokio::test]
async fn a_request_is_repeated_once_only() {
    let server = Server::plain().await;
    let pool = pool();
    let mut old = warm(&pool, &server).await;
    let (got, ()) = tokio::join!(go(&pool, &server, replayable(get())), async {
        old.read_head().await;
        old.close().await;
        let mut new = server.accept().await;
        new.read_head().await;
        new.close().await;
    });
    let error = got.unwrap_err();
    assert!(error.replayed && !error.retryable(), "{error}");
    assert_eq!(totals(&pool), (1, 0, 2));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_never_written_to() {
    for server in [Server::plain().await, Server::tls().await] {
        let pool = pool();
        warm(&pool, &server).await.close().await;
        // Lets the runtime notice.
        tokio::task::yield_now().await;
        let (got, _peer) = tokio::join!(go(&pool, &server, get()), async {
            let mut peer = server.accept().await;
            peer.answer(OK).await;
            peer
        });
        let got = got.unwrap();
        assert!(!got.reused && !got.replayed);
        assert_eq!(totals(&pool), (0, 0, 2));
        assert_eq!(pool.stats().discarded, 1);
    }
}

/// Whether the kernel still knows the client's end of `peer`. A reset removes it.
fn is_known(peer: u16, server: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = format!("0100007F:{peer:04X} 0100007F:{server:04X} 01");
    table.contains(&line)
}

#[tokio::test]
async fn a_request_that_meets_a_dead_connection_moves_on_whatever_it_is() {
    let server = Server::plain().await;
    let pool = pool();
    let (answer, peer) = tokio::join!(go(&pool, &server, get()), async {
        let mut tcp = server.accept_tcp().await;
        tcp.write_all(OK).await.unwrap();
        tcp
    });
    assert_eq!(text(answer.unwrap()).await, "ok");

    // A reset that the runtime has not heard of: nothing is awaited up to the next request.
    SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    let (client, at) = (peer.peer_addr().unwrap().port(), server.address().port());
    assert!(is_known(client, at));
    drop(peer);
    while is_known(client, at) {
        std::hint::spin_loop();
    }
    let (got, body) = tokio::join!(go(&pool, &server, post(full(b"sent once"))), async {
        let mut peer = server.accept().await;
        peer.read_head().await;
        let body = peer.read(9).await;
        peer.write(OK).await;
        body
    });
    let got = got.unwrap();
    assert!(!got.replayed && !got.reused);
    assert_eq!(body, b"sent once");
    assert_eq!(totals(&pool), (0, 1, 2));
}
