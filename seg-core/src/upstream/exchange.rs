//! One request and the head of its answer, driven by the task that asks.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::body::UpstreamBody;
use super::connect::{Connecting, connect};
use super::connection::Connection;
use super::elsewhere::Alternatives;
use super::error::{Phase, SendError};
use super::head::{BodyKind, RequestHead};
use super::pool::{Key, Pool};
use super::response::ResponseHead;
use super::source::BodySource;
use super::target::{InUse, Target};
use super::timer::Timer;

mod failing;
mod reading;
mod upload;

use failing::Why;
use upload::{Feed, Gate};

/// How long an exchange may stand still.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Name lookup, TCP connection and TLS handshake together.
    pub connect: Duration,
    /// From the end of the request to the end of the response head. A long poll gets the time
    /// that it asks for, plus a margin.
    pub head: Duration,
    /// Between two pieces of the response body; and while the server takes nothing more of the
    /// request. How slowly a client may send its body is the [`BodySource`]'s to limit.
    pub between_bytes: Duration,
}

/// An answer whose head has been read.
#[derive(Debug)]
pub struct Exchange {
    /// The final status, 200 to 599.
    pub status: StatusCode,
    /// The header lines as the server sent them, hop-by-hop ones included, but without
    /// `Transfer-Encoding`; equal duplicates of `Content-Length` are one line.
    pub headers: HeaderMap,
    /// The body.
    pub body: UpstreamBody,
    /// Where the answer came from.
    pub peer: SocketAddr,
    /// The connection had served a request before.
    pub reused: bool,
    /// The request was sent twice.
    pub replayed: bool,
    /// The place of the server that answered, where it is not the one that was asked first.
    pub moved_to: Option<u32>,
    /// The server had taken the whole request. Where it answered early, the rest of the client's
    /// body was not read.
    pub request_complete: bool,
}

/// Sends a request to `target` and waits for the head of the answer.
///
/// The request is serialised here and now; its head and header map are not kept. `source` is
/// read only for [`BodyKind::Stream`]. Dropping the future gives the exchange up and closes its
/// connection.
///
/// A request that meets a dead connection before one byte of it has left is moved to a fresh one;
/// one that left over a reused connection and brought no byte is sent once more where it is held
/// and its [`super::ReplayPolicy`] allows.
///
/// With [`Sending::or_elsewhere`] a request whose server fails goes on to the next one.
///
/// # Errors
/// Awaiting it gives [`SendError`].
pub fn send<S: BodySource>(
    pool: &Pool,
    target: &Target,
    head: RequestHead,
    source: S,
    deadlines: Deadlines,
) -> Sending<S> {
    let key = Key::new(target, head.private);
    let to_head = head.method == Method::HEAD;
    let held = head.is_held();
    let replay = held && head.replay.allowed;
    let expects = head.expects();
    let feed = match head.body {
        BodyKind::None | BodyKind::Full(_) => Feed::Whole,
        BodyKind::Stream { len: Some(left) } => Feed::Counted { left },
        BodyKind::Stream { len: None } => Feed::Chunked { first: true },
    };
    let own_host = head.host.is_some();
    let mut wire = head.into_wire(target.authority());
    if let Some(via) = target.via().filter(|_| !target.is_tls()) {
        wire.head = via.absolute(&wire.head, target);
    }
    Sending {
        pool: pool.clone(),
        target: Some(InUse::new(target.clone())),
        key,
        own_host,
        elsewhere: None,
        moved_to: None,
        observed: true,
        source,
        deadlines,
        stage: Stage::Start,
        connection: None,
        front: wire.head,
        back: wire.body,
        sent: 0,
        feed,
        first_frame: true,
        primed: false,
        gate: if expects { Gate::Waiting } else { Gate::Open },
        timer: Timer::default(),
        scanned: 0,
        interim: 0,
        accepted_before: 0,
        any_byte: false,
        expects,
        to_head,
        held,
        replay,
        replayed: false,
        fresh_only: false,
    }
}

/// A request on its way; see [`send`].
pub struct Sending<S> {
    pool: Pool,
    /// Until the answer takes it over.
    target: Option<InUse>,
    key: Key,
    /// The request names its host itself.
    own_host: bool,
    elsewhere: Option<Alternatives>,
    moved_to: Option<u8>,
    /// What becomes of the request is held for or against the server.
    observed: bool,
    source: S,
    deadlines: Deadlines,
    stage: Stage,
    connection: Option<Box<Connection>>,
    /// What goes out now: head or chunk line, then data. Kept behind their end only for a replay.
    front: Bytes,
    back: Bytes,
    /// Bytes of `front` and `back` that the transport has taken.
    sent: usize,
    feed: Feed,
    /// `front` still begins with the head.
    first_frame: bool,
    /// The source has been asked for data to send together with the head.
    primed: bool,
    gate: Gate,
    timer: Timer,
    /// How far the incomplete response head has been looked through.
    scanned: usize,
    interim: u8,
    /// What the kernel had accepted over this connection before this request.
    accepted_before: u64,
    /// The server has given a byte.
    any_byte: bool,
    expects: bool,
    to_head: bool,
    held: bool,
    replay: bool,
    replayed: bool,
    /// The next connection must be a fresh one.
    fresh_only: bool,
}

