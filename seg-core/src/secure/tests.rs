//! Against rustls' buffered connections, over real sockets.

use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const NAME: &str = "mail.example";

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

fn configs(version: &'static SupportedProtocolVersion) -> Configs {
    let key = KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new([NAME.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a secret");
    let server = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .expect("a server's configuration");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}

/// Ours, and the other end.
async fn sockets() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let ours = Socket::new(ours.expect("connected"));
    (ours, theirs.expect("accepted").0)
}

type TheirClient = tokio_rustls::client::TlsStream<TcpStream>;
type TheirServer = tokio_rustls::server::TlsStream<TcpStream>;

async fn as_server((server, client): &Configs) -> (ServerStream, TheirClient) {
    let (ours, theirs) = sockets().await;
    let connector = TlsConnector::from(Arc::clone(client));
    let (ours, theirs) = tokio::join!(
        accept(ours, Arc::clone(server)),
        connector.connect(name(), theirs)
    );
    (ours.expect("accepted"), theirs.expect("connected"))
}

async fn as_client((server, client): &Configs) -> (ClientStream, TheirServer) {
    let (ours, theirs) = sockets().await;
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let (ours, theirs) = tokio::join!(
        connect(ours, Arc::clone(client), name()),
        acceptor.accept(theirs)
    );
    (ours.expect("connected"), theirs.expect("accepted"))
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Sends a lot from `ours`, has it sent back, and compares.
async fn there_and_back<C: Session>(
    ours: SecureStream<C>,
    theirs: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let sent = sample(3_000_000);
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(theirs);
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    });
    let (mut reader, mut writer) = tokio::io::split(ours);
    let expected = sent.clone();
    let write = async {
        for piece in sent.chunks(70_001) {
            writer.write_all(piece).await?;
        }
        writer.shutdown().await
    };
    let read = async {
        let (mut back, mut step) = (Vec::new(), 1);
        loop {
            let before = back.len();
            // Less than a record, about one, and several.
            step = step * 7 % 90_001;
            let read = (&mut reader).take(step).read_to_end(&mut back).await?;
            if read == 0 && back.len() == before {
                return Ok::<_, io::Error>(back);
            }
        }
    };
    let (wrote, back) = tokio::join!(write, read);
    wrote.expect("written");
    assert!(
        back.expect("read") == expected,
        "what came back is not what was sent"
    );
    echo.await.expect("joined").expect("echoed");
}

#[tokio::test]
async fn carries_everything_both_ways_on_both_sides_in_both_versions() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let (ours, theirs) = as_server(&configs).await;
        there_and_back(ours, theirs).await;
        let (ours, theirs) = as_client(&configs).await;
        there_and_back(ours, theirs).await;
    }
}

#[tokio::test]
async fn a_head_and_its_body_leave_as_one_record_in_order() {
    let (mut ours, mut theirs) = as_server(&configs(&TLS13)).await;
    let slices = [
        IoSlice::new(b"head "),
        IoSlice::new(b""),
        IoSlice::new(b"body"),
    ];
    let written = std::future::poll_fn(|cx| Pin::new(&mut ours).poll_write_vectored(cx, &slices));
    assert_eq!(written.await.expect("written"), 9);
    let mut got = [0; 64];
    // rustls hands out one record a read.
    assert_eq!(theirs.read(&mut got).await.expect("read"), 9);
    assert_eq!(got.get(..9), Some(&b"head body"[..]));

    let large = sample(60_000);
    let slices = [IoSlice::new(b"head"), IoSlice::new(&large)];
    let written = std::future::poll_fn(|cx| Pin::new(&mut ours).poll_write_vectored(cx, &slices));
    let written = written.await.expect("written");
    assert!(written > 4, "{written}");
    let mut got = vec![0; written];
    theirs.read_exact(&mut got).await.expect("read");
    assert_eq!(got.get(..4), Some(&b"head"[..]));
    assert_eq!(got.get(4..), large.get(..written - 4));
}

