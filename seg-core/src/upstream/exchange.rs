//! One request and the head of its answer, driven by the task that asks.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::body::UpstreamBody;
use super::buffers::Buffer;
use super::chunked::{end_chunks, open_chunk};
use super::connect::{Connecting, connect};
use super::connection::Connection;
use super::elsewhere::Alternatives;
use super::error::{BadResponse, Phase, SendError, SendErrorKind};
use super::head::{BodyKind, RequestHead};
use super::pool::{Key, Pool};
use super::response::{self, ResponseHead};
use super::source::{BodySource, SourceError};
use super::target::{InUse, Target};
use super::timer::Timer;

/// How long a server is waited for that was asked with `Expect: 100-continue`. One that does not
/// know the question says nothing (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Interim responses (1xx) read over for one request.
const INTERIM_LIMIT: u8 = 16;

/// A response head that, with what was read behind it, is not larger than this shares one piece
/// of memory with the start of its body.
const ONE_COPY: usize = 4 * 1024;

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
    let wire = head.into_wire(target.authority());
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

/// What follows behind `front` and `back`.
#[derive(Clone, Copy)]
enum Feed {
    /// Nothing: the request is held.
    Whole,
    /// Data of known length.
    Counted { left: u64 },
    /// Chunks.
    Chunked { first: bool },
    /// Nothing more: the source has ended.
    Ended,
}

/// Whether the body may go out.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Gate {
    Open,
    /// The server has been asked with `Expect: 100-continue`.
    Waiting,
}

/// What an upload waits for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Blocked {
    Server,
    Source,
    Continue,
}

/// Why an upload stopped.
enum UploadError {
    Io(io::Error),
    Source(SourceError),
}

/// Why no response head was read.
enum HeadError {
    /// The connection ended, in order or not.
    Closed(Option<io::Error>),
    Bad(BadResponse),
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

    /// Turns to the next server, if there is one and the request may go there. The failure is
    /// held against the one that it leaves.
    fn move_on(&mut self, why: Why) -> bool {
        let may = match why {
            Why::NotSent => true,
            Why::NoAnswer => self.replay,
            Why::Late => {
                self.replay
                    && self
                        .elsewhere
                        .as_ref()
                        .is_some_and(|elsewhere| elsewhere.after_timeout)
            }
        };
        let Some(elsewhere) = self.elsewhere.as_mut().filter(|_| may) else {
            return false;
        };
        let Some((place, target)) = elsewhere.next() else {
            return false;
        };
        self.count_failure();
        if !self.own_host {
            self.front = with_host(&self.front, target.authority());
        }
        self.key = self.key.at(&target);
        self.moved_to = u8::try_from(place).ok();
        self.target = Some(InUse::new(target));
        self.connection = None;
        self.fresh_only = false;
        self.sent = 0;
        self.stage = Stage::Start;
        true
    }

    fn count_failure(&self) {
        if self.observed
            && let Some(target) = &self.target
        {
            target.failed();
        }
    }
}

/// Why a request leaves its server.
#[derive(Clone, Copy)]
enum Why {
    /// Nothing of it has left the house.
    NotSent,
    /// The server may have acted on it, and gave no whole head of an answer.
    NoAnswer,
    /// The same, after a time.
    Late,
}

