//! A TCP connection on the path of every request.
//!
//! Like tokio's own, but for four things that show in a profile: it calls the kernel directly
//! instead of through libc, whose calls are cancellation points and cost a process with threads two
//! locked instructions each; what is written goes out by `send`, which is cheaper than `writev`
//! for the one slice that TLS makes of a message; small messages of one turn leave together
//! ([`gathered`]); and who waits for bytes is noted once, not at each
//! poll: a request is polled for its own sake, its connection's and its server's.

mod gathered;

pub(crate) use gathered::Gathering;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;

use self::gathered::Wire;

/// A connected TCP socket.
#[derive(Debug)]
pub struct Socket {
    wire: Arc<Wire>,
    /// Who waits for bytes, as tokio knows it too: set only while its note of him stands.
    waits: Option<Waker>,
}

impl Socket {
    /// Takes over a stream of tokio's.
    pub fn new(tcp: TcpStream) -> Self {
        Self {
            wire: Arc::new(Wire::new(tcp)),
            waits: None,
        }
    }

    /// Bytes that the kernel has accepted over the life of the connection, or will be given at the
    /// end of this turn. Below TLS this is the only place that can tell whether a request may have left
    /// the house.
    pub fn accepted(&self) -> u64 {
        self.wire.outbox().accepted()
    }

    /// Ready once the kernel has taken everything: nothing waits for the end of the turn. For messages
    /// of which it must be known whether they can have left.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.wire.outbox();
        outbox.send(&self.wire);
        outbox.poll_free(cx)
    }

    /// The address of our end.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.wire.tcp.local_addr()
    }

    /// Writes once the socket takes something; `write` may take less than it was given. What has
    /// waited for the end of the turn goes first.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        write: impl Fn(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let tcp = &self.wire.tcp;
        let mut outbox = self.wire.outbox();
        outbox.send(&self.wire);
        ready!(outbox.poll_free(cx))?;
        let written = loop {
            ready!(tcp.poll_write_ready(cx))?;
            if let Some(outcome) = once(tcp, Interest::WRITABLE, wanted, || write(tcp)) {
                break outcome?;
            }
        };
        outbox.accept(written);
        Poll::Ready(Ok(written))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.wire.outbox().abandon();
    }
}