#[tokio::test]
async fn an_end_is_one_only_with_a_close_notify() {
    let (mut ours, mut theirs) = as_client(&configs(&TLS13)).await;
    theirs.write_all(b"last words").await.expect("written");
    theirs.shutdown().await.expect("closed");
    let mut got = Vec::new();
    ours.read_to_end(&mut got).await.expect("an end");
    assert_eq!(got, b"last words");
    assert_eq!(ours.read(&mut [0; 8]).await.expect("still an end"), 0);

    let (mut ours, mut theirs) = as_client(&configs(&TLS13)).await;
    theirs.write_all(b"cut").await.expect("written");
    theirs.flush().await.expect("flushed");
    // The socket alone, without a word of TLS.
    theirs.get_mut().0.shutdown().await.expect("closed");
    let mut got = [0; 3];
    ours.read_exact(&mut got).await.expect("read");
    let error = ours.read(&mut got).await.expect_err("no end");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn our_end_is_told() {
    let (mut ours, mut theirs) = as_server(&configs(&TLS13)).await;
    ours.write_all(b"bye").await.expect("written");
    ours.shutdown().await.expect("closed");
    let mut got = Vec::new();
    theirs
        .read_to_end(&mut got)
        .await
        .expect("an end, not a cut");
    assert_eq!(got, b"bye");
    // What comes from there is still read.
    theirs.write_all(b"so long").await.expect("written");
    theirs.shutdown().await.expect("closed");
    let mut got = Vec::new();
    ours.read_to_end(&mut got).await.expect("an end");
    assert_eq!(got, b"so long");
}

#[tokio::test]
async fn new_keys_are_followed_and_answered() {
    let (mut ours, mut theirs) = as_server(&configs(&TLS13)).await;
    for round in 0..3_u8 {
        theirs.get_mut().1.refresh_traffic_keys().expect("new keys");
        theirs.write_all(&[round; 5]).await.expect("written");
        theirs.flush().await.expect("flushed");
        let mut got = [0; 5];
        ours.read_exact(&mut got).await.expect("read");
        assert_eq!(got, [round; 5]);
        ours.write_all(&got).await.expect("written");
        theirs.read_exact(&mut got).await.expect("read back");
        assert_eq!(got, [round; 5]);
    }
}

#[tokio::test]
async fn what_is_no_record_ends_the_connection_and_is_told() {
    let (mut ours, mut theirs) = as_server(&configs(&TLS13)).await;
    theirs.write_all(b"good").await.expect("written");
    theirs.flush().await.expect("flushed");
    // A record of data that no key has seen, in the same packet or behind it.
    let forged = [[0x17, 3, 3, 0, 32].as_slice(), &[0xa5; 32]].concat();
    theirs
        .get_mut()
        .0
        .write_all(&forged)
        .await
        .expect("written");
    let mut got = [0; 4];
    ours.read_exact(&mut got).await.expect("what came before");
    assert_eq!(&got, b"good");
    for _ in 0..2 {
        let error = ours.read(&mut got).await.expect_err("forged");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert_eq!(inner, Some(&rustls::Error::DecryptError));
    }
    let error = theirs.read(&mut got).await.expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[tokio::test]
async fn strangers_are_told_why() {
    let ours = configs(&TLS13);
    let (_, stranger) = configs(&TLS13);
    let (socket, theirs) = sockets().await;
    let connector = TlsConnector::from(stranger);
    let (accepted, connected) = tokio::join!(
        accept(socket, Arc::clone(&ours.0)),
        connector.connect(name(), theirs)
    );
    let error = accepted.err().expect("refused by the client");
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    assert!(
        matches!(inner, Some(rustls::Error::AlertReceived(_))),
        "{error}"
    );
    connected.expect_err("an unknown certificate");

    let (socket, mut theirs) = sockets().await;
    theirs
        .write_all(b"GET / HTTP/1.1\r\nHost: mail.example\r\n\r\n")
        .await
        .expect("written");
    let error = accept(socket, ours.0).await.err().expect("no TLS");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let mut alert = Vec::new();
    theirs.read_to_end(&mut alert).await.expect("read");
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:x?}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_handshake_is_an_early_end() {
    let (server, _) = configs(&TLS13);
    let (socket, mut theirs) = sockets().await;
    theirs
        .write_all(&[0x16, 3, 1, 2, 0, 1])
        .await
        .expect("written");
    theirs.shutdown().await.expect("closed");
    let error = accept(socket, server).await.err().expect("no handshake");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

/// A relay that hands on byte by byte what goes to `to`.
async fn drip(from: TcpStream, to: TcpStream) {
    let ((mut from_read, mut from_write), (mut to_read, mut to_write)) =
        (from.into_split(), to.into_split());
    let slow = async {
        let mut byte = [0; 1];
        while from_read.read(&mut byte).await? == 1 {
            to_write.write_all(&byte).await?;
            tokio::task::yield_now().await;
        }
        to_write.shutdown().await
    };
    let back = tokio::io::copy(&mut to_read, &mut from_write);
    let _ = tokio::join!(slow, back);
}

#[tokio::test]
async fn records_in_any_pieces_and_a_hello_that_is_looked_at() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = configs(version);
        let (socket, relayed) = sockets().await;
        let (inner, outer) = sockets().await;
        relayed.set_nodelay(true).expect("set");
        let relay = tokio::spawn(drip(outer, relayed));
        let ours = async {
            let begun = read_hello(socket).await?;
            assert_eq!(begun.hello().server_name(), Some(NAME));
            begun.accept(server).await
        };
        let theirs = connect(inner, client, name());
        let (ours, theirs) = tokio::join!(ours, theirs);
        let (mut ours, mut theirs) = (ours.expect("accepted"), theirs.expect("connected"));
        theirs.write_all(b"in pieces").await.expect("written");
        let mut got = [0; 9];
        ours.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"in pieces");
        drop((ours, theirs));
        relay.await.expect("joined");
    }
}

