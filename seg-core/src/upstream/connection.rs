//! One connection to a mail server: the socket, its TLS state, and nothing that need not live
//! while it idles.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::buffers::Buffer;
use super::pool::Key;
use super::target::Target;
use super::timer::Timer;
use crate::secure::ClientStream;
use crate::socket::Socket;

/// Stop gathering reads into one buffer from this many bytes on.
const ENOUGH: usize = 48 * 1024;

/// A connection. Always boxed: it moves between futures, pool and closer as one pointer.
pub(super) struct Connection {
    io: Io,
    /// Bytes read that belong to a response head which is not complete yet. Empty, without
    /// memory, while the connection waits or idles.
    pub(super) leftover: BytesMut,
    key: Key,
    peer: SocketAddr,
    /// It has served a whole exchange before.
    pub(super) reused: bool,
    /// Since when it lies in the pool.
    pub(super) idle_since: Instant,
    /// The clock of the exchange on it. It stays with the connection, armed: to arm one anew for
    /// every request costs more than to be woken by an old one now and then.
    pub(super) timer: Timer,
    /// An error that came behind data, to be told by the next read.
    behind: Option<io::ErrorKind>,
    target: Target,
    /// [`Addresses::changes`](super::resolve::Addresses::changes) when its address was last looked at.
    changes: u32,
    /// Where connections to the target are limited.
    _room: Option<OwnedSemaphorePermit>,
}

/// The transport of a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "lives inside the box of its connection"
)]
pub(super) enum Io {
    Plain(Socket),
    Tls(ClientStream),
}

impl Connection {
    pub(super) fn new(
        io: Io,
        key: Key,
        peer: SocketAddr,
        target: Target,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        target.standing().connected();
        let changes = target.addresses().changes();
        Self {
            io,
            leftover: BytesMut::new(),
            key,
            peer,
            reused: false,
            idle_since: Instant::now(),
            timer: Timer::default(),
            behind: None,
            target,
            changes,
            _room: room,
        }
    }

    /// The server at its other end.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether its server's name leads elsewhere by now: nothing further is sent over it then.
    pub(super) fn is_left_behind(&mut self) -> bool {
        let addresses = self.target.addresses();
        let changes = addresses.changes();
        if changes == self.changes {
            return false;
        }
        self.changes = changes;
        !addresses.stands(self.peer)
    }

    /// Bytes that the kernel has accepted over the life of the connection.
    pub(super) fn accepted(&self) -> u64 {
        match &self.io {
            Io::Plain(socket) => socket.accepted(),
            Io::Tls(stream) => stream.socket().accepted(),
        }
    }

    /// Whether the connection is open and silent, as an idle one must be. Costs no system call
    /// unless the socket has something to say.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut cx = Context::from_waker(Waker::noop());
        self.leftover.is_empty()
            && self.behind.is_none()
            && self
                .io
                .poll_read(&mut cx, &mut ReadBuf::new(&mut byte))
                .is_pending()
    }

    /// Reads once or more into `buffer`: what is there now, up to its size. `Ok(0)` is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.behind.take() {
            return Poll::Ready(Err(kind.into()));
        }
        let mut target = ReadBuf::new(buffer.as_mut());
        let mut here_only = Context::from_waker(Waker::noop());
        loop {
            let before = target.filled().len();
            // Once something has come, nobody waits for more in this call.
            let cx = if before == 0 {
                &mut *cx
            } else {
                &mut here_only
            };
            match self.io.poll_read(cx, &mut target) {
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.behind = Some(error.kind());
                    return Poll::Ready(Ok(before));
                }
                Poll::Pending => return Poll::Ready(Ok(before)),
                Poll::Ready(Ok(())) => {
                    let filled = target.filled().len();
                    if filled == before || filled >= ENOUGH {
                        return Poll::Ready(Ok(filled));
                    }
                }
            }
        }
    }

    /// Writes of two slices, one behind the other, what the transport takes in one go.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = if second.is_empty() {
            ready!(self.io.poll_write(cx, first))?
        } else if first.is_empty() {
            ready!(self.io.poll_write(cx, second))?
        } else {
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            ready!(self.io.poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    /// What carries it, for whoever speaks another protocol than HTTP.
    pub(super) fn transport(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Hands on what TLS or the socket still holds back.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Hands on what TLS still holds back; ready once the kernel has taken it.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        match &self.io {
            Io::Plain(socket) => socket.poll_sent(cx),
            Io::Tls(stream) => stream.socket().poll_sent(cx),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.target.standing().disconnected();
    }
}

impl Io {
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }
}
