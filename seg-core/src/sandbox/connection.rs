//! One connection after the other: requests in, answers out, polls held, scripts played.
//!
//! It is a loop of its own rather than a server library because the tests need both the bytes that
//! came and full command of the bytes that go, lies included; and so that an open poll costs little.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, LAST_CHUNK, put_chunk};
use super::eas::mailbox::Mailboxes;
use super::ews;
use super::ledger::{Ledger, Seen, What};
use super::options::SandboxOptions;
use super::polls::{Polls, Release};
use super::script::{End, Moment, Play, Scripts};
use super::site::{self, Reply, Request};
use super::wire::{BodyLength, Head, Reader, WireError};

/// Answers up to this size leave in one write with their head.
const ONE_WRITE: usize = 16 * 1024;
/// No poll is held longer, whatever the client asks for.
const LONGEST_POLL: Duration = Duration::from_secs(24 * 60 * 60);

/// What every connection uses.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: SandboxOptions,
    pub(super) challenges: Mutex<Vec<String>>,
    pub(super) ledger: Ledger,
    pub(super) polls: Polls,
    pub(super) scripts: Scripts,
    pub(super) mailboxes: Mailboxes,
    pub(super) ews: ews::State,
    pub(super) changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(options: SandboxOptions, diary: Option<File>) -> Self {
        Self {
            challenges: Mutex::new(options.challenges.clone()),
            ledger: Ledger::new(options.recording, diary),
            polls: Polls::default(),
            scripts: Scripts::default(),
            mailboxes: Mutex::new(HashMap::new()),
            ews: ews::State::default(),
            changed: watch::channel(()).0,
            options,
        }
    }

    /// Wakes those who wait for something to have happened.
    fn note(&self, connection: u64, what: What) {
        self.ledger.event(connection, what);
        self.changed.send_replace(());
    }
}

/// Accepts until told to stop; then the runtime drops every connection.
pub(super) async fn accept(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    tokio::pin!(stopped);
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of files, most likely: connections end, and then there is room again.
                    tracing::warn!(%error, "the sandbox can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let shared = Arc::clone(&shared);
        match tls.clone() {
            None => tokio::spawn(plain(shared, stream)),
            Some(tls) => tokio::spawn(encrypted(shared, stream, tls)),
        };
    }
}

async fn plain(shared: Arc<Shared>, stream: TcpStream) {
    let connection = shared.ledger.connected();
    serve(&shared, connection, stream).await;
}

