//! How the server's answer to an EWS request is passed on: as it comes, as a row of envelopes that
//! can be ended cleanly, or with what the client may not have left out.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use seg_ews::Redactor;

use super::events::{Ending, EventStream};
use super::memory::Taken;
use super::{EwsCall, ServerVersionMemory};
use crate::decide::Admitted;
use crate::message::{Reply, ReplyBody, ReplyStream, StreamBroken};
use crate::upstream::UpstreamBody;

/// What is done with an answer.
#[derive(Debug)]
pub enum Answering {
    /// A row of envelopes.
    Events(Box<Ending>),
    /// Looked into.
    Picked(Box<Picked>),
}

/// What is left out of an answer, and what it is counted by.
#[derive(Debug)]
pub struct Picked {
    redactor: Redactor,
    /// Whether bytes may be missing behind it; otherwise it only counts.
    redacts: bool,
    taken: Option<Arc<Taken>>,
}

impl EwsCall {
    /// What is done with the answer; `None`: it goes as it comes, which is what nearly all do.
    /// `ending` is made where the answer is a stream.
    pub fn answering(&self, ending: impl FnOnce(&Self) -> Ending) -> Option<Answering> {
        if self.is_stream() {
            return Some(Answering::Events(Box::new(ending(self))));
        }
        let standing = self
            .standing()
            .filter(|standing| standing.looks_into_answers())?;
        Some(Answering::Picked(Box::new(Picked {
            redactor: Redactor::new(standing.redaction.clone()),
            redacts: !standing.redaction.is_nothing(),
            taken: standing.taken.clone(),
        })))
    }
}

/// The client's answer out of the server's, whose headers have been through the filter.
pub fn answered(
    answering: Answering,
    status: StatusCode,
    mut headers: HeaderMap,
    body: UpstreamBody,
    admitted: Option<Admitted>,
    version: Arc<ServerVersionMemory>,
) -> Reply {
    let legible = is_legible(&headers);
    let stream: Box<dyn ReplyStream> = match answering {
        // Whatever is no row of envelopes is passed on all the same; it can only be cut hard.
        Answering::Events(ending) => Box::new(EventStream::new(
            body,
            admitted,
            version,
            *ending,
            legible && status == StatusCode::OK,
        )),
        Answering::Picked(picked) if picked.redacts && status == StatusCode::OK => {
            if !legible {
                tracing::warn!("the server's answer is encoded or no XML, and can't be redacted");
                let text = "The mail server's answer can't be looked into.\n";
                return Reply::text(StatusCode::BAD_GATEWAY, text);
            }
            headers.remove(header::CONTENT_LENGTH);
            Box::new(PickedStream::new(body, admitted, *picked))
        }
        Answering::Picked(mut picked) => {
            picked.redacts = false;
            Box::new(PickedStream::new(body, admitted, *picked))
        }
    };
    Reply {
        status,
        headers,
        body: ReplyBody::Stream(stream),
    }
}

/// XML that is not encoded.
fn is_legible(headers: &HeaderMap) -> bool {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let (content_type, encoding) = (header::CONTENT_TYPE, header::CONTENT_ENCODING);
    headers.contains_key(&content_type)
        && seg_ews::request_acceptable(lines(content_type), lines(encoding)).is_ok()
}

/// An answer that is looked into while it passes.
struct PickedStream {
    body: UpstreamBody,
    admitted: Option<Admitted>,
    picked: Picked,
    /// Items that have been counted already.
    counted: u64,
    ended: bool,
}

impl PickedStream {
    fn new(body: UpstreamBody, admitted: Option<Admitted>, picked: Picked) -> Self {
        Self {
            body,
            admitted,
            picked,
            counted: 0,
            ended: false,
        }
    }

    fn pick(&mut self, piece: Bytes) -> Result<Bytes, StreamBroken> {
        let read = self.picked.redactor.feed(&piece);
        if let Some(taken) = &self.picked.taken {
            let items = self.picked.redactor.items();
            taken.add(piece.len() as u64, items - self.counted);
            self.counted = items;
        }
        match (read, self.picked.redacts) {
            (Ok(passed), true) => Ok(passed.into()),
            (Err(unreadable), true) => Err(StreamBroken::by_server(&unreadable)),
            (_, false) => Ok(piece),
        }
    }
}

impl ReplyStream for PickedStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamBroken>>> {
        if let Some(admitted) = &self.admitted
            && admitted.ticket.poll_signal(cx).is_ready()
        {
            return Poll::Ready(Some(Err(StreamBroken::default())));
        }
        while !self.ended {
            let piece = match ready!(self.body.poll_next(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(StreamBroken::by_server(&error))));
                }
                None => {
                    self.ended = true;
                    // What ends within an element is no whole answer, whatever its framing says.
                    let end = match self.picked.redacts {
                        true => self.picked.redactor.finish(),
                        false => Ok(()),
                    };
                    let torn = end.err().map(|torn| Err(StreamBroken::by_server(&torn)));
                    return Poll::Ready(torn);
                }
            };
            match self.pick(piece) {
                // All of it was left out, or is held until it is whole.
                Ok(passed) if passed.is_empty() => {}
                other => return Poll::Ready(Some(other)),
            }
        }
        Poll::Ready(None)
    }

    fn length(&self) -> Option<u64> {
        if self.picked.redacts {
            None
        } else {
            self.body.remaining()
        }
    }
}
