//! Exchange Web Services: what each operation is answered, as literal XML.

use std::time::Duration;

use bytes::Bytes;

use super::answer::Answer;
use super::connection::Shared;
use super::site::{Reply, Request};

/// How often an open stream says that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(45);

/// What the EWS part remembers.
#[derive(Debug, Default)]
pub(super) struct State {}

/// A stream of envelopes.
pub(super) struct Stream {
    pub(super) limit: Duration,
    pub(super) head: Bytes,
    pub(super) opening: Bytes,
    pub(super) event: Bytes,
    pub(super) keep_alive: Bytes,
    pub(super) closing: Bytes,
}

impl Stream {
    pub(super) fn as_one_answer(&self) -> Answer {
        Answer::ok("text/xml; charset=utf-8", self.opening.clone())
    }
}

pub(super) fn operation(_body: &[u8]) -> Option<&str> {
    None
}

pub(super) fn reply(_shared: &Shared, _request: &Request<'_>) -> Reply {
    Reply::Answer(Answer::status(501))
}