async fn encrypted(shared: Arc<Shared>, stream: TcpStream, tls: TlsAcceptor) {
    let connection = shared.ledger.connected();
    // Small answers must not wait for the client's acknowledgement.
    let accepted = match stream.set_nodelay(true) {
        Ok(()) => tls.accept(stream).await,
        Err(error) => Err(error),
    };
    match accepted {
        Ok(stream) => serve(&shared, connection, stream).await,
        Err(error) => shared.note(connection, What::TlsFailed(error.to_string())),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, number: u64, stream: S) {
    let mut connection = Connection {
        shared,
        number,
        stream,
        reader: Reader::new(),
    };
    loop {
        match connection.exchange().await {
            Ok(Next::Request) => {}
            Ok(Next::Close) => {
                // The client may have closed first.
                let _gone = connection.stream.shutdown().await;
                break;
            }
            Ok(Next::Drop) | Err(WireError::Closed | WireError::Broken(_)) => break,
            Err(error @ (WireError::Malformed(_) | WireError::Truncated(_))) => {
                shared.ledger.malformed_message(number, error.to_string());
                shared.changed.send_replace(());
                let refusal = Answer::status(400).close();
                let _gone = connection.stream.write_all(&refusal.head_bytes()).await;
                let _gone = connection.stream.shutdown().await;
                break;
            }
        }
    }
    shared.note(number, What::Closed);
}

/// What follows an exchange.
enum Next {
    Request,
    Close,
    Drop,
}

struct Connection<'s, S> {
    shared: &'s Shared,
    number: u64,
    stream: S,
    reader: Reader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// One request and its answer.
    async fn exchange(&mut self) -> Result<Next, WireError> {
        let shared = self.shared;
        let head = self.reader.head(&mut self.stream).await?;
        let seen = site::seen_in_head(shared, &head);
        if let Some((delay, play)) = shared.scripts.take(&seen, Moment::Head) {
            tokio::time::sleep(delay).await;
            if matches!(play, Play::Stall) {
                self.stall(&seen).await;
            } else if !matches!(play, Play::Ordinary) {
                let next = self.play(play, &seen, None, Answer::status(200)).await?;
                return self.leave_body(&head, next).await;
            }
        }
        if head.expects_continue() {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
            self.stream.flush().await?;
        }
        let body = self.reader.body(&mut self.stream, &head).await?;
        let seen = site::seen_in_whole(seen, &head, &body);
        let exchange = shared.ledger.arrived(self.number, &seen, &head, &body);
        shared.changed.send_replace(());

        let script = shared.scripts.take(&seen, Moment::Whole);
        if let Some((delay, play)) = &script {
            tokio::time::sleep(*delay).await;
            if matches!(play, Play::Stall) {
                self.stall(&seen).await;
            }
        }
        let request = Request {
            head: &head,
            body: &body,
            seen: &seen,
        };
        match script.map(|(_, play)| play) {
            None | Some(Play::Ordinary | Play::Stall) => match site::reply(shared, &request) {
                Reply::Answer(answer) => self.answer(&answer, &head, &seen, exchange).await,
                Reply::Poll(poll) => {
                    let Some(release) = self.hold(&seen, poll.limit).await else {
                        return Ok(Next::Drop);
                    };
                    match site::after_poll(shared, &request, &poll.held, release) {
                        None => Ok(Next::Drop),
                        Some(answer) => self.answer(&answer, &head, &seen, exchange).await,
                    }
                }
                Reply::Stream(stream) => self.stream(&stream, &seen).await,
            },
            Some(play) => {
                let ordinary = match site::reply(shared, &request) {
                    Reply::Answer(answer) => answer,
                    Reply::Poll(poll) => {
                        let expired = Release::Expire;
                        site::after_poll(shared, &request, &poll.held, expired)
                            .unwrap_or_else(|| Answer::status(200))
                    }
                    Reply::Stream(stream) => stream.as_one_answer(),
                };
                self.play(play, &seen, Some((&head, exchange)), ordinary)
                    .await
            }
        }
    }

    /// Leaves the connection alone until it is released.
    async fn stall(&self, seen: &Seen) {
        let mut place = self.shared.polls.hold(seen, Duration::MAX);
        self.shared.note(self.number, What::Played(seen.clone()));
        // However it is released, the request goes on.
        let _release = place.releases.recv().await;
    }

    /// Behind an answer that came before the body, the connection can't go on; and it is read to
    /// its end, because unread bytes would turn the close into a reset that destroys the answer.
    async fn leave_body(&mut self, head: &Head, next: Next) -> Result<Next, WireError> {
        if head.length == BodyLength::Exact(0) || matches!(next, Next::Drop) {
            return Ok(next);
        }
        self.stream.shutdown().await?;
        while !self.reader.client_left(&mut self.stream).await {
            self.reader.buffer.clear();
        }
        Ok(Next::Drop)
    }

    /// Holds a poll until something ends it; none: the client has left.
    async fn hold(&mut self, seen: &Seen, limit: Duration) -> Option<Release> {
        let shared = self.shared;
        let until = Instant::now() + limit.min(LONGEST_POLL);
        let mut place = shared.polls.hold(seen, limit);
        shared.note(self.number, What::PollOpened(seen.clone()));
        let ended = loop {
            tokio::select! {
                release = place.releases.recv() => break release,
                () = sleep_until(until) => break Some(Release::Expire),
                left = self.reader.client_left(&mut self.stream) => if left { break None },
            }
        };
        drop(place);
        shared.note(self.number, poll_end(seen, ended.is_some()));
        ended
    }

    /// Writes pieces until the stream's time is up or it is ended from outside.
    async fn stream(&mut self, stream: &ews::Stream, seen: &Seen) -> Result<Next, WireError> {
        let shared = self.shared;
        let until = Instant::now() + stream.limit.min(LONGEST_POLL);
        let mut place = shared.polls.hold(seen, stream.limit);
        shared.note(self.number, What::PollOpened(seen.clone()));
        self.stream.write_all(&stream.head).await?;
        self.piece(&stream.opening).await?;
        let ended = loop {
            let alive = Instant::now() + ews::KEEP_ALIVE;
            tokio::select! {
                release = place.releases.recv() => match release {
                    Some(Release::Changes) => self.piece(&stream.event).await?,
                    Some(Release::Expire) => break Some(true),
                    Some(Release::Answer(_) | Release::Close) | None => break Some(false),
                },
                () = sleep_until(until) => break Some(true),
                () = sleep_until(alive) => self.piece(&stream.keep_alive).await?,
                left = self.reader.client_left(&mut self.stream) => if left { break None },
            }
        };
        drop(place);
        shared.note(self.number, poll_end(seen, ended.is_some()));
        if ended != Some(true) {
            return Ok(Next::Drop);
        }
        self.piece(&stream.closing).await?;
        self.stream.write_all(LAST_CHUNK).await?;
        self.stream.flush().await?;
        Ok(Next::Request)
    }

    async fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut framed = BytesMut::with_capacity(piece.len() + 16);
        put_chunk(&mut framed, piece);
        self.stream.write_all(&framed).await?;
        self.stream.flush().await
    }

    async fn answer(
        &mut self,
        answer: &Answer,
        head: &Head,
        seen: &Seen,
        exchange: u64,
    ) -> Result<Next, WireError> {
        let body = if head.method == "HEAD" {
            <_>::default()
        } else {
            answer.body_bytes()
        };
        // Noted first: whoever has the answer in hand finds it in the ledger.
        self.shared
            .ledger
            .answered(self.number, exchange, seen, answer);
        self.shared.changed.send_replace(());
        self.write(answer, &body).await?;
        self.shared.note(self.number, What::Written(seen.clone()));
        Ok(if answer.ends_connection() || !head.keep_alive {
            Next::Close
        } else {
            Next::Request
        })
    }

    async fn write(&mut self, answer: &Answer, body: &[u8]) -> io::Result<()> {
        let head = answer.head_bytes();
        if body.len() <= ONE_WRITE {
            let mut whole = BytesMut::with_capacity(head.len() + body.len());
            whole.extend_from_slice(&head);
            whole.extend_from_slice(body);
            self.stream.write_all(&whole).await?;
        } else {
            self.stream.write_all(&head).await?;
            self.stream.write_all(body).await?;
        }
        self.stream.flush().await
    }

    async fn play(
        &mut self,
        play: Play,
        seen: &Seen,
        request: Option<(&Head, u64)>,
        ordinary: Answer,
    ) -> Result<Next, WireError> {
        self.shared.note(self.number, What::Played(seen.clone()));
        let end = match play {
            Play::Ordinary | Play::Stall | Play::Answer(_) => {
                let answer = if let Play::Answer(answer) = play {
                    answer
                } else {
                    ordinary
                };
                if let Some((head, exchange)) = request {
                    return self.answer(&answer, head, seen, exchange).await;
                }
                self.write(&answer, &answer.body_bytes()).await?;
                if answer.ends_connection() {
                    End::Close
                } else {
                    End::KeepOpen
                }
            }
            Play::Cut { answer, after, end } => {
                let answer = answer.unwrap_or(ordinary);
                let body = answer.body_bytes();
                self.write(&answer, body.get(..after).unwrap_or(&body))
                    .await?;
                end
            }
            Play::Raw { bytes, end } => {
                self.stream.write_all(&bytes).await?;
                self.stream.flush().await?;
                end
            }
            Play::Hang => End::Hang,
            Play::Close => End::Close,
        };
        Ok(match end {
            End::KeepOpen => Next::Request,
            End::Close => Next::Close,
            End::Drop => Next::Drop,
            End::Hang => {
                while !self.reader.client_left(&mut self.stream).await {}
                Next::Drop
            }
        })
    }
}

fn poll_end(seen: &Seen, by_us: bool) -> What {
    if by_us {
        What::PollEnded(seen.clone())
    } else {
        What::PollAbandoned(seen.clone())
    }
}
