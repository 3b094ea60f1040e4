//! The long polls and streams that are open, and how they are ended from outside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::ledger::{Filter, Seen};

/// What becomes of an open poll.
#[derive(Clone, Debug)]
pub enum Release {
    /// Something has changed: Ping answers Status 2, Sync brings a new mail, a stream carries an
    /// event and stays open.
    Changes,
    /// As if its time were up: Ping answers Status 1, Sync nothing, a stream ends.
    Expire,
    /// This answer instead; a stream ends without an answer.
    Answer(Box<Answer>),
    /// The connection closes without an answer.
    Close,
}

/// A poll that is open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenPoll {
    /// What it is.
    pub seen: Seen,
    /// How long it will be held when nothing happens, as the client asked.
    pub limit: Duration,
}

#[derive(Debug)]
struct Entry {
    poll: OpenPoll,
    release: mpsc::UnboundedSender<Release>,
}

/// Every open poll.
#[derive(Debug, Default)]
pub(super) struct Polls {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Entry>>,
}

/// One poll's place in the table, given up when dropped.
#[derive(Debug)]
pub(super) struct Place<'p> {
    polls: &'p Polls,
    id: u64,
    pub(super) releases: mpsc::UnboundedReceiver<Release>,
}

impl Polls {
    pub(super) fn hold(&self, seen: &Seen, limit: Duration) -> Place<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (release, releases) = mpsc::unbounded_channel();
        let entry = Entry {
            poll: OpenPoll {
                seen: seen.clone(),
                limit,
            },
            release,
        };
        self.open.lock().insert(id, entry);
        Place {
            polls: self,
            id,
            releases,
        }
    }

    pub(super) fn open(&self, filter: &Filter) -> Vec<OpenPoll> {
        let open = self.open.lock();
        let meant = open
            .values()
            .filter(|entry| filter.matches(&entry.poll.seen));
        meant.map(|entry| entry.poll.clone()).collect()
    }

    pub(super) fn release(&self, filter: &Filter, release: &Release) -> usize {
        let open = self.open.lock();
        let meant = open
            .values()
            .filter(|entry| filter.matches(&entry.poll.seen));
        meant
            .filter(|entry| entry.release.send(release.clone()).is_ok())
            .count()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.polls.open.lock().remove(&self.id);
    }
}
