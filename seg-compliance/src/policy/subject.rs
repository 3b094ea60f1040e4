//! Whom a policy looks at, and when.

use std::cell::Cell;

use jiff::Timestamp;

use crate::clock::{Clock, from_millisecond};
use crate::intern::Words;
use crate::record::Facts;
use crate::settings::StaleAnswer;
use crate::{Ask, DeviceKey, UserKey};

/// Whom a policy looks at: the request and, for a known device, its record.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) ask: &'a Ask<'a>,
    /// `None`: no record, or another user's.
    pub(crate) facts: Option<&'a Facts>,
    /// The device's place among the devices of its user, from 1; 0: it has none.
    pub(crate) rank: u16,
    /// The source of the facts has not reported for longer than it may: what holds then, where a
    /// policy does not say so itself.
    pub(crate) stale: Option<StaleAnswer>,
}

impl<'a> Subject<'a> {
    pub(super) fn user(&self) -> Option<&'a str> {
        self.facts
            .and_then(|facts| facts.user.as_ref())
            .or(self.ask.user)
            .map(UserKey::as_str)
    }

    pub(super) fn device(&self) -> Option<&'a str> {
        self.ask.device.map(DeviceKey::as_str)
    }

    pub(super) fn groups(&self) -> Option<&'a Words> {
        self.facts?.groups.as_ref()
    }
}

/// The time of one judgement: read from the clock once, and only where something depends on it.
/// Whoever compares with it notes when the answer will be another.
pub(crate) struct Moment<'c> {
    clock: &'c dyn Clock,
    now: Cell<Option<i64>>,
    until: Cell<i64>,
}

impl<'c> Moment<'c> {
    /// What holds forever.
    pub(crate) const ALWAYS: i64 = i64::MAX;

    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        Self {
            clock,
            now: Cell::new(None),
            until: Cell::new(Self::ALWAYS),
        }
    }

    /// The same moment, with nothing noted.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            clock: self.clock,
            now: self.now.clone(),
            until: Cell::new(Self::ALWAYS),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.now.get().unwrap_or_else(|| {
            let now = self.clock.now().as_millisecond();
            self.now.set(Some(now));
            now
        })
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        from_millisecond(self.now())
    }

    /// Whether `at` has come; where not, the answer holds until then.
    pub(crate) fn reached(&self, at: i64) -> bool {
        let reached = at <= self.now();
        if !reached {
            self.note(at);
        }
        reached
    }

    /// The judgement holds until `at` at most; what lies behind says nothing.
    pub(crate) fn note(&self, at: i64) {
        if at > self.now() && at < self.until.get() {
            self.until.set(at);
        }
    }

    /// Until when the judgement holds, as far as time goes.
    pub(crate) fn until(&self) -> i64 {
        self.until.get()
    }
}
