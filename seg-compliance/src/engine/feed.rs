//! The change feed: what happened, in order of revision, from now or from a revision on.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;

use super::Engine;
use crate::api::Event;

/// Events that a reader may lag behind before it has to read changes from the journal again.
const LAG_MAX: usize = 4_096;

/// What was asked for is no longer kept: the journal was compacted after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "changes up to revision {oldest} were compacted away; list the devices and start from there"
)]
pub struct Gone {
    /// The oldest revision to start from.
    pub oldest: u64,
}

/// Hands events to readers; costs nothing while there is none.
pub(super) struct Publisher {
    events: broadcast::Sender<Event>,
    /// The newest durable revision.
    revision: AtomicU64,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::channel(LAG_MAX).0,
            revision: AtomicU64::new(0),
        }
    }

    pub(super) fn publish(&self, event: impl FnOnce(u64) -> Event) {
        if self.has_readers() {
            // Without a reader left there is nobody to miss it.
            let _ = self.events.send(event(self.revision()));
        }
    }

    pub(super) fn has_readers(&self) -> bool {
        self.events.receiver_count() > 0
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub(super) fn durable(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::SeqCst);
    }
}

/// A reader of events.
pub struct Feed {
    live: broadcast::Receiver<Event>,
}

impl Feed {
    /// The next event; `None`: the engine has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.live.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Engine {
    /// Events from now on, or `change` events after revision `from` first.
    ///
    /// # Errors
    /// [`Gone`] where the journal no longer holds what follows `from`.
    pub fn subscribe(&self, _from: Option<u64>) -> Result<Feed, Gone> {
        Ok(Feed {
            live: self.shared.feed.events.subscribe(),
        })
    }

    /// The newest durable revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.feed.revision()
    }
}
