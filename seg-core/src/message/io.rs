//! The client's connection with its clocks: a limit for a slow head, one for an idle connection,
//! one for a client that doesn't take its answer. hyper has one timer for the first two; a phone
//! that keeps a connection for two minutes and one that sends a head byte by byte are different
//! things.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep};

use super::inspect::{Framing, HeadFlaw, HeadInspector};
use crate::upstream::Decoder;

/// Where a connection is between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// No byte of a request yet.
    Idle = 0,
    /// The head is arriving.
    Head = 1,
    /// A request is being served.
    Request = 2,
    /// Another protocol is spoken.
    Switched = 3,
}

/// The phase and the head's flaw, shared by the connection's bytes and its requests.
#[derive(Debug)]
pub struct PhaseCell {
    phase: AtomicU8,
    flaw: AtomicU8,
    /// Heads that have been looked at, and whose requests have not been served.
    seen: AtomicU8,
    born: Instant,
    /// When the connection became idle, in microseconds behind `born`.
    idle_since: AtomicU64,
}

impl PhaseCell {
    /// A connection that is idle from now on.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Idle as u8),
            flaw: AtomicU8::default(),
            seen: AtomicU8::default(),
            born: now,
            idle_since: AtomicU64::default(),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Request,
            _ => Phase::Switched,
        }
    }

    /// The request at hand is over.
    pub fn idle(&self, now: Instant) {
        let since = now.saturating_duration_since(self.born).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.idle_since.store(since, Ordering::Relaxed);
        self.enter(Phase::Idle);
    }

    /// A request has begun. Its bytes may have come together with those of the one before it.
    pub fn serving(&self) {
        match self.seen.load(Ordering::Relaxed).checked_sub(1) {
            Some(left) => self.seen.store(left, Ordering::Relaxed),
            // hyper has found a head where we saw none.
            None => self.note(Some(HeadFlaw::Unseen)),
        }
        self.enter(Phase::Request);
    }

    /// The connection goes on in another protocol: what comes is no head, and nothing of it is late.
    pub fn switched(&self) {
        self.enter(Phase::Switched);
    }

    /// A head has been looked at from its first byte to its last: what comes behind it.
    fn head_over(&self, inspector: &HeadInspector) -> BodyLeft {
        self.note(inspector.flaw());
        let seen = self.seen.load(Ordering::Relaxed);
        self.seen.store(seen.saturating_add(1), Ordering::Relaxed);
        self.enter(Phase::Request);
        match inspector.framing() {
            Framing::Length(length) => BodyLeft::Bytes(length),
            Framing::Chunked => BodyLeft::Chunks(Box::default()),
        }
    }

    fn idle_since(&self) -> Instant {
        self.born + Duration::from_micros(self.idle_since.load(Ordering::Relaxed))
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What is wrong with a head on this connection. It stays: the request that is told of it is
    /// the last one.
    pub fn flaw(&self) -> Option<HeadFlaw> {
        match self.flaw.load(Ordering::Relaxed) {
            1 => Some(HeadFlaw::BareLf),
            2 => Some(HeadFlaw::DoubledContentLength),
            3 => Some(HeadFlaw::LengthAndTransferEncoding),
            4 => Some(HeadFlaw::Length),
            5 => Some(HeadFlaw::Chunks),
            6 => Some(HeadFlaw::Unseen),
            _ => None,
        }
    }

    fn note(&self, flaw: Option<HeadFlaw>) {
        let code = match flaw {
            None => return,
            Some(HeadFlaw::BareLf) => 1,
            Some(HeadFlaw::DoubledContentLength) => 2,
            Some(HeadFlaw::LengthAndTransferEncoding) => 3,
            Some(HeadFlaw::Length) => 4,
            Some(HeadFlaw::Chunks) => 5,
            Some(HeadFlaw::Unseen) => 6,
        };
        self.flaw.store(code, Ordering::Relaxed);
    }
}