#[tokio::test]
async fn a_hello_that_is_none_is_answered_by_an_alert() {
    let (socket, mut theirs) = sockets().await;
    theirs
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    let error = read_hello(socket).await.err().expect("no hello");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let mut alert = Vec::new();
    theirs.read_to_end(&mut alert).await.expect("read");
    assert_eq!(alert.first(), Some(&0x15), "an alert: {alert:x?}");

    // One that never ends.
    let (socket, mut theirs) = sockets().await;
    let endless = tokio::spawn(async move {
        let record = [[0x16, 3, 1, 0x40, 0].as_slice(), &[1; 0x4000]].concat();
        for _ in 0..64 {
            if theirs.write_all(&record).await.is_err() {
                return;
            }
        }
    });
    read_hello(socket).await.err().expect("too long");
    endless.await.expect("joined");
}

#[tokio::test]
async fn sessions_are_resumed_on_both_sides() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut ours, mut theirs) = as_client(&configs).await;
            assert_eq!(ours.session().handshake_kind(), Some(kind), "{version:?}");
            // The tickets come before the first data.
            theirs.write_all(b"x").await.expect("written");
            theirs.flush().await.expect("flushed");
            ours.read_exact(&mut [0]).await.expect("read");
        }
        let (mut ours, mut theirs) = as_server(&configs).await;
        ours.write_all(b"x").await.expect("written");
        theirs.read_exact(&mut [0]).await.expect("read");
        assert_eq!(
            ours.session().handshake_kind(),
            Some(HandshakeKind::Resumed),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn what_waits_holds_nothing() {
    let (mut ours, mut theirs) = as_server(&configs(&TLS13)).await;
    for length in [1, 20_000, 100_000] {
        let sent = sample(length);
        theirs.write_all(&sent).await.expect("written");
        theirs.flush().await.expect("flushed");
        let mut got = vec![0; length];
        ours.read_exact(&mut got).await.expect("read");
        assert!(got == sent, "{length}");
        let waiting = std::future::poll_fn(|cx| {
            let mut byte = [0; 1];
            let polled = Pin::new(&mut ours).poll_read(cx, &mut ReadBuf::new(&mut byte));
            Poll::Ready(polled.is_pending())
        });
        assert!(waiting.await, "nothing more was sent");
        assert_eq!(ours.incoming.capacity(), 0);
        assert_eq!(ours.plaintext.capacity(), 0);
        assert_eq!(ours.records.outgoing.capacity(), 0);
    }
}
