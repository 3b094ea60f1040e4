//! The answer to `GetStreamingEvents`: a row of envelopes that stays open for minutes, and is cut
//! cleanly. The envelope under way is finished, one of our own says that access is denied and the
//! connection closed, and the answer ends as it should. A client takes that for what it is, where
//! a torn answer is a network that will be back.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use seg_ews::{Framer, answer};
use tokio::time::Sleep;

use super::unsubscribe::Unsubscribe;
use super::{ServerVersionMemory, refusal_text};
use crate::decide::Admitted;
use crate::message::{ReplyStream, StreamBroken};
use crate::runtime::{CutOrder, Signal};
use crate::upstream::UpstreamBody;

/// How long a server may take to finish the envelope under way when a stream is cut.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// What happens at the end of a stream.
#[derive(Debug)]
pub struct Ending {
    /// Told of the block that ended it.
    pub cut: Arc<OnceLock<Arc<CutOrder>>>,
    /// Ends the subscriptions too, where the credentials at hand allow it.
    pub unsubscribe: Option<Unsubscribe>,
}

enum State {
    /// Pieces go as they come.
    Passing,
    /// The envelope under way is still to be finished.
    Finishing(Signal, Pin<Box<Sleep>>),
    /// Our own envelope is next.
    Ending(Signal),
    Ended,
}

/// A row of envelopes on its way to the client.
pub(super) struct EventStream {
    body: Option<UpstreamBody>,
    admitted: Option<Admitted>,
    version: Arc<ServerVersionMemory>,
    ending: Ending,
    framer: Framer,
    /// Whether the framer knows where it is.
    framed: bool,
    state: State,
}

impl EventStream {
    pub(super) fn new(
        body: UpstreamBody,
        admitted: Option<Admitted>,
        version: Arc<ServerVersionMemory>,
        ending: Ending,
        framed: bool,
    ) -> Self {
        Self {
            body: Some(body),
            admitted,
            version,
            ending,
            framer: Framer::new(),
            framed,
            state: State::Passing,
        }
    }

    /// Looks for a signal, once.
    fn listen(&mut self, cx: &mut Context<'_>) -> Result<(), StreamBroken> {
        if !matches!(self.state, State::Passing) {
            return Ok(());
        }
        let Some(admitted) = &self.admitted else {
            return Ok(());
        };
        let Poll::Ready(signal) = admitted.ticket.poll_signal(cx) else {
            return Ok(());
        };
        if let Signal::Cut(order) = &signal {
            // Nobody else sets it.
            let _first = self.ending.cut.set(Arc::clone(order));
        }
        if !self.framed {
            return Err(StreamBroken::default());
        }
        self.state = if self.framer.is_between() {
            State::Ending(signal)
        } else {
            State::Finishing(signal, Box::pin(tokio::time::sleep(FINISH_WITHIN)))
        };
        Ok(())
    }

    fn piece(&mut self, mut piece: Bytes) -> Result<Bytes, StreamBroken> {
        let end = if self.framed {
            self.framer.feed(&piece)
        } else {
            Ok(None)
        };
        if end.is_err() {
            self.framed = false;
        }
        match (&self.state, end) {
            (State::Finishing(signal, _), Ok(Some(end))) => {
                piece.truncate(end);
                self.state = State::Ending(signal.clone());
            }
            (State::Finishing(..), Err(_)) => return Err(StreamBroken::default()),
            _ => {}
        }
        Ok(piece)
    }

    /// The last envelope.
    fn last(&mut self, signal: &Signal) -> Bytes {
        // The server's connection goes before the client has read this.
        self.body = None;
        self.state = State::Ended;
        let version = self.version.current();
        match signal {
            Signal::Cut(order) => {
                if let Some(unsubscribe) = self.ending.unsubscribe.take() {
                    tokio::spawn(unsubscribe.run());
                }
                answer::stream_end(&version, &refusal_text(&order.decision)).into()
            }
            Signal::EndPoll => answer::stream_close(&version).into(),
        }
    }
}

impl ReplyStream for EventStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamBroken>>> {
        if let Err(broken) = self.listen(cx) {
            self.body = None;
            return Poll::Ready(Some(Err(broken)));
        }
        match &mut self.state {
            State::Ended => return Poll::Ready(None),
            State::Ending(signal) => {
                let signal = signal.clone();
                return Poll::Ready(Some(Ok(self.last(&signal))));
            }
            State::Finishing(_, patience) => {
                if patience.as_mut().poll(cx).is_ready() {
                    self.body = None;
                    return Poll::Ready(Some(Err(StreamBroken::default())));
                }
            }
            State::Passing => {}
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match ready!(body.poll_next(cx)) {
            Some(Ok(piece)) => {
                if self.version.due() {
                    self.version.learn(&piece);
                }
                Poll::Ready(Some(self.piece(piece)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(StreamBroken::by_server(&error)))),
            None => {
                // It ended while its last envelope was waited for: that was it.
                let torn = matches!(self.state, State::Finishing(..)) && !self.framer.is_between();
                self.state = State::Ended;
                Poll::Ready(torn.then(|| Err(StreamBroken::default())))
            }
        }
    }

    fn length(&self) -> Option<u64> {
        None
    }
}
