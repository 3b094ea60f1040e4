//! The request's way out: its head, then its body as the source gives it and the server takes it.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::reading::HeadError;
use super::{Exchange, Sending, Stage};
use crate::upstream::chunked::{end_chunks, open_chunk};
use crate::upstream::connection::Connection;
use crate::upstream::error::{Phase, SendError, SendErrorKind};
use crate::upstream::source::{BodySource, SourceError};

/// How long a server is waited for that was asked with `Expect: 100-continue`. One that does not
/// know the question says nothing (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What follows behind `front` and `back`.
#[derive(Clone, Copy)]
pub(super) enum Feed {
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
pub(super) enum Gate {
    Open,
    /// The server has been asked with `Expect: 100-continue`.
    Waiting,
}

/// What an upload waits for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Blocked {
    Server,
    Source,
    Continue,
}

/// Why an upload stopped.
pub(super) enum UploadError {
    Io(io::Error),
    Source(SourceError),
}

impl<S: BodySource> Sending<S> {
    /// Writes, and looks whether the server answers before it has everything. `None`: the stage
    /// has changed.
    pub(super) fn poll_uploading(
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
    pub(super) fn uploaded(&mut self) {
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

    /// Sends all that may be sent; ready once the whole request is out.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
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
                ready!(poll_out(connection, self.replay, cx)).map_err(UploadError::Io)?;
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
                    ready!(poll_out(connection, self.replay, cx)).map_err(UploadError::Io)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// What a pending upload waits for, seen from its state.
    pub(super) fn blocked_by(&self) -> Blocked {
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
}

/// What may not be sent twice is given to the kernel now: whether it took any of it decides whether the
/// request can be moved to another connection.
fn poll_out(
    connection: &mut Connection,
    replay: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if replay {
        connection.poll_flush(cx)
    } else {
        connection.poll_sent(cx)
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
