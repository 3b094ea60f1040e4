//! Misbehaviour on demand: what to do instead of, or before, the ordinary answer.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::answer::Answer;
use super::ledger::{Filter, Seen};

/// What to do with the next requests that match.
#[derive(Clone, Debug)]
pub struct Script {
    filter: Filter,
    times: Option<u32>,
    moment: Moment,
    delay: Duration,
    play: Play,
}

/// When a script acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// As soon as the head has arrived, before 100 Continue and before the body is read; an EWS
    /// request has the method for a name then. The request is not counted, and where it has a body
    /// the connection closes behind the answer.
    Head,
    /// When the whole request has arrived.
    Whole,
}

/// What a script does.
#[derive(Clone, Debug)]
pub enum Play {
    /// The ordinary answer (after the delay).
    Ordinary,
    /// Neither reads nor writes until [`Sandbox::release`](super::Sandbox::release), under which
    /// it counts as an open poll without a limit; then everything goes its ordinary way. Before
    /// the body this shows what a gateway does with a body that nobody takes.
    Stall,
    /// This answer.
    Answer(Answer),
    /// The ordinary answer, or this one, up to this many bytes of its framed body.
    Cut {
        /// Instead of the ordinary one.
        answer: Option<Answer>,
        /// How many bytes of the body, with its framing, are written.
        after: usize,
        /// What comes then.
        end: End,
    },
    /// These bytes, whatever they are.
    Raw {
        /// Written as they stand.
        bytes: Bytes,
        /// What comes then.
        end: End,
    },
    /// Nothing is answered, ever; the connection stays open until the client leaves.
    Hang,
    /// The connection closes without a byte.
    Close,
}

/// What follows bytes that are not a whole answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The next request is read.
    KeepOpen,
    /// An orderly close: close_notify where there is TLS, then FIN.
    Close,
    /// The socket is dropped: no close_notify, and a reset if unread bytes wait.
    Drop,
    /// Silence until the client leaves.
    Hang,
}

impl Script {
    /// Plays once, for the first whole request that matches.
    pub fn new(filter: Filter, play: Play) -> Self {
        Self {
            filter,
            times: Some(1),
            moment: Moment::Whole,
            delay: Duration::ZERO,
            play,
        }
    }

    /// Answers once with this.
    pub fn answer(filter: Filter, answer: Answer) -> Self {
        Self::new(filter, Play::Answer(answer))
    }

    /// Plays this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Plays until [`Sandbox::clear_scripts`](super::Sandbox::clear_scripts).
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Waits this long first; the client's leaving is not noticed meanwhile.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Acts before the body is read.
    #[must_use]
    pub fn before_body(mut self) -> Self {
        self.moment = Moment::Head;
        self
    }
}

/// The scripts that wait for their request.
#[derive(Debug, Default)]
pub(super) struct Scripts(Mutex<Vec<Script>>);

impl Scripts {
    pub(super) fn add(&self, script: Script) {
        self.0.lock().push(script);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The delay and the play of the first script that matches, used up by one.
    pub(super) fn take(&self, seen: &Seen, moment: Moment) -> Option<(Duration, Play)> {
        let mut scripts = self.0.lock();
        let meant = |script: &Script| {
            script.moment == moment && script.times != Some(0) && script.filter.matches(seen)
        };
        let at = scripts.iter().position(meant)?;
        let script = scripts.get_mut(at)?;
        let played = (script.delay, script.play.clone());
        if let Some(times) = &mut script.times {
            *times -= 1;
            if *times == 0 {
                scripts.remove(at);
            }
        }
        Some(played)
    }
}
