//! A client's connection that goes on in another protocol (RFC 9110 section 7.8).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection of a request that asks for another protocol; it is there when the answer, 101,
/// is out.
#[derive(Debug)]
pub struct Switch(OnUpgrade);

impl Switch {
    pub(super) fn new(upgrade: OnUpgrade) -> Self {
        Self(upgrade)
    }

    /// Waits for it. `None`: the client has left, or another answer was given.
    pub async fn connection(self) -> Option<Switched> {
        self.0.await.ok().map(TokioIo::new).map(Switched)
    }
}

/// A connection without HTTP.
pub struct Switched(TokioIo<Upgraded>);

impl AsyncRead for Switched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Switched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
