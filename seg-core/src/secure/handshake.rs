//! From a socket to a stream.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor, ClientHello, UnbufferedServerConnection};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ClientStream, SecureStream, ServerStream, Session};
use crate::socket::Socket;

/// The longest ClientHello that is read in order to be looked at, in bytes: rustls' own limit of a
/// handshake message, in its records.
const LONGEST_HELLO: usize = 65 * 1024;

/// Shakes hands with a client.
///
/// # Errors
/// The socket's, or of the kind `InvalidData` with a [`rustls::Error`] inside; the client has been
/// told by an alert.
pub async fn accept(socket: Socket, config: Arc<ServerConfig>) -> io::Result<ServerStream> {
    answer(socket, config, Vec::new()).await
}

/// Shakes hands with the server `name`.
///
/// # Errors
/// As [`accept`].
pub async fn connect(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<ClientStream> {
    let session = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    shake(SecureStream::new(socket, session, Vec::new())).await
}

/// A handshake of which the client's first message has come.
pub struct Begun {
    socket: Socket,
    accepted: Accepted,
    bytes: Vec<u8>,
}

/// Reads a client's first message, by which the configuration can be chosen.
///
/// # Errors
/// As [`accept`].
pub async fn read_hello(mut socket: Socket) -> io::Result<Begun> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    loop {
        let seen = bytes.len();
        if seen > LONGEST_HELLO {
            return Err(invalid(
                rustls::InvalidMessage::HandshakePayloadTooLarge.into(),
            ));
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = bytes.get(seen..).unwrap_or_default();
        while !fresh.is_empty() && acceptor.read_tls(&mut fresh)? > 0 {}
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return Ok(Begun {
                    socket,
                    accepted,
                    bytes,
                });
            }
            Err((error, mut alert)) => {
                let mut last = Vec::new();
                alert.write_all(&mut last)?;
                // The fault is what is told, whether or not the client still listens.
                let _ = socket.write_all(&last).await;
                return Err(invalid(error));
            }
        }
    }
}

impl Begun {
    /// What the client offers.
    pub fn hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }

    /// Goes on under `config`.
    ///
    /// # Errors
    /// As [`accept`].
    pub async fn accept(self, config: Arc<ServerConfig>) -> io::Result<ServerStream> {
        answer(self.socket, config, self.bytes).await
    }
}

async fn answer(
    socket: Socket,
    config: Arc<ServerConfig>,
    begun: Vec<u8>,
) -> io::Result<ServerStream> {
    let session = UnbufferedServerConnection::new(config).map_err(invalid)?;
    shake(SecureStream::new(socket, session, begun)).await
}

async fn shake<C: Session>(mut stream: SecureStream<C>) -> io::Result<SecureStream<C>> {
    std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(stream)
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
