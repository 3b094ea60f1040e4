//! The change feed: what happened, in order of revision, from now or from a revision on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use tokio::sync::{broadcast, oneshot};

use super::{Engine, Shared};
use crate::api::Event;
use crate::journal::{Sequenced, StoreError, Work};

/// Events that a reader may lag behind before it has to read changes from the journal again.
const LAG_MAX: usize = 4_096;

/// What was asked for is no longer kept: the journal was compacted after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {oldest} are compacted; list the devices and start from there")]
pub struct Gone {
    /// The oldest revision to start from.
    pub oldest: u64,
}

/// Hands events to readers; costs nothing while there is none.
pub(super) struct Publisher {
    events: broadcast::Sender<Event>,
    /// The newest durable revision.
    revision: AtomicU64,
    /// Changes up to here are compacted away.
    floor: AtomicU64,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::channel(LAG_MAX).0,
            revision: AtomicU64::new(0),
            floor: AtomicU64::new(0),
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

    pub(super) fn compacted(&self, floor: u64) {
        self.floor.fetch_max(floor, Ordering::SeqCst);
    }

    fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }
}

/// A reader of events.
pub struct Feed {
    live: broadcast::Receiver<Event>,
    shared: Arc<Shared>,
    works: Option<mpsc::Sender<Work>>,
    /// The last change handed out.
    seen: u64,
    /// Changes after `seen` are read from the journal before live events go on.
    behind: bool,
    read: VecDeque<Sequenced>,
}

impl Feed {
    /// The next event. `None`: the engine has ended, or the reader was so slow that what it missed
    /// is compacted away; subscribing again tells which. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(change) = self.read.pop_front() {
                self.seen = change.revision;
                return Some(change.event());
            }
            if self.behind {
                if self.seen < self.shared.feed.floor() {
                    return None;
                }
                self.read = self.catch_up().await.ok()?.into();
                self.behind = !self.read.is_empty();
                continue;
            }
            match self.live.recv().await {
                Ok(Event::Change { revision, .. }) if revision <= self.seen => {}
                Ok(event) => {
                    if let Event::Change { revision, .. } = event {
                        self.seen = revision;
                    }
                    return Some(event);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next changes, one batch of them. `None` as for [`Feed::next`]. Cancel-safe.
    pub(super) async fn next_batch(&mut self) -> Option<Vec<Sequenced>> {
        loop {
            if self.seen < self.shared.feed.floor() {
                return None;
            }
            let changes = self.catch_up().await.ok()?;
            if let Some(last) = changes.last() {
                self.seen = last.revision;
                return Some(changes);
            }
            loop {
                match self.live.recv().await {
                    Ok(Event::Change { revision, .. }) if revision > self.seen => break,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }
    }

    async fn catch_up(&self) -> Result<Vec<Sequenced>, StoreError> {
        let (answer, changes) = oneshot::channel();
        let works = self.works.as_ref().ok_or(StoreError::Closed)?;
        works
            .send(Work::Read {
                after: self.seen,
                answer,
            })
            .map_err(|_| StoreError::Closed)?;
        changes.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Engine {
    /// Events from now on; with `from`, first the `change` events after that revision.
    ///
    /// # Errors
    /// [`Gone`] where the journal no longer holds what follows `from`.
    pub fn subscribe(&self, from: Option<u64>) -> Result<Feed, Gone> {
        let feed = &self.shared.feed;
        let live = feed.events.subscribe();
        let oldest = feed.floor();
        if from.is_some_and(|from| from < oldest) {
            return Err(Gone { oldest });
        }
        Ok(Feed {
            live,
            shared: Arc::clone(&self.shared),
            works: self.shared.sequencer.lock().works.clone(),
            seen: from.unwrap_or_else(|| feed.revision()),
            behind: from.is_some(),
            read: VecDeque::new(),
        })
    }

    /// The newest durable revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.feed.revision()
    }
}
