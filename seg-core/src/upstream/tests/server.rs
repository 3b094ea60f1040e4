//! A server whose every byte the test writes itself, and the client's side of a test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::upstream::{
    BodyKind, BodySource, Deadlines, Exchange, NoBody, Pool, PoolSettings, ReplayPolicy,
    RequestHead, SendError, Sending, SourceError, Target, send,
};

pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A listening socket.
pub(super) struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    target: Target,
}

impl Server {
    pub(super) async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::at("mail.example", 80, None, &[address]).unwrap();
        Self {
            listener,
            tls: None,
            target,
        }
    }

    pub(super) async fn tls() -> Self {
        let (server, client) = tls_pair("mail.example");
        Self::tls_with(server, client, "mail.example").await
    }

    pub(super) async fn tls_with(
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
        host: &str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::at(host, 443, Some(client), &[address]).unwrap();
        Self {
            listener,
            tls: Some(server.into()),
            target,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(super) async fn accept(&self) -> Peer {
        let tcp = self.accept_tcp().await;
        match &self.tls {
            None => Peer {
                transport: Box::new(tcp),
            },
            Some(acceptor) => Peer {
                transport: Box::new(acceptor.accept(tcp).await.unwrap()),
            },
        }
    }

    pub(super) async fn accept_tcp(&self) -> TcpStream {
        let tcp = self.listener.accept().await.unwrap().0;
        tcp.set_nodelay(true).unwrap();
        tcp
    }
}

impl Server {
    /// Accepts and lets the handshake end as it may.
    pub(super) async fn try_accept(&self) -> std::io::Result<Peer> {
        let tcp = self.accept_tcp().await;
        let acceptor = self.tls.as_ref().expect("a TLS server");
        Ok(Peer {
            transport: Box::new(acceptor.accept(tcp).await?),
        })
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        self.tls.as_ref().expect("a TLS server")
    }
}

/// Matching configurations with a fresh certificate for `name`, that nobody else has issued.
pub(super) fn tls_pair(name: &str) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    pair_of(CertificateParams::new([name.to_owned()]).unwrap())
}

/// Matching configurations with a self-signed certificate of these parameters.
pub(super) fn pair_of(mut params: CertificateParams) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = KeyPair::generate().unwrap();
    // Two certificates of one subject would look like a forgery, not like strangers.
    let subject = format!("{:x?}", key.public_key_raw());
    params.distinguished_name.push(DnType::CommonName, subject);
    let certificate = params.self_signed(&key).unwrap();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// One accepted connection.
pub(super) struct Peer {
    transport: Box<dyn Transport>,
}

impl Peer {
    pub(super) fn new(transport: impl Transport + 'static) -> Self {
        Self {
            transport: Box::new(transport),
        }
    }

    /// Reads up to the end of a request head and no further.
    pub(super) async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.transport.read_u8().await.expect("a request head"));
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.transport.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Reads what comes up to the end of the connection, however it ends.
    pub(super) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.transport.read_to_end(&mut bytes).await;
        bytes
    }

    /// Writes until the other side has heard enough.
    pub(super) async fn write_or_fail(&mut self, bytes: &[u8]) {
        let _ = self.transport.write_all(bytes).await;
    }

    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.transport.write_all(bytes.as_ref()).await.unwrap();
        self.transport.flush().await.unwrap();
    }

    /// Answers one request with the given bytes.
    pub(super) async fn answer(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let head = self.read_head().await;
        self.write(bytes).await;
        head
    }

    /// Closes in order: TLS says so first.
    pub(super) async fn close(mut self) {
        let _ = self.transport.shutdown().await;
    }
}

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(10),
    head: Duration::from_secs(90),
    between_bytes: Duration::from_secs(60),
};

pub(super) fn pool() -> Pool {
    Pool::new(PoolSettings::default())
}

pub(super) fn get() -> RequestHead {
    RequestHead::new(Method::GET, PathAndQuery::from_static("/x"))
}

pub(super) fn post(body: BodyKind) -> RequestHead {
    RequestHead {
        body,
        ..RequestHead::new(Method::POST, PathAndQuery::from_static("/x"))
    }
}

pub(super) fn full(body: &'static [u8]) -> BodyKind {
    BodyKind::Full(Bytes::from_static(body))
}

pub(super) fn replayable(head: RequestHead) -> RequestHead {
    RequestHead {
        replay: ReplayPolicy { allowed: true },
        ..head
    }
}

pub(super) fn go(pool: &Pool, server: &Server, head: RequestHead) -> Sending<NoBody> {
    send(pool, server.target(), head, NoBody, DEADLINES)
}

pub(super) fn stream<S: BodySource>(
    pool: &Pool,
    server: &Server,
    head: RequestHead,
    source: S,
) -> Sending<S> {
    send(pool, server.target(), head, source, DEADLINES)
}

pub(super) async fn text(exchange: Exchange) -> String {
    let body = exchange.body.collect(1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// One request that `peer` answers with [`OK`], so that its connection is warm.
pub(super) async fn warm(pool: &Pool, server: &Server) -> Peer {
    let (answer, peer) = tokio::join!(go(pool, server, get()), async {
        let mut peer = server.accept().await;
        peer.answer(OK).await;
        peer
    });
    assert_eq!(text(answer.unwrap()).await, "ok");
    assert_eq!(pool.stats().idle, 1);
    peer
}

/// The error of a request that `bytes` were played to.
pub(super) async fn refusal(bytes: impl AsRef<[u8]>) -> SendError {
    let server = Server::plain().await;
    let (answer, ()) = tokio::join!(go(&pool(), &server, get()), async {
        let mut peer = server.accept().await;
        peer.answer(bytes).await;
        peer.close().await;
    });
    answer.expect_err("the answer must be refused")
}

pub(super) fn header(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// A request body that the test sends piece by piece, and that knows how often it was asked.
pub(super) struct Channel {
    pieces: UnboundedReceiver<Result<Bytes, SourceError>>,
    asked: Arc<AtomicUsize>,
}

pub(super) struct Body {
    pieces: UnboundedSender<Result<Bytes, SourceError>>,
    asked: Arc<AtomicUsize>,
}

pub(super) fn channel() -> (Body, Channel) {
    let (sender, receiver) = unbounded_channel();
    let asked = Arc::new(AtomicUsize::new(0));
    (
        Body {
            pieces: sender,
            asked: asked.clone(),
        },
        Channel {
            pieces: receiver,
            asked,
        },
    )
}

impl Body {
    pub(super) fn give(&self, piece: &'static [u8]) {
        self.pieces.send(Ok(Bytes::from_static(piece))).unwrap();
    }

    pub(super) fn fail(&self, reason: &'static str) {
        self.pieces.send(Err(reason.into())).unwrap();
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl BodySource for Channel {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.pieces.poll_recv(cx)
    }
}
