//! The one thread that writes: group commit, compaction when it is due, an export every hour.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::frame::Encoder;
use super::{Batch, Sequenced, Store, StoreError, compact, export, recovery};
use crate::intern::Interner;

/// Changes of one flush.
const GROUP_MAX: usize = 8 * super::BATCH_MAX;
/// Logs shorter than this are not compacted.
const COMPACT_MIN: u64 = 10_000;
/// From one export to the next.
const EXPORT_EVERY: Duration = Duration::from_secs(3_600);

/// Changes to make durable together. At most [`super::BATCH_MAX`] of them: they are one batch.
pub(crate) struct Commit {
    pub(crate) changes: Vec<Sequenced>,
    pub(crate) done: oneshot::Sender<Result<(), StoreError>>,
}

/// Something that is written beside the log.
pub(crate) type Aside = Box<dyn FnOnce(&dyn Store) -> Result<(), StoreError> + Send>;

/// What the writer is asked for.
pub(crate) enum Work {
    Commit(Commit),
    /// The next changes after a revision, one batch of them; none: there are no later ones.
    Read {
        after: u64,
        answer: oneshot::Sender<Result<Vec<Sequenced>, StoreError>>,
    },
    Compact {
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    Export {
        done: oneshot::Sender<Result<PathBuf, StoreError>>,
    },
    /// Something that is kept beside the log.
    Aside {
        work: Aside,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    Stop,
}

/// Who is told what has become of changes.
pub(crate) trait Sink: Send + Sync {
    fn durable(&self, changes: &[Sequenced]);
    fn failed(&self, changes: &[Sequenced]);
    /// Changes up to `floor` are compacted away.
    fn compacted(&self, floor: u64);
    fn interner(&self) -> &Interner;
}

/// The thread; ends when it is dropped, after everything queued is written.
pub(crate) struct Writer {
    works: mpsc::Sender<Work>,
    healthy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread over a log of `changes` changes. `exports`: where to export, if anywhere.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        sink: Arc<dyn Sink>,
        changes: u64,
        exports: Option<PathBuf>,
        mark: Option<recovery::Mark>,
    ) -> Result<Self, StoreError> {
        let (works, queue) = mpsc::channel();
        let healthy = Arc::new(AtomicBool::new(true));
        let state = Thread {
            store,
            sink,
            exports,
            mark,
            healthy: Arc::clone(&healthy),
            exporting: None,
            changes,
            compact_at: COMPACT_MIN,
        };
        let thread = std::thread::Builder::new()
            .name("seg-journal".to_owned())
            .spawn(move || state.run(&queue))
            .map_err(|error| StoreError::Failed(format!("no thread for the journal: {error}")))?;
        Ok(Self {
            works,
            healthy,
            thread: Some(thread),
        })
    }

    /// A writer that has ended.
    pub(crate) fn closed() -> Self {
        Self {
            works: mpsc::channel().0,
            healthy: Arc::default(),
            thread: None,
        }
    }

    pub(crate) fn works(&self) -> mpsc::Sender<Work> {
        self.works.clone()
    }

    /// Whether the last flush succeeded.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Where the thread has ended already there is nobody to stop.
        let _ = self.works.send(Work::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    exports: Option<PathBuf>,
    mark: Option<recovery::Mark>,
    healthy: Arc<AtomicBool>,
    exporting: Option<JoinHandle<()>>,
    /// Changes in the log, live and dead.
    changes: u64,
    /// The number at which it is worth counting the live ones.
    compact_at: u64,
}

impl Thread {
    fn run(mut self, queue: &mpsc::Receiver<Work>) {
        let mut export_at = Instant::now() + EXPORT_EVERY;
        loop {
            let wait = export_at.saturating_duration_since(Instant::now());
            let mut next = match queue.recv_timeout(wait) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => {
                    export_at = Instant::now() + EXPORT_EVERY;
                    self.export(None);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group = Vec::new();
            while let Some(work) = next.take() {
                match work {
                    Work::Commit(commit) => {
                        let full = size(&group) + commit.changes.len() >= GROUP_MAX;
                        group.push(commit);
                        if full {
                            self.commit(std::mem::take(&mut group));
                        }
                    }
                    other => {
                        // What comes after a commit sees it.
                        self.commit(std::mem::take(&mut group));
                        if self.serve(other).is_break() {
                            self.finish();
                            return;
                        }
                    }
                }
                next = queue.try_recv().ok();
            }
            self.commit(group);
            self.compact_if_due();
        }
        self.finish();
    }

    fn serve(&mut self, work: Work) -> ControlFlow<()> {
        // Whoever has stopped waiting for an answer gets none.
        match work {
            Work::Commit(commit) => self.commit(vec![commit]),
            Work::Read { after, answer } => drop(answer.send(self.read(after))),
            Work::Compact { done } => drop(done.send(self.compact())),
            Work::Export { done } => self.export(Some(done)),
            Work::Aside { work, done } => {
                let written = work(&*self.store);
                if let Err(error) = &written {
                    tracing::error!(target: "seg::store", %error, "not durable");
                }
                drop(done.send(written));
            }
            Work::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// One flush for all; nobody hears of his change before.
    fn commit(&mut self, group: Vec<Commit>) {
        if group.is_empty() {
            return;
        }
        let written = self.write(&group);
        self.healthy.store(written.is_ok(), Ordering::SeqCst);
        if let Err(error) = &written {
            tracing::error!(target: "seg::store", %error, "changes are not durable");
        }
        for commit in group {
            match &written {
                Ok(()) => self.sink.durable(&commit.changes),
                Err(_) => self.sink.failed(&commit.changes),
            }
            let _ = commit.done.send(written.clone());
        }
    }

    fn write(&mut self, group: &[Commit]) -> Result<(), StoreError> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut encoder = Encoder::new();
        for commit in group {
            if encoder.len() + commit.changes.len() > super::BATCH_MAX {
                batches.extend(encoder.take()?);
            }
            commit
                .changes
                .iter()
                .for_each(|change| encoder.push(change));
        }
        batches.extend(encoder.take()?);
        if batches.is_empty() {
            return Ok(());
        }
        self.store.append(&batches)?;
        if let (Some(mark), Some((last, _))) = (&mut self.mark, batches.last())
            && let Err(error) = mark.write(*last)
        {
            // The changes are durable; only a later loss would be noticed less sharply.
            tracing::warn!(target: "seg::store", %error, "the mark could not be written");
        }
        self.changes += size(group) as u64;
        Ok(())
    }

    fn read(&self, after: u64) -> Result<Vec<Sequenced>, StoreError> {
        let mut found = Ok(Vec::new());
        self.store.scan(after, &mut |_, bytes| {
            found = recovery::read(bytes, self.sink.interner())
                .map_err(|error| StoreError::Damaged(error.to_string()));
            if let Ok(batch) = &mut found {
                // The first batch can begin before what was asked for.
                batch.retain(|change| change.revision > after);
                // What stands in the place of a damaged batch may be empty.
                if batch.is_empty() {
                    return ControlFlow::Continue(());
                }
            }
            ControlFlow::Break(())
        })?;
        found
    }

    fn compact_if_due(&mut self) {
        let exporting = self
            .exporting
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        if self.changes < self.compact_at || exporting {
            return;
        }
        match compact::Survey::new(&*self.store).map(|survey| survey.live()) {
            Ok(live) if self.changes > live * 2 => {
                if let Err(error) = self.compact() {
                    tracing::error!(target: "seg::store", %error, "the journal can't be compacted");
                    self.compact_at = self.changes * 2;
                }
            }
            Ok(live) => self.compact_at = (live * 2 + 1).max(COMPACT_MIN),
            Err(error) => {
                tracing::error!(target: "seg::store", %error, "the journal can't be read");
                self.compact_at = self.changes * 2;
            }
        }
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let before = self.changes;
        let live = compact::compact(&*self.store)?;
        self.changes = live.count;
        self.compact_at = (live.count * 2 + 1).max(COMPACT_MIN);
        self.sink.compacted(live.revision);
        tracing::info!(
            target: "seg::store",
            changes = before,
            live = live.count,
            revision = live.revision,
            "journal compacted"
        );
        Ok(())
    }

    /// On a thread of its own: it only reads, and commits go on meanwhile.
    fn export(&mut self, done: Option<oneshot::Sender<Result<PathBuf, StoreError>>>) {
        self.wait_for_export();
        let Some(folder) = self.exports.clone() else {
            if let Some(done) = done {
                let _ = done.send(Err(StoreError::Failed(
                    "there is no data folder".to_owned(),
                )));
            }
            return;
        };
        let store = Arc::clone(&self.store);
        let export = move || {
            let written = export::write(&*store, &folder);
            match &written {
                Ok(path) => {
                    tracing::info!(target: "seg::store", path = %path.display(), "exported");
                }
                Err(error) => {
                    tracing::error!(target: "seg::store", %error, "the export failed");
                }
            }
            if let Some(done) = done {
                let _ = done.send(written);
            }
        };
        match std::thread::Builder::new()
            .name("seg-export".to_owned())
            .spawn(export)
        {
            Ok(thread) => self.exporting = Some(thread),
            Err(error) => tracing::error!(target: "seg::store", %error, "no thread for the export"),
        }
    }

    fn wait_for_export(&mut self) {
        if let Some(thread) = self.exporting.take() {
            let _ = thread.join();
        }
    }

    fn finish(&mut self) {
        self.wait_for_export();
    }
}

fn size(group: &[Commit]) -> usize {
    group.iter().map(|commit| commit.changes.len()).sum()
}
