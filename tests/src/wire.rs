//! A client that sends exactly the bytes it is given, over TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::Identity;
use crate::message::{Incomplete, Message};
use crate::wait::in_time;

/// A TLS connection to `localhost`.
#[derive(Debug)]
pub struct Wire {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    closed: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// With close_notify: everything that was sent has arrived.
    Cleanly,
    /// Without: the client sees an error.
    Torn,
}

impl Wire {
    /// Connects; trusts only `ca_pem`.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect(address: SocketAddr, ca_pem: &str) -> Self {
        Self::connect_as(address, ca_pem, None).await
    }

    /// Connects with a client certificate.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect_as(
        address: SocketAddr,
        ca_pem: &str,
        identity: Option<&Identity>,
    ) -> Self {
        Self::open(address, "localhost", client_config(ca_pem, identity)).await
    }

    /// Connects as the client that `config` makes, to the server of that name.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn open(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let connector = TlsConnector::from(config);
        let stream = in_time("TLS handshake", connector.connect(name, stream)).await;
        Self {
            stream: stream.expect("TLS"),
            received: BytesMut::new(),
            closed: false,
        }
    }

    /// Whether this connection went on with an earlier one's TLS session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let (_, session) = self.stream.get_ref();
        session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// When they can't be sent.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time("send", async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        })
        .await
        .expect("the bytes are sent");
    }

    /// Sends these bytes to a peer who may close at any of them.
    pub async fn send_until_closed(&mut self, bytes: impl AsRef<[u8]>) {
        in_time("send", async {
            // An error is the close that is allowed.
            let _closed = self.stream.write_all(bytes.as_ref()).await;
            let _closed = self.stream.flush().await;
        })
        .await;
    }

    /// The next answer.
    ///
    /// # Panics
    /// When the connection ends before, or something else than HTTP/1.1 comes.
    pub async fn answer(&mut self) -> Message {
        self.try_answer(false)
            .await
            .expect("an answer before the connection's end")
    }

    /// The next answer, to a HEAD request.
    ///
    /// # Panics
    /// As [`answer`](Self::answer).
    pub async fn answer_to_head(&mut self) -> Message {
        self.try_answer(true)
            .await
            .expect("an answer before the connection's end")
    }

    /// The next answer; none when the connection ends before it is whole.
    ///
    /// # Panics
    /// When something else than HTTP/1.1 comes.
    pub async fn try_answer(&mut self, to_head: bool) -> Option<Message> {
        loop {
            let bytes = Bytes::copy_from_slice(&self.received);
            match Message::answer(&bytes, to_head, self.closed) {
                Ok(answer) => {
                    self.received = BytesMut::from(&answer.rest[..]);
                    return Some(answer);
                }
                Err(Incomplete::Malformed(why)) => panic!("no HTTP answer: {why}: {bytes:?}"),
                Err(Incomplete::More) if self.closed => return None,
                Err(Incomplete::More) => {
                    self.receive().await;
                }
            }
        }
    }

    /// Waits for the connection's end; everything received before is dropped.
    ///
    /// # Panics
    /// When the other side leaves it open.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.receive().await {
                return ended;
            }
        }
    }

    /// What has been received and not been read as an answer.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Waits until this text has been received and is not read as an answer yet.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.received).contains(text) {
            let ended = self.receive().await;
            assert!(
                ended.is_none(),
                "{text:?} was expected before {:?}",
                self.received
            );
        }
    }

    /// Reads once more: how the connection ended, if it did.
    ///
    /// # Panics
    /// When nothing comes, not even an end.
    pub async fn receive(&mut self) -> Option<Ended> {
        let read = in_time(
            "bytes, or the end",
            self.stream.read_buf(&mut self.received),
        )
        .await;
        let ended = match read {
            Ok(0) => Ended::Cleanly,
            Err(_) => Ended::Torn,
            Ok(_) => return None,
        };
        self.closed = true;
        Some(ended)
    }

    /// Leaves without a word: the socket is closed, TLS is not.
    pub async fn tear(self) {
        let (socket, _tls) = self.stream.into_inner();
        drop(socket);
    }
}

/// Trusts only this authority; shows this certificate when it is asked for one.
///
/// # Panics
/// When either can't be used.
#[must_use]
pub fn client_config(ca_pem: &str, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots
            .add(certificate.expect("a certificate in PEM"))
            .expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
            config
                .with_client_auth_cert(chain, key)
                .expect("a certificate with its key")
        }
    })
}
