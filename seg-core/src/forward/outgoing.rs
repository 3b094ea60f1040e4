//! A streamed request body on its way to the server: what was held first, then the rest as the
//! client sends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::LimitedBody;
use crate::message::RequestBodyError;
use crate::upstream::{BodySource, SourceError};

/// Held bytes, then the client's.
#[derive(Debug)]
pub struct Outgoing {
    first: Bytes,
    rest: ScannedBody,
    /// Told when the whole body has arrived: from then on the request is finished in any case.
    arrived: Option<Arc<AtomicBool>>,
}

impl Outgoing {
    pub(crate) fn new(first: Bytes, rest: ScannedBody, arrived: Option<Arc<AtomicBool>>) -> Self {
        Self {
            first,
            rest,
            arrived,
        }
    }
}

impl BodySource for Outgoing {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        match ready!(self.rest.poll_next(cx)) {
            Some(Ok(piece)) => Poll::Ready(Some(Ok(piece))),
            Some(Err(error)) => Poll::Ready(Some(Err(Box::new(error)))),
            None => {
                if let Some(arrived) = &self.arrived {
                    arrived.store(true, Ordering::Release);
                }
                Poll::Ready(None)
            }
        }
    }
}

/// Reads a body while it passes.
pub trait BodyScan: Send + std::fmt::Debug {
    /// Reads the next piece.
    ///
    /// # Errors
    /// What is wrong with the body.
    fn feed(&mut self, piece: &[u8]) -> Result<(), String>;

    /// The body has ended.
    ///
    /// # Errors
    /// What is missing.
    fn finish(self: Box<Self>) -> Result<(), String>;

    /// The mailboxes that were named so far, for a [`Guard`].
    fn mailboxes(&self) -> &[String] {
        &[]
    }
}

/// A client's body, read by a scanner while it passes.
///
/// The scanner is one piece ahead of what is sent: the last piece goes only when the document has
/// ended well-formed, so that on a violation the server never sees a complete document.
#[derive(Debug)]
pub struct ScannedBody {
    body: LimitedBody,
    scanner: Option<Box<dyn BodyScan>>,
    ahead: Option<Bytes>,
    guard: Option<Guard>,
}

/// Says whether a request may go on that names these mailboxes.
pub struct Guard {
    may_reach: Box<MayReach>,
    /// How many of them it has said it of.
    judged: usize,
}

type MayReach = dyn Fn(&[String]) -> bool + Send + Sync;

impl Guard {
    /// A guard that asks `may_reach`.
    pub fn new(may_reach: impl Fn(&[String]) -> bool + Send + Sync + 'static) -> Self {
        Self {
            may_reach: Box::new(may_reach),
            judged: 0,
        }
    }

    /// Whether the request may go on. Each mailbox is judged once, however long the body is.
    fn lets_pass(&mut self, mailboxes: &[String]) -> bool {
        let new = mailboxes.get(self.judged..).unwrap_or_default();
        self.judged = mailboxes.len();
        new.is_empty() || (self.may_reach)(new)
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl ScannedBody {
    /// A body that nobody reads.
    pub fn plain(body: LimitedBody) -> Self {
        Self {
            body,
            scanner: None,
            ahead: None,
            guard: None,
        }
    }

    /// A body whose first part `scanner` has read already. `held_back` is the end of that part:
    /// it is sent when more has been found good.
    pub fn scanned(body: LimitedBody, scanner: Box<dyn BodyScan>, held_back: Bytes) -> Self {
        Self {
            body,
            scanner: Some(scanner),
            ahead: Some(held_back),
            guard: None,
        }
    }

    /// Asks `guard` about the mailboxes that the rest of the body names.
    pub fn guard(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    /// The bytes still to come, where the client announced a length.
    pub fn length(&self) -> Option<u64> {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len() as u64);
        self.body.length().map(|length| length + ahead)
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        self.ahead.is_none() && self.body.is_end()
    }

    /// The body itself, for somebody who drops what is left of it.
    pub fn into_body(self) -> LimitedBody {
        self.body
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RequestBodyError>>> {
        loop {
            let next = ready!(self.body.poll_next(cx));
            let Some(scanner) = &mut self.scanner else {
                return Poll::Ready(next);
            };
            match next {
                Some(Ok(piece)) => {
                    if let Err(reject) = scanner.feed(&piece) {
                        return refused(reject);
                    }
                    if let Some(guard) = &mut self.guard
                        && !guard.lets_pass(scanner.mailboxes())
                    {
                        let text = "it names a mailbox that the caller may not reach";
                        return Poll::Ready(Some(Err(RequestBodyError::Refused(text.to_owned()))));
                    }
                    if let Some(before) = self.ahead.replace(piece).filter(|b| !b.is_empty()) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(scanner) = self.scanner.take() else {
                        return Poll::Ready(None);
                    };
                    return match (scanner.finish(), self.ahead.take()) {
                        (Err(reject), _) => refused(reject),
                        (Ok(()), Some(last)) if !last.is_empty() => Poll::Ready(Some(Ok(last))),
                        (Ok(()), _) => Poll::Ready(None),
                    };
                }
            }
        }
    }
}

fn refused(reject: String) -> Poll<Option<Result<Bytes, RequestBodyError>>> {
    Poll::Ready(Some(Err(RequestBodyError::Refused(reject))))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_mailbox_is_judged_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let judged = Arc::clone(&seen);
        let mut guard = Guard::new(move |mailboxes: &[String]| {
            judged.lock().unwrap().extend_from_slice(mailboxes);
            !mailboxes.iter().any(|mailbox| mailbox == "c")
        });
        let named = ["a", "b", "c"].map(str::to_owned);
        let pieces = [&named[..0], &named[..1], &named[..1], &named[..2], &named];
        let passed = pieces.map(|mailboxes| guard.lets_pass(mailboxes));
        assert_eq!(passed, [true, true, true, true, false]);
        assert_eq!(*seen.lock().unwrap(), named);
    }
}