enum Stage {
    Start,
    Connecting(Connecting),
    /// Writing the request, and reading, since a server may answer early.
    Uploading,
    /// The request is out.
    Waiting,
    Done,
}

impl<S: BodySource> Future for Sending<S> {
    type Output = Result<Exchange, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.stage {
                Stage::Start => this.acquire(),
                Stage::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connection) => {
                        this.pool.count_opened();
                        this.begin(connection);
                    }
                    // Nothing of the request has left the house since it was last held whole.
                    Err(kind) => {
                        if !this.move_on(Why::NotSent) {
                            return Poll::Ready(Err(this.fail(kind, false)));
                        }
                    }
                },
                Stage::Uploading => match ready!(this.poll_uploading(cx)) {
                    Ok(Some(exchange)) => return Poll::Ready(Ok(exchange)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                },
                Stage::Waiting => match ready!(this.poll_waiting(cx)) {
                    Ok(Some(exchange)) => return Poll::Ready(Ok(exchange)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                },
                // Polled behind its end, which no executor does.
                Stage::Done => return Poll::Pending,
            }
        }
    }
}

impl<S> Sending<S> {
    /// Lets the request go on to other servers, where there are any, when its own fails.
    #[must_use]
    pub fn or_elsewhere(mut self, alternatives: Option<Alternatives>) -> Self {
        self.elsewhere = alternatives;
        self
    }

    /// What becomes of the request says nothing of how the server stands.
    #[must_use]
    pub fn unobserved(mut self) -> Self {
        self.observed = false;
        self
    }
}

impl<S: BodySource> Sending<S> {
    fn acquire(&mut self) {
        let idle = if self.fresh_only {
            None
        } else {
            self.pool.take(&self.key)
        };
        match idle {
            Some(connection) => self.begin(connection),
            None => {
                let Some(target) = &self.target else { return };
                let target = Target::clone(target);
                let connecting = connect(target, self.key, self.deadlines.connect);
                self.stage = Stage::Connecting(connecting);
            }
        }
    }

    fn begin(&mut self, mut connection: Box<Connection>) {
        self.accepted_before = connection.accepted();
        self.timer = std::mem::take(&mut connection.timer);
        self.connection = Some(connection);
        self.sent = 0;
        self.scanned = 0;
        self.interim = 0;
        self.any_byte = false;
        self.gate = if self.expects {
            Gate::Waiting
        } else {
            Gate::Open
        };
        self.timer.restart();
        self.stage = Stage::Uploading;
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Exchange>, SendError>> {
        match self.poll_head(cx) {
            Poll::Ready(Ok((head, rest))) => Poll::Ready(self.answer(head, rest)),
            Poll::Ready(Err(error)) => Poll::Ready(self.broken(error)),
            Poll::Pending => {
                ready!(self.timer.poll(cx, self.deadlines.head));
                Poll::Ready(self.late(Phase::ResponseHead))
            }
        }
    }

    fn answer(&mut self, head: ResponseHead, rest: Bytes) -> Result<Option<Exchange>, SendError> {
        let request_complete = matches!(self.stage, Stage::Waiting);
        let Some(mut connection) = self.connection.take() else {
            return self.lost(None);
        };
        connection.timer = std::mem::take(&mut self.timer);
        connection.timer.restart();
        self.stage = Stage::Done;
        self.front = Bytes::new();
        self.back = Bytes::new();
        let (peer, reused) = (connection.peer(), connection.reused);
        let in_use = self.target.take();
        // A gateway or a server that is too busy says nothing of what stands behind it.
        let silent = [502, 503, 504].contains(&head.status.as_u16());
        if let Some(target) = in_use.as_ref().filter(|_| self.observed && !silent) {
            target.standing().succeeded();
        }
        let body = UpstreamBody::new(
            head.framing,
            rest,
            connection,
            head.keep_alive && request_complete,
            self.pool.clone(),
            self.deadlines.between_bytes,
            in_use,
        );
        Ok(Some(Exchange {
            status: head.status,
            headers: head.headers,
            body,
            peer,
            reused,
            replayed: self.replayed,
            moved_to: self.moved_to.map(u32::from),
            request_complete,
        }))
    }
}

impl<S> Drop for Sending<S> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.close_later(connection);
        }
    }
}

impl<S> fmt::Debug for Sending<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("target", &self.target.as_deref())
            .finish_non_exhaustive()
    }
}