/// A head that begins with its request line and `host`, for another host.
fn with_host(front: &Bytes, authority: &HeaderValue) -> Bytes {
    let mut lines = front.splitn(3, |byte| *byte == b'\n');
    let (Some(request), Some(_host), Some(rest)) = (lines.next(), lines.next(), lines.next())
    else {
        return front.clone();
    };
    let mut anew = BytesMut::with_capacity(front.len() + authority.len());
    anew.extend_from_slice(request);
    anew.extend_from_slice(b"\nhost: ");
    anew.extend_from_slice(authority.as_bytes());
    anew.extend_from_slice(b"\r\n");
    anew.extend_from_slice(rest);
    anew.freeze()
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

    fn begin(&mut self, connection: Box<Connection>) {
        self.accepted_before = connection.accepted();
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

    /// Writes, and looks whether the server answers before it has everything. `None`: the stage
    /// has changed.
    fn poll_uploading(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Exchange>, SendError>> {
        let blocked = match self.poll_upload(cx) {
            Poll::Ready(Ok(())) => {
                self.uploaded();
                return Poll::Ready(Ok(None));
            }
            Poll::Ready(Err(UploadError::Source(error))) => {
                let kind = SendErrorKind::BodySource(error);
                return Poll::Ready(Err(self.fail_connected(kind)));
            }
            Poll::Ready(Err(UploadError::Io(error))) => {
                // A server that refuses a large body answers, and closes without reading it all.
                return match self.poll_head(cx) {
                    Poll::Ready(Ok((head, rest))) => Poll::Ready(self.answer(head, rest)),
                    Poll::Ready(Err(HeadError::Bad(bad))) => {
                        Poll::Ready(self.broken(HeadError::Bad(bad)))
                    }
                    Poll::Ready(Err(HeadError::Closed(_))) | Poll::Pending => {
                        Poll::Ready(self.lost(Some(error)))
                    }
                };
            }
            Poll::Pending => self.blocked_by(),
        };
        match self.poll_head(cx) {
            Poll::Ready(Ok((head, rest))) => return Poll::Ready(self.answer(head, rest)),
            Poll::Ready(Err(error)) => return Poll::Ready(self.broken(error)),
            Poll::Pending => {}
        }
        if self.blocked_by() != blocked {
            // A 100 came in.
            self.timer.restart();
            return Poll::Ready(Ok(None));
        }
        match blocked {
            // The source wakes us, and it is its owner who knows how long that may take.
            Blocked::Source => Poll::Pending,
            Blocked::Continue => {
                ready!(self.timer.poll(cx, CONTINUE_WAIT));
                self.gate = Gate::Open;
                self.timer.restart();
                Poll::Ready(Ok(None))
            }
            Blocked::Server => {
                ready!(self.timer.poll(cx, self.deadlines.between_bytes));
                Poll::Ready(self.late(Phase::RequestBody))
            }
        }
    }

    /// The request is out: from here on only what a replay needs is kept.
    fn uploaded(&mut self) {
        let reused = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.reused);
        // For the same server once more, or for another one.
        if !(self.replay && (reused || self.elsewhere.is_some())) {
            self.front = Bytes::new();
            self.back = Bytes::new();
        }
        self.timer.restart();
        self.stage = Stage::Waiting;
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

    /// Sends all that may be sent; ready once the whole request is out.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Ok(()));
        };
        if !self.primed && self.sent == 0 && self.gate == Gate::Open {
            // The start of a streamed body that is here already leaves together with the head.
            self.primed = true;
            let frame = self
                .feed
                .next(&mut self.source, &mut self.front, &mut self.back, cx);
            if let Poll::Ready(Err(error)) = frame {
                return Poll::Ready(Err(UploadError::Source(error)));
            }
        }
        loop {
            loop {
                let front = self.front.get(self.sent..).unwrap_or_default();
                let back = match self.gate {
                    Gate::Open => self.back.get(self.sent.saturating_sub(self.front.len())..),
                    Gate::Waiting => None,
                };
                let back = back.unwrap_or_default();
                if front.is_empty() && back.is_empty() {
                    break;
                }
                let taken = ready!(connection.poll_write(cx, front, back));
                self.sent += taken.map_err(UploadError::Io)?;
                self.timer.restart();
            }
            let whole = self.feed.is_over();
            if whole || self.gate == Gate::Waiting {
                ready!(connection.poll_flush(cx)).map_err(UploadError::Io)?;
                return if self.gate == Gate::Open {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            self.first_frame = false;
            self.front = Bytes::new();
            self.back = Bytes::new();
            self.sent = 0;
            match self
                .feed
                .next(&mut self.source, &mut self.front, &mut self.back, cx)
            {
                Poll::Ready(framed) => {
                    framed.map_err(UploadError::Source)?;
                    self.timer.restart();
                }
                Poll::Pending => {
                    ready!(connection.poll_flush(cx)).map_err(UploadError::Io)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// What a pending upload waits for, seen from its state.
    fn blocked_by(&self) -> Blocked {
        let allowed = match self.gate {
            Gate::Open => self.front.len() + self.back.len(),
            Gate::Waiting => self.front.len(),
        };
        if self.sent < allowed {
            Blocked::Server
        } else if self.gate == Gate::Waiting {
            Blocked::Continue
        } else if self.feed.is_over() {
            Blocked::Server
        } else {
            Blocked::Source
        }
    }

    /// Reads up to the end of the final response head. Interim heads are read over; a 100 opens
    /// the gate. Gives the head, and what was read behind it.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(ResponseHead, Bytes), HeadError>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Err(HeadError::Closed(None)));
        };
        loop {
            let (head, rest) = match ready!(poll_head_bytes(
                connection,
                &mut self.scanned,
                &mut self.any_byte,
                cx
            )) {
                Ok(found) => found,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let head = match response::parse(&head, self.to_head) {
                Ok(head) => head,
                Err(bad) => return Poll::Ready(Err(HeadError::Bad(bad))),
            };
            if !head.status.is_informational() {
                return Poll::Ready(Ok((head, rest)));
            }
            self.interim += 1;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(HeadError::Bad(BadResponse::SwitchingProtocols)));
            }
            if self.interim > INTERIM_LIMIT {
                return Poll::Ready(Err(HeadError::Bad(BadResponse::TooManyInterim)));
            }
            connection.leftover = BytesMut::from(rest);
            self.scanned = 0;
            if head.status == StatusCode::CONTINUE && self.gate == Gate::Waiting {
                self.gate = Gate::Open;
                // The body first: what the server says next depends on it. The caller sees the
                // open gate and goes on writing.
                return Poll::Pending;
            }
        }
    }

    fn answer(&mut self, head: ResponseHead, rest: Bytes) -> Result<Option<Exchange>, SendError> {
        let request_complete = matches!(self.stage, Stage::Waiting);
        let Some(connection) = self.connection.take() else {
            return self.lost(None);
        };
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

    fn broken(&mut self, error: HeadError) -> Result<Option<Exchange>, SendError> {
        match error {
            HeadError::Closed(cause) => self.lost(cause),
            HeadError::Bad(bad) => {
                if self.move_on(Why::NoAnswer) {
                    return Ok(None);
                }
                Err(self.fail_connected(bad.into()))
            }
        }
    }

    /// The server takes too long.
    fn late(&mut self, phase: Phase) -> Result<Option<Exchange>, SendError> {
        if self.move_on(Why::Late) {
            return Ok(None);
        }
        Err(self.fail_connected(SendErrorKind::Timeout(phase)))
    }

    /// The connection is gone: send once more where that is safe or allowed, else fail.
    fn lost(&mut self, source: Option<io::Error>) -> Result<Option<Exchange>, SendError> {
        if self.any_byte {
            return self.broken(HeadError::Bad(BadResponse::Truncated));
        }
        let connection = self.connection.take();
        let reused = connection
            .as_ref()
            .is_some_and(|connection| connection.reused);
        let untouched = self.first_frame
            && matches!(self.stage, Stage::Uploading)
            && connection
                .as_ref()
                .is_some_and(|connection| connection.accepted() == self.accepted_before);
        if reused && untouched {
            self.pool.count_reconnect();
        } else if reused && self.replay && !self.replayed {
            self.pool.count_replay();
            self.replayed = true;
        } else if self.move_on(Why::NoAnswer) {
            return Ok(None);
        } else {
            return Err(self.fail(SendErrorKind::ClosedBeforeByte { source }, reused));
        }
        self.fresh_only = true;
        self.stage = Stage::Start;
        Ok(None)
    }

    fn fail_connected(&mut self, kind: SendErrorKind) -> SendError {
        let reused = self
            .connection
            .take()
            .is_some_and(|connection| connection.reused);
        self.fail(kind, reused)
    }

    fn fail(&mut self, kind: SendErrorKind, reused: bool) -> SendError {
        self.stage = Stage::Done;
        if !matches!(kind, SendErrorKind::BodySource(_)) {
            self.count_failure();
        }
        self.target = None;
        SendError {
            kind,
            reused,
            held: self.held,
            replayed: self.replayed,
        }
    }
}

impl Feed {
    fn is_over(self) -> bool {
        matches!(self, Self::Whole | Self::Ended)
    }

    /// Asks the source for the next piece and frames it: `front` is added to, `back` is set.
    /// Nothing happens where nothing more follows.
    fn next<S: BodySource>(
        &mut self,
        source: &mut S,
        front: &mut Bytes,
        back: &mut Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SourceError>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            let piece = match ready!(source.poll_next(cx)) {
                Some(piece) => Some(piece?),
                None => None,
            };
            if piece.as_ref().is_some_and(Bytes::is_empty) {
                continue;
            }
            return Poll::Ready(self.frame(piece, front, back));
        }
    }

    fn frame(
        &mut self,
        piece: Option<Bytes>,
        front: &mut Bytes,
        back: &mut Bytes,
    ) -> Result<(), SourceError> {
        match (*self, piece) {
            (Self::Counted { left }, Some(piece)) => {
                let left = left.checked_sub(piece.len() as u64);
                let left = left.ok_or("longer than its Content-Length")?;
                *self = Self::Counted { left };
                *back = piece;
            }
            // Asked for its end even where the count is full: the source may still refuse what
            // it gave, and learns only so that all of it was taken.
            (Self::Counted { left: 0 }, None) => *self = Self::Ended,
            (Self::Counted { .. }, None) => return Err("ended before its Content-Length".into()),
            (Self::Chunked { first }, piece) => {
                let mut line = BytesMut::from(std::mem::take(front));
                match piece {
                    Some(piece) => {
                        open_chunk(&mut line, first, piece.len());
                        *self = Self::Chunked { first: false };
                        *back = piece;
                    }
                    None => {
                        end_chunks(&mut line, first);
                        *self = Self::Ended;
                    }
                }
                *front = line.freeze();
            }
            (Self::Whole | Self::Ended, _) => {}
        }
        Ok(())
    }
}

/// Reads until a head is complete: its bytes, and those behind it.
fn poll_head_bytes(
    connection: &mut Connection,
    scanned: &mut usize,
    any_byte: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(Bytes, Bytes), HeadError>> {
    // An interim head may have brought the next one along.
    if let Some(found) = split_leftover(&mut connection.leftover, scanned)? {
        return Poll::Ready(Ok(found));
    }
    loop {
        let mut buffer = Buffer::take();
        let length = match ready!(connection.poll_read(cx, &mut buffer)) {
            Ok(0) => return Poll::Ready(Err(HeadError::Closed(None))),
            Ok(length) => length,
            Err(error) => return Poll::Ready(Err(HeadError::Closed(Some(error)))),
        };
        *any_byte = true;
        let read = buffer.as_mut().get(..length).unwrap_or_default();
        if connection.leftover.is_empty()
            && let Some(end) = response::find_end(read, scanned)?
        {
            return Poll::Ready(Ok(split_buffer(buffer, end, length)));
        }
        connection.leftover.extend_from_slice(read);
        if let Some(found) = split_leftover(&mut connection.leftover, scanned)? {
            return Poll::Ready(Ok(found));
        }
    }
}

fn split_leftover(
    leftover: &mut BytesMut,
    scanned: &mut usize,
) -> Result<Option<(Bytes, Bytes)>, BadResponse> {
    let Some(end) = response::find_end(leftover, scanned)? else {
        return Ok(None);
    };
    let mut all = std::mem::take(leftover).freeze();
    let head = all.split_to(end.min(all.len()));
    Ok(Some((head, all)))
}

fn split_buffer(mut buffer: Buffer, end: usize, length: usize) -> (Bytes, Bytes) {
    if length <= ONE_COPY {
        let mut all = buffer.freeze(length);
        let head = all.split_to(end.min(all.len()));
        return (head, all);
    }
    // Header values live longer than the start of a large body: they get memory of their own.
    let head = Bytes::copy_from_slice(buffer.as_mut().get(..end).unwrap_or_default());
    let rest = if end < length {
        buffer.freeze(length).split_off(end)
    } else {
        Bytes::new()
    };
    (head, rest)
}

impl From<BadResponse> for HeadError {
    fn from(bad: BadResponse) -> Self {
        Self::Bad(bad)
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
