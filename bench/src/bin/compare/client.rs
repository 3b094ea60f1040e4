//! The load's own HTTP/1.1 client: bytes out, an answer with Content-Length in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use memchr::memmem;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How much is read at once; an answer's head must fit.
const BUFFER: usize = 8 * 1024;

/// How the load reaches a proxy: its address and who signed its certificate.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// A connection, kept alive between requests.
pub(crate) struct Client<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) length: u64,
    /// The body as far as it came with the head or was asked to be kept.
    pub(crate) body: Vec<u8>,
}

/// What becomes of the body.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Body {
    Keep,
    Count,
}

impl Client<TlsStream<TcpStream>> {
    /// A TLS connection to a proxy.
    pub(crate) async fn connect(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&target.tls));
        Ok(Self::over(connector.connect(name, stream).await?))
    }
}

impl Client<TcpStream> {
    /// A plain connection, to the admin API.
    pub(crate) async fn plain(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn over(stream: S) -> Self {
        let buffer = vec![0; BUFFER];
        Self { stream, buffer }
    }

    /// Sends a request and reads its answer; `received` is told of every stretch of it.
    pub(crate) async fn ask(
        &mut self,
        request: &[u8],
        body: Body,
        mut received: impl FnMut(usize),
    ) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let head_end = loop {
            filled += self.read(filled, &mut received).await?;
            let have = self.buffer.get(..filled).unwrap_or_default();
            if let Some(end) = memmem::find(have, b"\r\n\r\n") {
                break end;
            }
        };
        let head = self.buffer.get(..head_end).unwrap_or_default();
        let start = self.buffer.get(head_end + 4..filled).unwrap_or_default();
        let (status, length) =
            read_head(head).ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
        let mut answer = Answer {
            status,
            length,
            body: Vec::new(),
        };
        if body == Body::Keep {
            answer.body.extend_from_slice(start);
        }
        let mut left = length.saturating_sub(start.len() as u64);
        while left > 0 {
            let read = self.read(0, &mut received).await?;
            if body == Body::Keep {
                let stretch = self.buffer.get(..read).unwrap_or_default();
                answer.body.extend_from_slice(stretch);
            }
            left = left.saturating_sub(read as u64);
        }
        Ok(answer)
    }

    /// Sends a request whose answer is read by [`until`](Self::until).
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Reads until what has come since the call ends in a stretch with `needle`; gives all of it.
    pub(crate) async fn until(&mut self, needle: &[u8]) -> io::Result<Vec<u8>> {
        let mut said = Vec::new();
        while memmem::find(&said, needle).is_none() {
            let read = self.read(0, &mut |_| ()).await?;
            said.extend_from_slice(self.buffer.get(..read).unwrap_or_default());
        }
        Ok(said)
    }

    /// Reads into the buffer from this place on.
    async fn read(&mut self, at: usize, received: &mut impl FnMut(usize)) -> io::Result<usize> {
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        let read = self.stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received(read);
        Ok(read)
    }
}

/// Status and Content-Length.
fn read_head(head: &[u8]) -> Option<(u16, u64)> {
    let head = str::from_utf8(head).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.split("\r\n").skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    // 204 has no body and says no length.
    length
        .or_else(|| (status == 204).then_some(0))
        .map(|length| (status, length))
}
