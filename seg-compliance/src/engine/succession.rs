//! One process follows another over the same store. The old one lets go of it, the new one opens
//! it and tells the old one of every change, as the journal keeps it, until the old one has ended:
//! what is still in flight there obeys the same verdicts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::change::Reach;
use super::{Engine, Feed, Gone, Shared};
use crate::journal::{self, StoreError, Writer, frame, recovery};

/// Changes on their way to the process before. While it lives, no change is acknowledged here that
/// is not in force there.
pub struct Relay {
    feed: Feed,
    shared: Arc<Shared>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Nobody else has to obey any more.
        self.shared.obeyed.send_replace(u64::MAX);
    }
}

impl Relay {
    /// The process before has put the changes up to `revision` in force.
    pub fn obeyed(&self, revision: u64) {
        self.shared.obeyed.send_replace(revision);
    }

    /// The next changes, for [`Engine::obey`]. `None`: the engine has ended, or what follows is
    /// compacted away. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let changes = self.feed.next_batch().await?;
        let mut encoder = frame::Encoder::new();
        changes.iter().for_each(|change| encoder.push(change));
        encoder.frame().ok()
    }
}

impl Engine {
    /// Lets go of the store: when this returns, another process can open it. Blocks until what was
    /// queued is durable. Changes are answered with [`StoreError::Closed`] from here on; verdicts
    /// are given as before. Answers the last revision.
    pub fn release(&self) -> u64 {
        // Whoever has queued a change before is served; nobody can afterwards.
        self.shared.sequencer.lock().works = None;
        let held = self.hold.lock().take();
        drop(held);
        self.revision()
    }

    /// Takes the store in `folder` back after [`Engine::release`], with what others have written
    /// to it meanwhile. Blocks.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn take_back(&self, folder: &Path) -> Result<(), StoreError> {
        let settings = self.settings();
        let clock = Arc::clone(&self.shared.clock);
        let now = clock.now();
        let fresh = move || Shared::new(settings, Arc::clone(&clock));
        let opened = journal::open(folder, now, &fresh)?;
        let mut failed = None;
        opened
            .store
            .scan(self.revision(), &mut |_, batch| match self.obey(batch) {
                Ok(_) => std::ops::ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    std::ops::ControlFlow::Break(())
                }
            })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let shared = &self.shared;
        {
            let mut sequencer = shared.sequencer.lock();
            sequencer.revision = sequencer.revision.max(opened.recovery.revision);
        }
        shared.feed.durable(opened.recovery.revision);
        shared.feed.compacted(opened.store.floor());
        let entries = opened.store.last_entry()?;
        shared.entries.store(entries, Ordering::SeqCst);
        shared.remember_sources(&*opened.store, now)?;
        shared.refresh_ages(now);
        let store = Arc::clone(&opened.store);
        let writer = Writer::start(
            opened.store,
            Arc::clone(shared) as Arc<_>,
            opened.recovery.changes,
            Some(opened.exports),
            Some(opened.mark),
        )?;
        self.hold(writer, store, Some(opened.lock));
        Ok(())
    }

    /// What changes after a revision, for the process before.
    ///
    /// # Errors
    /// [`Gone`] where the journal no longer holds what follows `from`.
    pub fn relay(&self, from: u64) -> Result<Relay, Gone> {
        let feed = self.subscribe(Some(from))?;
        let shared = Arc::clone(&self.shared);
        shared.obeyed.send_replace(from);
        Ok(Relay { feed, shared })
    }

    /// Puts changes in force that another process has made durable, and cuts what they refuse.
    /// Those that are known already are passed over. Answers how many requests were cut.
    ///
    /// # Errors
    /// The bytes are no changes.
    pub fn obey(&self, changes: &[u8]) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let changes = recovery::read(changes, &shared.interner)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        let mut reach = Reach::default();
        {
            let mut sequencer = shared.sequencer.lock();
            let known = shared.feed.revision();
            for change in changes.iter().filter(|change| change.revision > known) {
                shared.store(change, false, &mut reach);
                sequencer.revision = sequencer.revision.max(change.revision);
                shared.feed.durable(change.revision);
            }
        }
        Ok(shared.reach(reach))
    }
}
