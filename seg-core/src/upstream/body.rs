//! The body of an answer, piece by piece.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::buffers::Buffer;
use super::chunked::Step;
use super::connection::Connection;
use super::error::BodyError;
use super::pool::Pool;
use super::response::Framing;
use super::target::InUse;

/// The body of an [`super::Exchange`].
///
/// At its clean end the connection goes back to the pool. Dropped before, the connection is
/// closed; shortly after, a few per tick, where [`Pool::tend`] runs, so that cutting thousands
/// of answers at once does not hold up the cut itself.
pub struct UpstreamBody {
    state: State,
    /// Bytes read and not handed out.
    ready: Bytes,
    /// Until the end has been read.
    connection: Option<Box<Connection>>,
    pool: Pool,
    keep_alive: bool,
    between_bytes: Duration,
    /// Whose answer it is, until its end.
    in_use: Option<InUse>,
}

enum State {
    Open(Framing),
    /// What was handed out has been given back, and comes before the rest.
    Given(Box<(Bytes, Self)>),
    Ended,
    Failed,
}

impl UpstreamBody {
    pub(super) fn new(
        framing: Framing,
        ready: Bytes,
        connection: Box<Connection>,
        keep_alive: bool,
        pool: Pool,
        between_bytes: Duration,
        in_use: Option<InUse>,
    ) -> Self {
        let mut body = Self {
            state: State::Open(framing),
            ready,
            connection: Some(connection),
            pool,
            keep_alive,
            between_bytes,
            in_use,
        };
        body.release_if_all_is_here();
        body
    }

    /// The next piece, `None` behind the end. Pieces are up to 64 KiB and never empty.
    ///
    /// # Errors
    /// [`BodyError`] where the body is cut short, malformed or too slow; after one, the body
    /// gives nothing more and the connection is closed.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.hand_out() {
                Ok(Some(piece)) => {
                    if let Some(connection) = &mut self.connection {
                        connection.timer.restart();
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
            let State::Open(framing) = &self.state else {
                return Poll::Ready(None);
            };
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            let mut buffer = Buffer::take();
            match connection.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) if matches!(framing, Framing::UntilClose) => self.finish(),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Some(Err(self.fail(BodyError::Truncated(None)))));
                }
                Poll::Ready(Ok(length)) => self.ready = buffer.freeze(length),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(Err(self.fail(BodyError::Truncated(Some(error))))));
                }
                Poll::Pending => {
                    ready!(connection.timer.poll(cx, self.between_bytes));
                    return Poll::Ready(Some(Err(self.fail(BodyError::Timeout))));
                }
            }
        }
    }

    /// Whether nothing more will come, because all has been handed out.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::Ended | State::Open(Framing::Length(0)))
    }

    /// The exact number of bytes still to come, where the framing tells it.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match &self.state {
            State::Open(Framing::Length(left)) => Some(*left),
            State::Ended => Some(0),
            State::Open(_) | State::Given(_) | State::Failed => None,
        }
    }

    /// Gives back what has been handed out so far: it comes first again.
    pub fn give_back(&mut self, begin: Bytes) {
        if !begin.is_empty() {
            let rest = std::mem::replace(&mut self.state, State::Failed);
            self.state = State::Given(Box::new((begin, rest)));
        }
    }

    /// Gathers the whole body, for answers that must be read before they are passed on.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] as soon as more than `limit` bytes are there, or announced; else
    /// what [`UpstreamBody::poll_next`] gives.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let too_large = |bytes: u64| bytes > limit as u64;
        if self.remaining().is_some_and(too_large) {
            return Err(BodyError::TooLarge(limit));
        }
        let mut gathered = BytesMut::new();
        while let Some(piece) = poll_fn(|cx| self.poll_next(cx)).await {
            let piece = piece?;
            if too_large(gathered.len() as u64 + piece.len() as u64) {
                return Err(BodyError::TooLarge(limit));
            }
            if gathered.is_empty() && self.is_end() {
                return Ok(piece);
            }
            gathered.extend_from_slice(&piece);
        }
        Ok(gathered.freeze())
    }

    /// The next piece out of what has been read.
    fn hand_out(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let State::Given(given) = &mut self.state {
            let begin = std::mem::take(&mut given.0);
            self.state = std::mem::replace(&mut given.1, State::Failed);
            return Ok(Some(begin));
        }
        let State::Open(framing) = &mut self.state else {
            return Ok(None);
        };
        let (piece, ended) = match framing {
            Framing::Length(left) => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(self.ready.len());
                let piece = self.ready.split_to(here);
                *left -= here as u64;
                (piece, *left == 0)
            }
            Framing::UntilClose => (std::mem::take(&mut self.ready), false),
            Framing::Chunked(decoder) => match decoder.next(&mut self.ready)? {
                // The end may be here already: then the connection need not wait for a further
                // poll to go back.
                Step::Data(piece) => (piece, decoder.skip_framing(&mut self.ready)?),
                Step::More => (Bytes::new(), false),
                Step::End => (Bytes::new(), true),
            },
        };
        if ended {
            self.finish();
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// A body that came with its head sets the connection free before anybody reads it.
    fn release_if_all_is_here(&mut self) {
        let State::Open(Framing::Length(left)) = self.state else {
            return;
        };
        if left <= self.ready.len() as u64 {
            let stray = left < self.ready.len() as u64;
            self.ready
                .truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.release(stray);
            if left == 0 {
                self.state = State::Ended;
            }
        }
    }

    /// The body is complete; what is still there does not belong to it.
    fn finish(&mut self) {
        self.state = State::Ended;
        let stray = !self.ready.is_empty();
        self.ready = Bytes::new();
        self.release(stray);
    }

    fn release(&mut self, stray: bool) {
        self.in_use = None;
        if let Some(connection) = self.connection.take()
            && self.keep_alive
            && !stray
        {
            self.pool.put(connection);
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.state = State::Failed;
        self.ready = Bytes::new();
        self.connection = None;
        if let Some(in_use) = self.in_use.take() {
            in_use.failed();
        }
        error
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("ended", &self.is_end())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.close_later(connection);
        }
    }
}
