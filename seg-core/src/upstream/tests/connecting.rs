//! From a name to a connection, and what the errors say.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rcgen::CertificateParams;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;

use super::server::*;
use crate::upstream::resolve::Addresses;
use crate::upstream::resolve::tests::TTL;
use crate::upstream::{
    BodyKind, NoBody, SendError, SendErrorKind, Side, Target, TargetSettings, TlsFailure, send,
};

/// An address where nobody listens.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn request(target: &Target) -> Result<String, SendError> {
    Ok(text(send(&pool(), target, get(), NoBody, DEADLINES).await?).await)
}

async fn serve(server: &Server) {
    server.accept().await.answer(OK).await;
}

#[tokio::test]
async fn every_address_is_tried() {
    let server = Server::plain().await;
    let addresses = [dead().await, dead().await, server.address()];
    let target = Target::at("mail.example", 80, None, &addresses).unwrap();
    let (got, ()) = tokio::join!(request(&target), serve(&server));
    assert_eq!(got.unwrap(), "ok");
    assert_eq!(
        target.addresses().start(3),
        2,
        "the next connection begins with what worked"
    );
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let address = dead().await;
    let target = Target::at("mail.example", 80, None, &[address]).unwrap();
    let error = request(&target).await.unwrap_err();
    assert!(
        matches!(error.kind, SendErrorKind::ConnectFailed(_)),
        "{error}"
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!(error.side(), Side::Upstream);
}

#[tokio::test]
async fn a_server_that_moved_is_found_again() {
    let server = Server::plain().await;
    let places = [dead().await, server.address()];
    let lookups = AtomicUsize::new(0);
    let addresses = Addresses::scripted(move || {
        let lookup = lookups.fetch_add(1, Ordering::Relaxed);
        Ok(vec![places[lookup.min(1)]])
    });
    let target = Target::build(
        "mail.example",
        80,
        TargetSettings::default(),
        Some(addresses),
    )
    .unwrap();
    let (got, ()) = tokio::join!(request(&target), serve(&server));
    assert_eq!(got.unwrap(), "ok");
}

#[tokio::test]
async fn a_connection_is_left_behind_when_its_server_has_moved() {
    let (old, new) = (Server::plain().await, Server::plain().await);
    let (places, moved) = (
        [old.address(), new.address()],
        Arc::new(AtomicUsize::new(0)),
    );
    let now = Arc::clone(&moved);
    let addresses = Addresses::scripted(move || Ok(vec![places[now.load(Ordering::Relaxed)]]));
    let settings = TargetSettings::default();
    let target = Target::build("mail.example", 80, settings, Some(addresses)).unwrap();
    let pool = pool();
    let ask = || async {
        let got = send(&pool, &target, get(), NoBody, DEADLINES)
            .await
            .unwrap();
        text(got).await
    };
    let (got, mut peer) = tokio::join!(ask(), async {
        let mut peer = old.accept().await;
        peer.answer(OK).await;
        peer
    });
    assert_eq!(got, "ok");

    // The name leads elsewhere, and somebody has looked.
    moved.store(1, Ordering::Relaxed);
    tokio::time::pause();
    tokio::time::advance(TTL).await;
    tokio::time::resume();
    target.look_up().await;
    // What is idle serves once more, and is not kept.
    let (got, _) = tokio::join!(ask(), peer.answer(OK));
    assert_eq!(got, "ok");
    let (got, ()) = tokio::join!(ask(), serve(&new));
    assert_eq!(got, "ok");
    assert_eq!(pool.stats().opened, 2);
}

#[tokio::test]
async fn a_name_without_address_is_an_error_of_its_own() {
    let nothing = [Err(io::ErrorKind::NotFound), Ok(())];
    for answer in nothing {
        let addresses = Addresses::scripted(move || match answer {
            Err(kind) => Err(kind.into()),
            Ok(()) => Ok(Vec::new()),
        });
        let target = Target::build(
            "mail.example",
            80,
            TargetSettings::default(),
            Some(addresses),
        )
        .unwrap();
        let error = request(&target).await.unwrap_err();
        assert!(
            error.to_string().starts_with("no address for mail.example"),
            "{error}"
        );
        assert_eq!(error.label(), "unresolved");
    }
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let server = Server::plain().await;
    let target = Target::plain("localhost", server.address().port()).unwrap();
    let (got, request) = tokio::join!(request(&target), async {
        server.accept().await.answer(OK).await
    });
    assert_eq!(got.unwrap(), "ok");
    let host = format!("host: localhost:{}\r\n", server.address().port());
    assert!(request.contains(&host), "{request}");
}

async fn failed_handshake(server: Server) -> SendErrorKind {
    let (got, _) = tokio::join!(request(server.target()), server.try_accept());
    let error = got.unwrap_err();
    assert_eq!(error.label(), "tls_failed", "{error}");
    error.kind
}

#[tokio::test]
async fn faults_of_certificates_have_their_names() {
    let (server, client) = tls_pair("other.example");
    let kind = failed_handshake(Server::tls_with(server, client, "mail.example").await).await;
    assert!(
        matches!(kind, SendErrorKind::TlsFailed(TlsFailure::NameMismatch(_))),
        "{kind}"
    );
    assert!(
        kind.to_string().contains("certificate name mismatch"),
        "{kind}"
    );

    let (server, _) = tls_pair("mail.example");
    let (_, stranger) = tls_pair("mail.example");
    let kind = failed_handshake(Server::tls_with(server, stranger, "mail.example").await).await;
    assert!(
        matches!(kind, SendErrorKind::TlsFailed(TlsFailure::UnknownIssuer)),
        "{kind}"
    );

    for (from, to, expired) in [(1990, 2000, true), (3000, 3001, false)] {
        let (server, client) = dated_pair(from, to);
        let kind = failed_handshake(Server::tls_with(server, client, "mail.example").await).await;
        match kind {
            SendErrorKind::TlsFailed(TlsFailure::Expired(_)) => assert!(expired),
            SendErrorKind::TlsFailed(TlsFailure::NotYetValid(_)) => assert!(!expired),
            other => panic!("{other}"),
        }
    }
}

fn dated_pair(from: i32, to: i32) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut params = CertificateParams::new(["mail.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    pair_of(params)
}

#[tokio::test]
async fn a_port_without_tls_is_named() {
    let server = Server::tls().await;
    let (got, ()) = tokio::join!(request(server.target()), async {
        let mut tcp = server.accept_tcp().await;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    let kind = got.unwrap_err().kind;
    assert!(
        matches!(kind, SendErrorKind::TlsFailed(TlsFailure::NotTls)),
        "{kind}"
    );
}

#[tokio::test]
async fn a_server_that_insists_on_http2_is_named() {
    let (server, client) = tls_pair("mail.example");
    let mut server = Arc::unwrap_or_clone(server);
    let mut client = Arc::unwrap_or_clone(client);
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let server = Server::tls_with(server.into(), client.into(), "mail.example").await;
    let kind = failed_handshake(server).await;
    assert!(
        matches!(kind, SendErrorKind::TlsFailed(TlsFailure::WrongProtocol)),
        "{kind}"
    );
}

/// Keeps what is read from the network, below TLS.
struct Tap<T> {
    inner: T,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.seen
            .lock()
            .extend_from_slice(&buffer.filled()[before..]);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The TLS records in `bytes`.
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = rest
            .get(usize::from(u16::from_be_bytes([*high, *low]))..)
            .unwrap_or_default();
        count += 1;
    }
    count
}

#[tokio::test]
async fn head_and_small_body_are_one_tls_record() {
    let (body, source) = channel();
    body.give(b"a streamed start");
    drop(body);
    let held = post(BodyKind::Full(vec![b'x'; 8000].into()));
    let streamed = post(BodyKind::Stream { len: Some(16) });
    let server = Server::tls().await;
    let pool = pool();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (first, mut peer) = tokio::join!(go(&pool, &server, get()), async {
        let tap = Tap {
            inner: server.accept_tcp().await,
            seen: seen.clone(),
        };
        let mut peer = Peer::new(server.acceptor().accept(tap).await.unwrap());
        peer.answer(OK).await;
        peer
    });
    assert_eq!(text(first.unwrap()).await, "ok");

    seen.lock().clear();
    let (second, ()) = tokio::join!(go(&pool, &server, held), async {
        peer.read_head().await;
        peer.read(8000).await;
        peer.write(OK).await;
    });
    assert_eq!(text(second.unwrap()).await, "ok");
    assert_eq!(records(&seen.lock()), 1);

    seen.lock().clear();
    let (third, ()) = tokio::join!(stream(&pool, &server, streamed, source), async {
        peer.read_head().await;
        peer.read(16).await;
        peer.write(OK).await;
    });
    assert!(third.unwrap().reused);
    assert_eq!(records(&seen.lock()), 1);
}
