//! The answer's head: read up to its end, interim ones read over.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::Sending;
use super::upload::Gate;
use crate::upstream::buffers::Buffer;
use crate::upstream::connection::Connection;
use crate::upstream::error::BadResponse;
use crate::upstream::response::{self, ResponseHead};
use crate::upstream::source::BodySource;

/// Interim responses (1xx) read over for one request.
const INTERIM_LIMIT: u8 = 16;

/// A response head that, with what was read behind it, is not larger than this shares one piece
/// of memory with the start of its body.
const ONE_COPY: usize = 4 * 1024;

/// Why no response head was read.
pub(super) enum HeadError {
    /// The connection ended, in order or not.
    Closed(Option<io::Error>),
    Bad(BadResponse),
}

impl<S: BodySource> Sending<S> {
    /// Reads up to the end of the final response head. Interim heads are read over; a 100 opens
    /// the gate. Gives the head, and what was read behind it.
    pub(super) fn poll_head(
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
}

/// Reads until a head is complete: its bytes, and those behind it.
fn poll_head_bytes(
    connection: &mut Connection,
    scanned: &mut usize,
    any_byte: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(Bytes, Bytes), HeadError>> {
    // An interim head may have brought the next one along.
    if !connection.leftover.is_empty()
        && let Some(found) = split_leftover(&mut connection.leftover, scanned)?
    {
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
