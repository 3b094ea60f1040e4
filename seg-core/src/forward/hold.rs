//! The first part of a request's body, held.
//!
//! Most requests are small: they are held whole, which makes them replayable and lets a policy
//! read them. What is larger is held up to the limit and streamed from there.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

use super::ScannedBody;
use crate::message::{RequestBody, RequestBodyError};

/// The most that is held of a body, in bytes.
pub const HELD_BYTES: usize = 64 * 1024;

/// A request's body, in part or whole at hand.
#[derive(Debug)]
pub struct Held {
    /// What has been read, in order.
    pub bytes: Bytes,
    /// What is still to come; `None` where everything is at hand.
    pub rest: Option<ScannedBody>,
}

impl Held {
    /// The body, where all of it is at hand.
    pub fn whole(&self) -> Option<&[u8]> {
        self.rest.is_none().then_some(&*self.bytes)
    }

    /// Nothing held, everything to come.
    pub fn nothing(body: LimitedBody) -> Self {
        if body.body.is_end() {
            return Self {
                bytes: Bytes::new(),
                rest: None,
            };
        }
        Self {
            bytes: Bytes::new(),
            rest: Some(ScannedBody::plain(body)),
        }
    }

    /// Reads until the body ends or [`HELD_BYTES`] are at hand.
    ///
    /// # Errors
    /// The client left, is too slow, or sends more than it may.
    pub async fn read(body: LimitedBody) -> Result<Self, RequestBodyError> {
        let mut held = Self::nothing(body);
        while held.rest.is_some() && held.bytes.len() < HELD_BYTES {
            held.more().await?;
        }
        Ok(held)
    }

    /// Reads until the body ends, or `limit` bytes are at hand.
    ///
    /// # Errors
    /// As [`Held::read`].
    pub async fn whole_within(mut self, limit: usize) -> Result<Self, RequestBodyError> {
        let Some(rest) = &mut self.rest else {
            return Ok(self);
        };
        let mut whole = BytesMut::from(&*self.bytes);
        let mut ended = false;
        while whole.len() <= limit && !ended {
            match poll_fn(|cx| rest.poll_next(cx)).await {
                None => ended = true,
                Some(Err(error)) => return Err(error),
                Some(Ok(piece)) => {
                    whole.extend_from_slice(&piece);
                    ended = rest.is_end();
                }
            }
        }
        if ended {
            self.rest = None;
        }
        self.bytes = whole.freeze();
        Ok(self)
    }

    /// Reads one more piece.
    ///
    /// # Errors
    /// As [`Held::read`].
    pub async fn more(&mut self) -> Result<(), RequestBodyError> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        match poll_fn(|cx| rest.poll_next(cx)).await {
            None => self.rest = None,
            Some(Err(error)) => return Err(error),
            Some(Ok(piece)) => {
                if self.bytes.is_empty() {
                    self.bytes = piece;
                } else {
                    // In place, with room to grow: pieces can be as small as a byte, and what is held
                    // must not be copied for each of them.
                    let held = std::mem::take(&mut self.bytes).try_into_mut();
                    let mut held = held.unwrap_or_else(|shared| BytesMut::from(&*shared));
                    held.extend_from_slice(&piece);
                    self.bytes = held.freeze();
                }
                if self.rest.as_ref().is_some_and(ScannedBody::is_end) {
                    self.rest = None;
                }
            }
        }
        Ok(())
    }
}

/// A client's body within `server.body.max.bytes` and `server.timeout.body.seconds`.
#[derive(Debug)]
pub struct LimitedBody {
    body: RequestBody,
    /// Bytes that may still come.
    room: u64,
    patience: Duration,
    /// Armed while a piece is awaited.
    timer: Option<Pin<Box<Sleep>>>,
}

impl LimitedBody {
    /// A body that may bring `max` bytes, pausing no longer than `patience`.
    ///
    /// # Errors
    /// [`RequestBodyError::TooLarge`] where the client announces more.
    pub fn new(
        body: RequestBody,
        max: Option<u64>,
        patience: Duration,
    ) -> Result<Self, RequestBodyError> {
        let room = max.unwrap_or(u64::MAX);
        if body.length().is_some_and(|length| length > room) {
            return Err(RequestBodyError::TooLarge);
        }
        Ok(Self {
            body,
            room,
            patience,
            timer: None,
        })
    }

    /// The same body, of which no more than `max` bytes may come.
    ///
    /// # Errors
    /// [`RequestBodyError::TooLarge`] where the client announces more.
    pub fn within(mut self, max: u64) -> Result<Self, RequestBodyError> {
        if self.body.length().is_some_and(|length| length > max) {
            return Err(RequestBodyError::TooLarge);
        }
        self.room = self.room.min(max);
        Ok(self)
    }

    /// The bytes still to come, where the client announced a length.
    pub fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        self.body.is_end()
    }

    /// The next piece.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RequestBodyError>>> {
        let Poll::Ready(next) = self.body.poll_next(cx) else {
            let patience = self.patience;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(RequestBodyError::Timeout)));
        };
        self.timer = None;
        Poll::Ready(match next {
            Some(Ok(piece)) => match self.room.checked_sub(piece.len() as u64) {
                Some(room) => {
                    self.room = room;
                    Some(Ok(piece))
                }
                None => Some(Err(RequestBodyError::TooLarge)),
            },
            other => other,
        })
    }

    /// Reads and drops up to [`HELD_BYTES`], so that an answer given before the body was read does
    /// not meet a client that is still writing. `true` where the body ended within that.
    pub async fn drain(mut self) -> bool {
        let mut drained = 0;
        while drained < HELD_BYTES {
            if self.body.is_end() {
                return true;
            }
            match poll_fn(|cx| self.poll_next(cx)).await {
                None => return true,
                Some(Ok(piece)) => drained += piece.len(),
                Some(Err(_)) => return false,
            }
        }
        false
    }
}
