//! Which connection serves which request, and when connections go.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::server::*;
use crate::upstream::{IdentityHash, NoBody, Pool, PoolSettings, RequestHead, Target, send};

fn of(identity: Option<u8>) -> RequestHead {
    RequestHead {
        private: identity.map(|byte| IdentityHash::new([byte; 16])),
        ..get()
    }
}

/// One exchange over a connection that must be fresh: its server end.
async fn fresh(pool: &Pool, server: &Server, head: RequestHead) -> Peer {
    let (got, peer) = tokio::join!(go(pool, server, head), async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        peer
    });
    let got = got.unwrap();
    assert!(!got.reused);
    assert_eq!(text(got).await, "ok");
    peer
}

/// One exchange over the connection whose server end is `peer`.
async fn over(pool: &Pool, server: &Server, head: RequestHead, peer: &mut Peer) {
    let (got, _) = tokio::join!(go(pool, server, head), peer.answer(OK));
    let got = got.unwrap();
    assert!(got.reused);
    assert_eq!(text(got).await, "ok");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    for server in [Server::plain().await, Server::tls().await] {
        let pool = pool();
        let mut peer = warm(&pool, &server).await;
        for _ in 0..20 {
            over(&pool, &server, get(), &mut peer).await;
        }
        let stats = pool.stats();
        assert_eq!((stats.opened, stats.reused, stats.idle), (1, 20, 1));
    }
}

#[tokio::test]
async fn the_connection_used_last_is_used_next() {
    let server = Server::plain().await;
    let pool = pool();
    let (a, b, (mut one, mut two)) = tokio::join!(
        go(&pool, &server, get()),
        go(&pool, &server, get()),
        async {
            let mut one = server.accept().await;
            let mut two = server.accept().await;
            one.answer(OK).await;
            two.answer(OK).await;
            (one, two)
        }
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(pool.stats().idle, 2);
    drop((a, b));
    over(&pool, &server, get(), &mut two).await;
    over(&pool, &server, get(), &mut two).await;
    // With the warm one busy, it is the other one's turn.
    let (first, second, ()) = tokio::join!(
        go(&pool, &server, get()),
        go(&pool, &server, get()),
        async {
            two.answer(OK).await;
            one.answer(OK).await;
        }
    );
    assert!(first.unwrap().reused && second.unwrap().reused);
    assert_eq!(pool.stats().opened, 2);
}

#[tokio::test]
async fn a_private_connection_serves_its_identity_only() {
    let server = Server::tls().await;
    let pool = pool();
    let mut alice = fresh(&pool, &server, of(Some(1))).await;
    let mut anybody = fresh(&pool, &server, of(None)).await;
    let mut bob = fresh(&pool, &server, of(Some(2))).await;
    over(&pool, &server, of(Some(1)), &mut alice).await;
    over(&pool, &server, of(None), &mut anybody).await;
    over(&pool, &server, of(Some(2)), &mut bob).await;
    over(&pool, &server, of(Some(1)), &mut alice).await;
    assert_eq!(pool.stats().opened, 3);
}

#[tokio::test]
async fn targets_do_not_share_connections() {
    let server = Server::plain().await;
    let pool = pool();
    let _warm = warm(&pool, &server).await;
    let anew = Target::at("mail.example", 80, None, &[server.address()]).unwrap();
    let (got, _peer) = tokio::join!(send(&pool, &anew, get(), NoBody, DEADLINES), async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        peer
    });
    assert!(!got.unwrap().reused);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_idled_too_long_is_not_used() {
    let server = Server::plain().await;
    let pool = pool();
    let mut peer = warm(&pool, &server).await;
    advance(Duration::from_secs(89)).await;
    over(&pool, &server, get(), &mut peer).await;
    advance(Duration::from_secs(90)).await;
    let _new = fresh(&pool, &server, get()).await;
    assert!(peer.read_to_end().await.is_empty());
    assert_eq!(pool.stats().discarded, 1);
}

#[tokio::test(start_paused = true)]
async fn tending_closes_what_idles_too_long_or_was_closed() {
    let server = Server::plain().await;
    let pool = pool();
    let tending = tokio::spawn(pool.clone().tend());
    let closed = warm(&pool, &server).await;
    closed.close().await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(pool.stats().idle, 0);

    let mut silent = warm(&pool, &server).await;
    let start = Instant::now();
    assert!(silent.read_to_end().await.is_empty());
    let waited = start.elapsed().as_secs();
    assert!((90..=95).contains(&waited), "{waited} s");
    tending.abort();
}

#[tokio::test]
async fn no_more_than_allowed_lie_idle() {
    let server = Server::plain().await;
    let pool = Pool::new(PoolSettings {
        max_idle: 1,
        ..PoolSettings::default()
    });
    let (a, b, (_one, mut two)) = tokio::join!(
        go(&pool, &server, get()),
        go(&pool, &server, get()),
        async {
            let mut one = server.accept().await;
            let mut two = server.accept().await;
            one.answer(OK).await;
            two.answer(OK).await;
            (one, two)
        }
    );
    drop((a.unwrap(), b.unwrap()));
    assert_eq!(pool.stats().idle, 1);
    assert!(two.read_to_end().await.is_empty());
}

#[tokio::test]
async fn clearing_closes_all_that_idles() {
    let server = Server::plain().await;
    let pool = pool();
    let mut peer = warm(&pool, &server).await;
    pool.clear();
    assert_eq!(pool.stats().idle, 0);
    assert!(peer.read_to_end().await.is_empty());
}

#[tokio::test]
async fn a_body_that_nobody_reads_to_its_end_closes_the_connection() {
    let server = Server::plain().await;
    let pool = pool();
    let (got, mut peer) = tokio::join!(go(&pool, &server, get()), async {
        let mut peer = server.accept().await;
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
            .await;
        peer
    });
    drop(got.unwrap());
    assert!(peer.read_to_end().await.is_empty());
    assert_eq!((pool.stats().idle, pool.stats().closing), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn abandoned_connections_are_closed_a_few_per_tick() {
    const POLLS: usize = 150;
    let server = Server::plain().await;
    let pool = pool();
    let tending = tokio::spawn(pool.clone().tend());
    let mut waiting = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..POLLS {
        let mut sending = go(&pool, &server, get());
        let peer = tokio::select! {
            _ = &mut sending => panic!("nobody answers"),
            peer = async {
                let mut peer = server.accept().await;
                peer.read_head().await;
                peer
            } => peer,
        };
        waiting.push(sending);
        peers.push(peer);
    }
    drop(waiting);
    assert_eq!(pool.stats().closing, POLLS);
    sleep(Duration::from_millis(49)).await;
    assert_eq!(pool.stats().closing, POLLS, "answers go first");

    let mut left = vec![POLLS];
    while pool.stats().closing > 0 {
        sleep(Duration::from_micros(500)).await;
        left.push(pool.stats().closing);
    }
    left.dedup();
    assert_eq!(left, [POLLS, POLLS - 64, POLLS - 128, 0]);
    for peer in &mut peers {
        assert!(peer.read_to_end().await.is_empty());
    }

    // Without the task nothing is left waiting.
    tending.abort();
    assert!(tending.await.unwrap_err().is_cancelled());
    let mut sending = go(&pool, &server, get());
    let mut peer = tokio::select! {
        _ = &mut sending => panic!("nobody answers"),
        peer = server.accept() => peer,
    };
    drop(sending);
    peer.read_to_end().await;
    assert_eq!(pool.stats().closing, 0);
}