/// Limits of one client connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct IoLimits {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// A client's byte stream with its clocks and the inspection of heads.
///
/// Timers exist only while something is late: a read that finds its bytes at once arms none.
#[derive(Debug)]
pub struct ClientIo<S> {
    stream: S,
    cell: Arc<PhaseCell>,
    limits: IoLimits,
    /// Runs while the connection waits for a head, idle or slow.
    read_timer: Option<Pin<Box<Sleep>>>,
    /// The timer knows the connection's task, which stays the same for its life, and its deadline
    /// has not moved since.
    read_timer_waits: bool,
    write_timer: Option<Pin<Box<Sleep>>>,
    head: Option<Box<PartialHead>>,
    body: BodyLeft,
}

/// What is still to come of the body behind the last head.
#[derive(Debug)]
enum BodyLeft {
    /// So many bytes; behind them comes a head.
    Bytes(u64),
    /// Chunks.
    Chunks(Box<Decoder>),
    /// Nobody knows: it is not framed as it should be.
    Unknown,
}

/// A head of which a part has arrived.
#[derive(Debug)]
struct PartialHead {
    inspector: HeadInspector,
    since: Instant,
}

impl<S> ClientIo<S> {
    pub(super) fn new(stream: S, cell: Arc<PhaseCell>, limits: IoLimits) -> Self {
        Self {
            stream,
            cell,
            limits,
            read_timer: None,
            read_timer_waits: false,
            write_timer: None,
            head: None,
            body: BodyLeft::Bytes(0),
        }
    }

    /// Looks at the heads among the bytes that have come, wherever in them they begin: a client may
    /// send its next request before it has the answer to this one (RFC 9112 section 9.3.2).
    fn arrived(&mut self, mut bytes: &[u8]) {
        if self.cell.phase() == Phase::Switched {
            return;
        }
        while !bytes.is_empty() {
            let used = match &mut self.body {
                BodyLeft::Bytes(0) => self.head_arrived(bytes),
                BodyLeft::Bytes(left) => {
                    let here = bytes.len();
                    let here = usize::try_from(*left).unwrap_or(here).min(here);
                    *left = left.saturating_sub(here as u64);
                    here
                }
                BodyLeft::Chunks(decoder) => match decoder.pass(bytes) {
                    Ok(None) => return,
                    Ok(Some(used)) => {
                        self.body = BodyLeft::Bytes(0);
                        used
                    }
                    Err(_) => {
                        self.cell.note(Some(HeadFlaw::Chunks));
                        self.body = BodyLeft::Unknown;
                        return;
                    }
                },
                BodyLeft::Unknown => return,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// How many of `bytes` belong to the head that begins or goes on with them.
    fn head_arrived(&mut self, bytes: &[u8]) -> usize {
        let (over, inspector) = match &mut self.head {
            Some(head) => (head.inspector.feed(bytes), &head.inspector),
            None => {
                // Most heads come whole: the inspector then lives on the stack only.
                let mut inspector = HeadInspector::default();
                match inspector.feed(bytes) {
                    Some(used) => {
                        self.body = self.cell.head_over(&inspector);
                        return used;
                    }
                    None => {
                        let since = Instant::now();
                        let head = self.head.insert(Box::new(PartialHead { inspector, since }));
                        (None, &head.inspector)
                    }
                }
            }
        };
        let Some(used) = over else {
            self.cell.note(inspector.flaw());
            if self.cell.phase() == Phase::Idle {
                self.cell.enter(Phase::Head);
                // A head that came behind another request has its time from now on.
                if let Some(head) = &mut self.head {
                    head.since = Instant::now();
                }
            }
            return bytes.len();
        };
        self.body = self.cell.head_over(inspector);
        self.head = None;
        used
    }

    /// Until when the connection may stay as it is, and what it is called when it is late.
    fn due(&self) -> (Instant, Option<Late>) {
        let idle = || self.cell.idle_since() + self.limits.idle;
        match (self.cell.phase(), &self.head) {
            (Phase::Head, Some(head)) => (head.since + self.limits.head, Some(Late::Head)),
            (Phase::Idle | Phase::Head, _) => (idle(), Some(Late::Idle)),
            // hyper reads while it serves a request, to see its client leave, and not again when
            // the connection has become idle: a clock that is armed now must wake it then.
            (Phase::Request | Phase::Switched, _) => (Instant::now() + self.limits.idle, None),
        }
    }

    /// One timer for all phases. It is never made anew or moved for a request: it comes round, and
    /// whoever is not late then gets the rest of his time. It may wake the task now and then for
    /// nothing during a long poll.
    fn poll_read_clock(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let armed = self.read_timer.is_some();
        if !armed || self.head.is_some() {
            let (due, _) = self.due();
            let timer = self
                .read_timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // A head has less time than the idle connection had.
            if due < timer.deadline() {
                timer.as_mut().reset(due);
                self.read_timer_waits = false;
            }
        }
        while let Some(timer) = &mut self.read_timer {
            if self.read_timer_waits && !timer.is_elapsed() {
                break;
            }
            // A task that has used up its budget is put off without being entered.
            let entered = has_budget_remaining();
            let pending = timer.as_mut().poll(cx).is_pending();
            self.read_timer_waits = pending && entered;
            if pending {
                break;
            }
            match self.due() {
                (due, Some(late)) if due <= Instant::now() => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, late));
                }
                (due, _) => {
                    if let Some(timer) = &mut self.read_timer {
                        timer.as_mut().reset(due);
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_write_clock<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let limit = self.limits.write;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Late::Answer)));
        }
        Poll::Pending
    }
}

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Late {
    #[error("the connection was idle for too long")]
    Idle,
    #[error("the head of a request took too long")]
    Head,
    #[error("the client did not take its answer")]
    Answer,
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for ClientIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper's cursor can't be read back, so the bytes are looked at in the thread's buffer and
        // copied once: a head is a few hundred bytes.
        let mut scratch = ReadScratch::take();
        let room = cursor.remaining().min(scratch.bytes.len());
        let Some(space) = scratch.bytes.get_mut(..room) else {
            return Poll::Ready(Ok(()));
        };
        let mut buf = ReadBuf::new(space);
        match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                let filled = buf.filled();
                this.arrived(filled);
                cursor.put_slice(filled);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match this.poll_read_clock(cx) {
                Ok(()) => Poll::Pending,
                Err(late) => Poll::Ready(Err(late)),
            },
        }
    }
}