/// Calls the kernel, once. `None`: it was not ready after all.
///
/// Where it moved less than was `wanted`, it has no more to give or to take now: epoll tells when it
/// has again (edge-triggered), and the call that would only find this out is saved. An end or an
/// error that has been told stays told: tokio does not clear those.
fn once(
    tcp: &TcpStream,
    interest: Interest,
    wanted: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut moved = None;
    let tried = tcp.try_io(interest, || match call() {
        Ok(n) if n > 0 && n < wanted => {
            moved = Some(n);
            Err(io::ErrorKind::WouldBlock.into())
        }
        Ok(n) => Ok(n),
        Err(error) => Err(error.into()),
    });
    match (moved, tried) {
        (Some(n), _) => Some(Ok(n)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => None,
        (None, tried) => Some(tried),
    }
}

impl AsyncRead for Socket {
    /// With [`Waker::noop`], looks only whether something is here, and leaves whoever waits waiting.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let room = buffer.initialize_unfilled();
            let mut asked = false;
            let outcome = once(&this.wire.tcp, Interest::READABLE, room.len(), || {
                asked = true;
                rustix::net::recv(&this.wire.tcp, room, RecvFlags::empty()).map(|(_, read)| read)
            });
            if asked {
                // What made the socket ready has woken whoever waited, and his note went with it.
                this.waits = None;
            }
            if let Some(outcome) = outcome {
                buffer.advance(outcome?);
                return Poll::Ready(Ok(()));
            }
            if cx.waker().will_wake(Waker::noop()) {
                return Poll::Pending;
            }
            // Readiness comes before the wake that takes the note away: while there is none, the
            // note stands.
            if this
                .waits
                .as_ref()
                .is_some_and(|waits| waits.will_wake(cx.waker()))
            {
                return Poll::Pending;
            }
            // A task that has used up its budget is put off without a note.
            let noted = has_budget_remaining();
            match this.wire.tcp.poll_read_ready(cx) {
                Poll::Pending => {
                    this.waits = noted.then(|| cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(ready) => ready?,
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(joined) = gathered::poll_join(cx, &this.wire, bytes) {
            return joined;
        }
        this.poll_send(cx, bytes.len(), |socket| {
            rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        self.get_mut().poll_send(cx, wanted, |socket| {
            let mut nothing_beside = SendAncillaryBuffer::default();
            rustix::net::sendmsg(socket, slices, &mut nothing_beside, SendFlags::NOSIGNAL)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What waits for the end of the turn counts as sent; what the kernel has not taken then does not.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.outbox().poll_free(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        match rustix::net::shutdown(&self.wire.tcp, Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A socket of ours and its other end.
    pub(super) async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let ours = Socket::new(ours.expect("connected"));
        (ours, theirs.expect("accepted").0)
    }

    #[tokio::test]
    async fn carries_more_than_the_kernel_holds_both_ways() {
        let (ours, theirs) = pair().await;
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        let echo = tokio::spawn(async move {
            let (mut reader, mut writer) = theirs.into_split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
        let (mut reader, mut writer) = tokio::io::split(ours);
        let expected = sent.clone();
        let write = async {
            writer.write_all(&sent).await?;
            writer.shutdown().await
        };
        let mut back = Vec::new();
        let (wrote, read) = tokio::join!(write, reader.read_to_end(&mut back));
        wrote.expect("written");
        read.expect("read");
        echo.await.expect("joined").expect("copied");
        assert!(back == expected, "what came back is not what was sent");
        let ours = reader.unsplit(writer);
        assert_eq!(ours.accepted(), expected.len() as u64);
    }

    #[tokio::test]
    async fn several_slices_leave_in_order() {
        let (mut ours, mut theirs) = pair().await;
        let slices = [IoSlice::new(b"head "), IoSlice::new(b"body")];
        let written =
            std::future::poll_fn(|cx| Pin::new(&mut ours).poll_write_vectored(cx, &slices));
        assert_eq!(written.await.expect("written"), 9);
        let mut got = [0; 9];
        theirs.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"head body");
    }

    /// tokio puts off a task that has used up its budget without noting that it waits. Whoever took
    /// that for a note would never be woken.
    #[tokio::test]
    async fn a_task_that_was_put_off_is_woken_all_the_same() {
        let (mut ours, mut theirs) = pair().await;
        let mut spent = false;
        let reading = tokio::spawn(async move {
            let mut got = [0; 1];
            let read = std::future::poll_fn(|cx| {
                while !spent && has_budget_remaining() {
                    let step = std::pin::pin!(tokio::task::coop::consume_budget());
                    let _ = step.poll(cx);
                }
                spent = true;
                Pin::new(&mut ours).poll_read(cx, &mut ReadBuf::new(&mut got))
            });
            read.await.map(|()| got)
        });
        // It is put off, comes again, and waits.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        theirs.write_all(b"x").await.expect("written");
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        let got = read.expect("it is woken").expect("joined").expect("read");
        assert_eq!(&got, b"x");
    }

    #[tokio::test]
    async fn an_end_and_a_reset_are_told_apart() {
        let (mut ours, theirs) = pair().await;
        drop(theirs);
        let mut byte = [0; 1];
        assert_eq!(ours.read(&mut byte).await.expect("an end"), 0);

        let (mut ours, theirs) = pair().await;
        socket2::SockRef::from(&theirs)
            .set_linger(Some(Duration::ZERO))
            .expect("set");
        drop(theirs);
        let error = ours.read(&mut byte).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
