//! What becomes of a request whose server fails: once more, elsewhere, or not at all.

use std::io;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::reading::HeadError;
use super::{Exchange, Sending, Stage};
use crate::upstream::error::{BadResponse, Phase, SendError, SendErrorKind};
use crate::upstream::source::BodySource;
use crate::upstream::target::InUse;

/// Why a request leaves its server.
#[derive(Clone, Copy)]
pub(super) enum Why {
    /// Nothing of it has left the house.
    NotSent,
    /// The server may have acted on it, and gave no whole head of an answer.
    NoAnswer,
    /// The same, after a time.
    Late,
}

impl<S> Sending<S> {
    /// Turns to the next server, if there is one and the request may go there. The failure is
    /// held against the one that it leaves.
    pub(super) fn move_on(&mut self, why: Why) -> bool {
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

    pub(super) fn count_failure(&self) {
        if self.observed
            && let Some(target) = &self.target
        {
            target.failed();
        }
    }
}

impl<S: BodySource> Sending<S> {
    pub(super) fn broken(&mut self, error: HeadError) -> Result<Option<Exchange>, SendError> {
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
    pub(super) fn late(&mut self, phase: Phase) -> Result<Option<Exchange>, SendError> {
        if self.move_on(Why::Late) {
            return Ok(None);
        }
        Err(self.fail_connected(SendErrorKind::Timeout(phase)))
    }

    /// The connection is gone: send once more where that is safe or allowed, else fail.
    pub(super) fn lost(
        &mut self,
        source: Option<io::Error>,
    ) -> Result<Option<Exchange>, SendError> {
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

    pub(super) fn fail_connected(&mut self, kind: SendErrorKind) -> SendError {
        let reused = self
            .connection
            .take()
            .is_some_and(|connection| connection.reused);
        self.fail(kind, reused)
    }

    pub(super) fn fail(&mut self, kind: SendErrorKind, reused: bool) -> SendError {
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