/// The thread's read buffer: bytes are inspected in it before hyper gets them.
struct ReadScratch {
    bytes: Box<[u8]>,
}

const SCRATCH_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: std::cell::Cell<Option<Box<[u8]>>> = const { std::cell::Cell::new(None) };
}

impl ReadScratch {
    fn take() -> Self {
        let bytes = SCRATCH
            .take()
            .unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
        Self { bytes }
    }
}

impl Drop for ReadScratch {
    fn drop(&mut self) {
        SCRATCH.set(Some(std::mem::take(&mut self.bytes)));
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for ClientIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.poll_write_clock(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.poll_write_clock(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.poll_write_clock(cx, closed)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.poll_write_clock(cx, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io() -> (ClientIo<tokio::io::Empty>, Arc<PhaseCell>) {
        let cell = Arc::new(PhaseCell::new(Instant::now()));
        let limit = Duration::from_secs(1);
        let limits = IoLimits {
            head: limit,
            idle: limit,
            write: limit,
        };
        let io = ClientIo::new(tokio::io::empty(), Arc::clone(&cell), limits);
        (io, cell)
    }

    #[test]
    fn what_another_protocol_says_is_no_head() {
        for (switches, flaw) in [(false, Some(HeadFlaw::BareLf)), (true, None)] {
            let (mut io, cell) = io();
            io.arrived(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
            cell.serving();
            cell.idle(Instant::now());
            if switches {
                cell.switched();
            }
            io.arrived(b"\x81\x07hello\nx");
            assert_eq!(cell.flaw(), flaw);
            assert_eq!(io.head.is_none(), switches);
        }
    }

    #[test]
    fn a_head_that_nobody_has_seen_is_a_flaw() {
        let (mut io, cell) = io();
        io.arrived(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n");
        for flaw in [None, None, Some(HeadFlaw::Unseen)] {
            cell.serving();
            assert_eq!(cell.flaw(), flaw);
        }
    }
}
