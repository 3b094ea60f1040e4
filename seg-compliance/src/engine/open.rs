//! Coming up: from a data folder, or from nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Engine, Hold, Shared};
use crate::Settings;
use crate::clock::{Clock, SystemClock};
use crate::journal::{self, MemoryStore, Recovery, Store, StoreError, Work, Writer};

impl Engine {
    /// Opens the engine over the store in `folder`, making it where there is none, and reads it.
    /// Blocks; damage is mended as far as it can be, and told in the [`Recovery`].
    ///
    /// # Errors
    /// The folder can't be used: by permission, for lack of space, or because another gateway uses
    /// it.
    pub fn open(folder: &Path, settings: Settings) -> Result<(Self, Recovery), StoreError> {
        Self::open_at(folder, settings, Arc::new(SystemClock))
    }

    /// The same with a clock of its own.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_at(
        folder: &Path,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovery), StoreError> {
        let now = clock.now();
        let fresh = move || Shared::new(settings, Arc::clone(&clock));
        let opened = journal::open(folder, now, &fresh)?;
        let shared = Arc::new(opened.state);
        let recovery = opened.recovery;
        shared.sequencer.lock().revision = recovery.revision;
        shared.feed.durable(recovery.revision);
        shared.feed.compacted(opened.store.floor());
        shared
            .entries
            .store(opened.store.last_entry()?, Ordering::SeqCst);
        shared.remember_sources(&*opened.store, now)?;
        let store = Arc::clone(&opened.store);
        let exports = Some(opened.exports);
        let writer = Writer::start(
            opened.store,
            Arc::clone(&shared) as Arc<_>,
            recovery.changes,
            exports,
            Some(opened.mark),
        )?;
        let engine = Self::over_writer(shared, writer, store, Some(opened.lock));
        // Overrides that ended while nobody looked.
        engine.tick(now);
        tracing::info!(
            target: "seg::store",
            changes = recovery.changes,
            revision = recovery.revision,
            state = ?recovery.state,
            "store opened"
        );
        Ok((engine, recovery))
    }

    /// An engine that forgets everything at its end.
    #[must_use]
    pub fn in_memory(settings: Settings) -> Self {
        Self::in_memory_at(settings, Arc::new(SystemClock))
    }

    /// The same with a clock of its own.
    #[must_use]
    pub fn in_memory_at(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::over(Arc::new(MemoryStore::default()), settings, clock)
    }

    pub(super) fn over(store: Arc<dyn Store>, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared::new(settings, clock));
        // Without a thread every change is answered with `Closed`.
        let writer = Writer::start(
            Arc::clone(&store),
            Arc::clone(&shared) as Arc<_>,
            0,
            None,
            None,
        )
        .unwrap_or_else(|_| Writer::closed());
        Self::over_writer(shared, writer, store, None)
    }

    fn over_writer(
        shared: Arc<Shared>,
        writer: Writer,
        store: Arc<dyn Store>,
        lock: Option<File>,
    ) -> Self {
        let engine = Self {
            shared,
            hold: Mutex::new(None),
        };
        engine.hold(writer, store, lock);
        engine
    }

    /// Exports the live state now; the journal does so every hour by itself. Answers the file.
    ///
    /// # Errors
    /// The file could not be written.
    pub async fn export_store(&self) -> Result<PathBuf, StoreError> {
        let (done, written) = oneshot::channel();
        self.ask(Work::Export { done })?;
        written.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Compacts the journal now; it does so by itself when dead changes outnumber live ones.
    ///
    /// # Errors
    /// The store failed; the log is as it was.
    pub async fn compact_store(&self) -> Result<(), StoreError> {
        let (done, compacted) = oneshot::channel();
        self.ask(Work::Compact { done })?;
        compacted.await.unwrap_or(Err(StoreError::Closed))
    }

    /// From here on changes are queued for this writer.
    pub(super) fn hold(&self, writer: Writer, store: Arc<dyn Store>, lock: Option<File>) {
        let works = writer.works();
        *self.hold.lock() = Some(Hold {
            writer,
            store,
            _lock: lock,
        });
        self.shared.sequencer.lock().works = Some(works);
    }

    /// Has something written beside the log.
    pub(super) async fn aside(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let work = Box::new(work);
        self.ask(Work::Aside { work, done })?;
        written.await.unwrap_or(Err(StoreError::Closed))
    }

    fn ask(&self, work: Work) -> Result<(), StoreError> {
        let works = self.shared.sequencer.lock().works.clone();
        let works = works.ok_or(StoreError::Closed)?;
        works.send(work).map_err(|_| StoreError::Closed)
    }
}
