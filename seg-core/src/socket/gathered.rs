//! What a thread's sockets send in one turn of its event loop, gathered.
//!
//! Each message that is given to the kernel wakes its reader on another processor. Messages that are
//! sent between bits of other work wake him for each; sent in a row, they wake him once, and neither
//! processor has to fetch the other's cache lines in between. So a small message waits until the
//! tasks that were ready with it have run, a fraction of a millisecond at most, and then goes with
//! theirs.
//!
//! Only threads that have begun to gather do so ([`Gathering`]); on others everything is sent at once.
//! A message keeps its socket open until it is sent, its order is that of the writes, and one that the
//! kernel doesn't take stops further writes as if it had been written just then.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::once;

/// What waits of one socket at most, in bytes; more is worth a call of its own.
const SMALL: usize = 4096;
/// How many sockets wait at most.
const MOST: usize = 64;

thread_local! {
    /// `None`: the thread does not gather.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// What waits for the end of a thread's turn.
#[derive(Default)]
struct Turn {
    waiting: Vec<Arc<Wire>>,
    /// Memory of messages that were sent, at most [`MOST`] times [`SMALL`] bytes.
    spare: Vec<Vec<u8>>,
    /// Ends the turn: a task, so that it runs behind those that were ready before.
    end: Option<Waker>,
}

/// As long as it lives, its thread gathers.
#[derive(Debug)]
pub(crate) struct Gathering {
    end: AbortHandle,
}

impl Gathering {
    /// Begins on this thread, which must be that of a current-thread runtime.
    pub(crate) fn begin() -> Self {
        TURN.set(Some(Turn::default()));
        let end = tokio::spawn(std::future::poll_fn(|cx| {
            TURN.with_borrow_mut(|turn| {
                if let Some(turn) = turn {
                    turn.end = Some(cx.waker().clone());
                }
            });
            end_turn();
            Poll::<()>::Pending
        }));
        Self {
            end: end.abort_handle(),
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        end_turn();
        TURN.set(None);
        self.end.abort();
    }
}

/// Lets a small message wait for the end of the turn. `None`: it has to be sent at once.
pub(super) fn poll_join(
    cx: &mut Context<'_>,
    wire: &Arc<Wire>,
    bytes: &[u8],
) -> Option<Poll<io::Result<usize>>> {
    if bytes.len() > SMALL {
        return None;
    }
    let (joined, is_full) = TURN.with_borrow_mut(|turn| {
        let turn = turn.as_mut()?;
        let mut outbox = wire.outbox();
        if outbox.waiting.len() + bytes.len() > SMALL {
            return None;
        }
        let free = match outbox.poll_free(cx) {
            Poll::Ready(Ok(())) => wire.tcp.poll_write_ready(cx),
            busy => busy,
        };
        let joined = free.map_ok(|()| {
            turn.join(wire, &mut outbox, bytes);
            bytes.len()
        });
        Some((joined, turn.waiting.len() >= MOST))
    })?;
    if is_full {
        end_turn();
    }
    Some(joined)
}

impl Turn {
    fn join(&mut self, wire: &Arc<Wire>, outbox: &mut Outbox, bytes: &[u8]) {
        if outbox.waiting.capacity() == 0 {
            outbox.waiting = self.spare.pop().unwrap_or_default();
        }
        outbox.waiting.extend_from_slice(bytes);
        if outbox.joined {
            return;
        }
        outbox.joined = true;
        if self.waiting.is_empty()
            && let Some(end) = &self.end
        {
            end.wake_by_ref();
        }
        self.waiting.push(Arc::clone(wire));
    }
}

/// Sends what waits.
fn end_turn() {
    let mut waiting = TURN.with_borrow_mut(|turn| {
        let turn = turn.as_mut();
        turn.map(|turn| std::mem::take(&mut turn.waiting))
            .unwrap_or_default()
    });
    for wire in waiting.drain(..) {
        let mut outbox = wire.outbox();
        outbox.joined = false;
        outbox.send(&wire);
    }
    TURN.with_borrow_mut(|turn| {
        // Nothing has joined meanwhile: sending runs no task.
        if let Some(turn) = turn {
            turn.waiting = waiting;
        }
    });
}

/// A TCP socket and what it has to send.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) tcp: TcpStream,
    outbox: Mutex<Outbox>,
}

/// What a socket has to send.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// For the end of the turn, or, where `stuck`, for the kernel's having room again.
    waiting: Vec<u8>,
    /// Whether the wire is among those of the turn.
    joined: bool,
    /// Bytes that the kernel has accepted.
    accepted: u64,
    /// Set while a task waits until the kernel takes more.
    stuck: Option<Box<Stuck>>,
    /// Why something was not sent, until that has been told.
    failed: Option<io::Error>,
}

