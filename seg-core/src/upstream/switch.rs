//! A connection to a server that goes on in another protocol (RFC 9110 section 7.8): opened for one
//! request, and never seen by the pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::connect::connect;
use super::connection::Connection;
use super::head::RequestHead;
use super::pool::Key;
use super::response::{self, HEAD_LIMIT};
use super::target::Target;

/// What a server says to a request for another protocol.
pub struct Answered {
    /// 101, or why not.
    pub status: StatusCode,
    /// The header lines.
    pub headers: HeaderMap,
    /// The connection behind the head. Without 101 it holds the answer's body, which is dropped.
    pub line: Line,
}

/// The connection, beginning with what came behind the head.
pub struct Line {
    first: Bytes,
    connection: Box<Connection>,
}

/// Asks, over a connection of its own, and reads the head of the answer.
///
/// # Errors
/// Why there is none, for the log.
pub async fn switch(
    target: &Target,
    head: RequestHead,
    within: Duration,
) -> Result<Answered, String> {
    let late = |_| "no answer in time".to_owned();
    let connecting = connect(target.clone(), Key::new(target, None), within);
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let mut line = Line {
        first: Bytes::new(),
        connection,
    };
    let wire = head.into_wire(target.authority());
    let exchange = async {
        let broken = |error: io::Error| error.to_string();
        line.write_all(&wire.head).await.map_err(broken)?;
        line.flush().await.map_err(broken)?;
        let (mut read, mut scanned) = (BytesMut::new(), 0);
        loop {
            let found = response::find_end(&read, &mut scanned);
            if let Some(end) = found.map_err(|error| error.to_string())? {
                let head = read.split_to(end).freeze();
                line.first = read.freeze();
                return response::parse(&head, false).map_err(|error| error.to_string());
            }
            let room = HEAD_LIMIT.saturating_sub(read.len()).max(1) as u64;
            let more = (&mut line).take(room).read_buf(&mut read).await;
            if more.map_err(broken)? == 0 {
                return Err("the connection ended before the answer".to_owned());
            }
        }
    };
    let head = timeout(within, exchange).await.map_err(late)??;
    Ok(Answered {
        status: head.status,
        headers: head.headers,
        line,
    })
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return this.connection.transport().poll_read(cx, buffer);
        }
        let now = this
            .first
            .split_to(this.first.len().min(buffer.remaining()));
        buffer.put_slice(&now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().connection.poll_write(cx, bytes, b"")
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection.transport().poll_shutdown(cx)
    }
}