#[derive(Debug)]
struct Stuck {
    task: AbortHandle,
    /// Who wants to write behind it.
    waiter: Option<Waker>,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            outbox: Mutex::default(),
        }
    }

    /// Nobody holds it for longer than a call of the kernel's.
    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the kernel has taken everything.
    async fn unstick(self: Arc<Self>) {
        loop {
            let writable = self.tcp.writable().await;
            let mut outbox = self.outbox();
            match writable {
                Ok(()) => outbox.try_send(&self.tcp),
                Err(error) => outbox.fail(error),
            }
            if outbox.waiting.is_empty() {
                let waiter = outbox.stuck.take().and_then(|stuck| stuck.waiter);
                drop(outbox);
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
                return;
            }
        }
    }
}

impl Outbox {
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.wrapping_add(self.waiting.len() as u64)
    }

    pub(super) fn accept(&mut self, bytes: usize) {
        self.accepted = self.accepted.wrapping_add(bytes as u64);
    }

    /// Ready when more may be written, or with what came of an earlier write.
    pub(super) fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stuck) = &mut self.stuck {
            stuck.waiter = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(self.failed.take().map_or(Ok(()), Err))
    }

    /// Gives the kernel what waits; where it doesn't take all, a task goes on with the rest.
    pub(super) fn send(&mut self, wire: &Arc<Wire>) {
        if self.waiting.is_empty() || self.stuck.is_some() {
            return;
        }
        self.try_send(&wire.tcp);
        if self.waiting.is_empty() {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                let task = runtime.spawn(Arc::clone(wire).unstick());
                self.stuck = Some(Box::new(Stuck {
                    task: task.abort_handle(),
                    waiter: None,
                }));
            }
            Err(_) => self.fail(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Gives the kernel what it takes now.
    fn try_send(&mut self, tcp: &TcpStream) {
        let wanted = self.waiting.len();
        let outcome = once(tcp, Interest::WRITABLE, wanted, || {
            rustix::net::send(tcp, &self.waiting, SendFlags::NOSIGNAL)
        });
        match outcome {
            None => {}
            Some(Err(error)) => self.fail(error),
            Some(Ok(sent)) => {
                self.accept(sent);
                if sent < wanted {
                    self.waiting.drain(..sent);
                } else {
                    recycle(std::mem::take(&mut self.waiting));
                }
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.waiting = Vec::new();
        self.failed = Some(error);
    }

    /// Nobody writes any more: what the kernel has had no room for is given up, as it would be had
    /// it never been written; what waits for the end of the turn is sent.
    pub(super) fn abandon(&mut self) {
        if let Some(stuck) = self.stuck.take() {
            stuck.task.abort();
            self.waiting = Vec::new();
        }
    }
}

/// Keeps the memory of a message that was sent for the next one.
fn recycle(mut bytes: Vec<u8>) {
    bytes.clear();
    TURN.with_borrow_mut(|turn| {
        if let Some(turn) = turn
            && turn.spare.len() < MOST
        {
            turn.spare.push(bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::task::yield_now;

    use super::*;
    use crate::socket::Socket;

    /// A socket of ours that may be written to, and its other end.
    async fn pair() -> (Socket, TcpStream) {
        let (ours, theirs) = crate::socket::tests::pair().await;
        ours.wire.tcp.writable().await.expect("writable");
        (ours, theirs)
    }

    /// Writes once, and doesn't wait.
    fn write(socket: &mut Socket, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(socket).poll_write(&mut cx, bytes)
    }

    /// The kernel has it, so it would be here.
    fn is_nothing_here(theirs: &TcpStream) -> bool {
        let mut byte = [0; 1];
        let read = rustix::net::recv(theirs, &mut byte, rustix::net::RecvFlags::PEEK);
        read.is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK)
    }

    async fn read(theirs: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut got = vec![0; length];
        let read = tokio::time::timeout(Duration::from_secs(20), theirs.read_exact(&mut got));
        read.await.expect("it comes").expect("read");
        got
    }

    /// So that its other end can't take everything.
    async fn filled(ours: &mut Socket) -> usize {
        let mut written = 0;
        while let Poll::Ready(taken) = write(ours, &[b'x'; 1000]) {
            written += taken.expect("written");
            yield_now().await;
        }
        written
    }

    #[tokio::test]
    async fn what_is_small_waits_for_the_tasks_that_are_ready_with_it() {
        let (mut first, mut their_first) = pair().await;
        let (mut second, mut their_second) = pair().await;
        let _gathering = Gathering::begin();
        yield_now().await;
        for _ in 0..2 {
            assert!(write(&mut first, b"one ").is_ready());
            assert!(write(&mut second, b"two ").is_ready());
        }
        assert!(is_nothing_here(&their_first) && is_nothing_here(&their_second));
        assert_eq!(first.accepted(), 8, "it may leave the house");
        yield_now().await;
        assert!(!is_nothing_here(&their_first) && !is_nothing_here(&their_second));
        assert_eq!(read(&mut their_first, 8).await, b"one one ");
        assert_eq!(read(&mut their_second, 8).await, b"two two ");
        assert_eq!(first.accepted(), 8);
    }

    #[tokio::test]
    async fn what_is_large_goes_at_once_behind_what_waits() {
        let (mut ours, mut theirs) = pair().await;
        let _gathering = Gathering::begin();
        assert!(write(&mut ours, b"small").is_ready());
        let large = vec![b'l'; SMALL + 1];
        assert!(write(&mut ours, &large).is_ready());
        assert!(!is_nothing_here(&theirs));
        assert_eq!(
            read(&mut theirs, 5 + large.len()).await,
            [b"small", large.as_slice()].concat()
        );
    }

    #[tokio::test]
    async fn a_full_turn_ends_by_itself() {
        let _gathering = Gathering::begin();
        let mut pairs = Vec::new();
        for _ in 0..MOST {
            pairs.push(pair().await);
        }
        for (ours, _) in &mut pairs {
            assert!(write(ours, b"x").is_ready());
        }
        assert!(pairs.iter().all(|(_, theirs)| !is_nothing_here(theirs)));
    }

    #[tokio::test]
    async fn all_of_it_arrives_in_order_however_slowly_it_is_taken() {
        let _gathering = Gathering::begin();
        let (mut ours, mut theirs) = pair().await;
        let sent: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            // Small and large ones in turn.
            let mut rest = sent.as_slice();
            for length in [100, 4000, 9000].into_iter().cycle() {
                let (now, later) = rest.split_at(length.min(rest.len()));
                ours.write_all(now).await?;
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            ours.shutdown().await.map(|()| ours.accepted())
        });
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.expect("read");
        let accepted = writing.await.expect("joined").expect("written");
        assert_eq!(accepted, expected.len() as u64);
        assert!(got == expected, "what came is not what was sent");
    }

    #[tokio::test]
    async fn what_waits_is_sent_though_its_socket_is_dropped() {
        let _gathering = Gathering::begin();
        let (mut ours, mut theirs) = pair().await;
        assert!(write(&mut ours, b"goodbye").is_ready());
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"goodbye");
    }

    #[tokio::test]
    async fn what_the_kernel_has_no_room_for_holds_up_and_goes_with_its_socket() {
        let _gathering = Gathering::begin();
        let (mut ours, mut theirs) = pair().await;
        let written = filled(&mut ours).await;
        let flushed = Pin::new(&mut ours).poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(flushed.is_pending(), "the kernel has not taken it");
        let wire = Arc::downgrade(&ours.wire);
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.expect("read");
        assert!(
            got.len() <= written && written - got.len() <= SMALL,
            "{written}"
        );
        assert!(wire.upgrade().is_none(), "nobody holds the socket any more");
    }

    #[tokio::test]
    async fn what_can_not_be_sent_is_told_at_the_next_write_and_has_not_left() {
        let _gathering = Gathering::begin();
        let (mut ours, theirs) = pair().await;
        let linger = socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO));
        linger.expect("set");
        assert!(write(&mut ours, b"lost").is_ready());
        drop(theirs);
        yield_now().await;
        assert_eq!(ours.accepted(), 0);
        assert!(matches!(write(&mut ours, b"x"), Poll::Ready(Err(_))));
    }

    #[tokio::test]
    async fn a_thread_that_does_not_gather_sends_at_once() {
        let (mut ours, theirs) = pair().await;
        assert!(write(&mut ours, b"x").is_ready());
        assert!(!is_nothing_here(&theirs));
        let gathering = Gathering::begin();
        assert!(write(&mut ours, b"x").is_ready());
        assert_eq!(ours.accepted(), 2);
        drop(gathering);
        let mut two = [0; 2];
        let here = rustix::net::recv(&theirs, &mut two, rustix::net::RecvFlags::empty());
        assert_eq!(
            here.map(|(_, read)| read),
            Ok(2),
            "the end of gathering sends"
        );
    }
}
