//! Notices when a file of the configuration has a new content.
//!
//! Folders are watched, not files: an editor saves by renaming a new file over the old one, and
//! Kubernetes swaps the `..data` link beside it, and either leaves a watched file behind. Of a
//! link the folder of its target is watched too. An event only says that it is time to look;
//! whether anything changed is told by a digest of the contents, so reading a file, touching it
//! or saving it unchanged is no change. File systems that send no events (NFS, some overlays) are
//! looked at every 30 seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::{ConfigError, Loaded};

/// A save is over when this long nothing more has happened.
const QUIET: Duration = Duration::from_millis(250);
/// A folder in which something happens all the time is looked at after this long all the same.
const MAX_BURST: Duration = Duration::from_secs(2);
/// How often is looked without any event.
const POLL: Duration = Duration::from_secs(30);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    to_thread: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Look,
    Replace(Vec<PathBuf>),
    Stop,
}

/// Notices of what happens to the files of a configuration, from before it was read.
#[derive(Debug)]
pub struct Watching {
    /// None where the system starts no thread.
    pub watcher: Option<Watcher>,
    /// The notices.
    pub changes: mpsc::Receiver<()>,
    /// Kept, so that the notices don't end where nothing is watched.
    _notify: mpsc::Sender<()>,
}

/// Reads the configuration as [`config::load`](super::load) does, with its files watched from
/// before: what is written while the rest of a start goes on is noticed behind it.
///
/// # Errors
/// As [`config::load`](super::load).
pub fn load(
    path: Option<&Path>,
    env: &[(String, String)],
) -> Result<(Loaded, Watching), ConfigError> {
    // Which files there are to be watched stands in the first of them.
    let files = super::load(path, env.iter().cloned())?.config.files();
    let (notify, changes) = mpsc::channel(1);
    let watcher = spawn(files.clone(), notify.clone())
        .inspect_err(|error| {
            tracing::error!(%error, "files can't be watched; reload with SIGHUP or POST /v1/reload");
        })
        .ok();
    let loaded = super::load(path, env.iter().cloned())?;
    let named = loaded.config.files();
    if let Some(watcher) = watcher.as_ref().filter(|_| named != files) {
        watcher.replace(named);
    }
    let watching = Watching {
        watcher,
        changes,
        _notify: notify,
    };
    Ok((loaded, watching))
}

/// Starts to watch files, which need not exist. Whenever the content of one of them differs from
/// what it was, `()` is sent; while the receiver hasn't taken the last one no other is needed.
/// A change that happened before the call isn't noticed: read the files behind it.
///
/// # Errors
/// No thread can be started. Where the system offers no events, looking now and then remains.
pub fn spawn(paths: Vec<PathBuf>, notify: mpsc::Sender<()>) -> io::Result<Watcher> {
    let (to_thread, messages) = channel();
    let mut watch = Watch::new(paths, events_into(to_thread.clone()));
    let thread = std::thread::Builder::new()
        .name("config-watch".to_owned())
        .spawn(move || watch.run(&messages, &notify))?;
    Ok(Watcher {
        to_thread,
        thread: Some(thread),
    })
}

impl Watcher {
    /// Watches other files from now on, such as those that a new configuration names. Where one of
    /// them was not watched before, `()` is sent: it may have changed since it was read.
    pub fn replace(&self, paths: Vec<PathBuf>) {
        // The thread ends only when this value is dropped, so somebody is there to receive.
        let _ = self.to_thread.send(Message::Replace(paths));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.to_thread.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A source of events that pokes the thread.
fn events_into(to_thread: Sender<Message>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| matters(&event)) {
            let _ = to_thread.send(Message::Look);
        }
    };
    notify::recommended_watcher(on_event)
        .inspect_err(|error| tracing::warn!(%error, "files are looked at every 30 s: no events of the file system"))
        .ok()
}

/// Whether an event can mean new content. Opening and closing never do: this module opens files
/// itself, and would wake itself up for ever.
fn matters(event: &Event) -> bool {
    event.need_rescan()
        || matches!(
            event.kind,
            EventKind::Create(_)
                | EventKind::Remove(_)
                | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Name(_))
        )
}

/// What is known of the files, and the folders that are watched for them.
struct Watch {
    files: BTreeMap<PathBuf, Seen>,
    folders: BTreeSet<PathBuf>,
    events: Option<RecommendedWatcher>,
}

/// A file as it was when last looked at; all empty for one that can't be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    target: Option<PathBuf>,
    modified: Option<SystemTime>,
    length: u64,
    digest: Option<Vec<u8>>,
}

impl Watch {
    fn new(paths: Vec<PathBuf>, events: Option<RecommendedWatcher>) -> Self {
        let mut watch = Self {
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            events,
        };
        let _all_are_new = watch.replace(paths);
        watch
    }

    fn run(&mut self, messages: &Receiver<Message>, notify: &mpsc::Sender<()>) {
        loop {
            let changed = match messages.recv_timeout(POLL) {
                Ok(Message::Look) => match settle(messages) {
                    Settled::Look => self.look(true),
                    Settled::Replace(paths) => {
                        let changed = self.look(true);
                        self.replace(paths) || changed
                    }
                    Settled::Stop => return,
                },
                Ok(Message::Replace(paths)) => self.replace(paths),
                Err(RecvTimeoutError::Timeout) => self.look(false),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            if changed {
                // Full means that a notice is waiting already; closed that nobody wants one.
                let _ = notify.try_send(());
            }
        }
    }

    /// Takes other files. What is known of those that stay is kept, so that a change that falls
    /// into the exchange is still noticed. Says whether one was not watched before.
    fn replace(&mut self, paths: Vec<PathBuf>) -> bool {
        let mut known = std::mem::take(&mut self.files);
        let mut new = false;
        self.files = paths
            .into_iter()
            .map(|path| {
                let seen = known.remove(&path).unwrap_or_else(|| {
                    new = true;
                    Seen::of(&path, None)
                });
                (path, seen)
            })
            .collect();
        self.watch_folders();
        new
    }

    /// Looks at all files and says whether the content of one has changed. Unless thorough, a
    /// file with the same length, time and target is taken for unchanged.
    fn look(&mut self, thorough: bool) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = Seen::of(path, (!thorough).then_some(seen));
            changed |= now.digest != seen.digest;
            *seen = now;
        }
        self.watch_folders();
        changed
    }

    /// Watches the folders of the files and of their targets, and no others.
    fn watch_folders(&mut self) {
        let Some(events) = &mut self.events else {
            return;
        };
        let wanted: BTreeSet<PathBuf> = self
            .files
            .iter()
            .flat_map(|(path, seen)| [Some(path.as_path()), seen.target.as_deref()])
            .flatten()
            .filter_map(Path::parent)
            .filter(|folder| folder.is_dir())
            .map(Path::to_path_buf)
            .collect();
        for gone in self.folders.difference(&wanted) {
            // A folder that was removed has taken its watch along.
            let _ = events.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            // Asked again even where it is watched already: the folder may be another one of the
            // same name, and watching one twice changes nothing.
            match events.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "is looked at every 30 s: it can't be watched");
                }
            }
        }
        self.folders = watched;
    }
}

impl Seen {
    /// Looks at a file; where it looks just as before, its content isn't read again.
    fn of(path: &Path, before: Option<&Self>) -> Self {
        let Ok(about) = std::fs::metadata(path) else {
            return Self::default();
        };
        let mut seen = Self {
            target: std::fs::canonicalize(path).ok(),
            modified: about.modified().ok(),
            length: about.len(),
            digest: None,
        };
        seen.digest = match before {
            Some(before)
                if before.target == seen.target
                    && before.modified == seen.modified
                    && before.length == seen.length =>
            {
                before.digest.clone()
            }
            _ => digest_of(path).ok(),
        };
        seen
    }
}

fn digest_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(read) if count > 0 => context.update(read),
            _ => return Ok(context.finish().as_ref().to_vec()),
        }
    }
}

enum Settled {
    Look,
    Replace(Vec<PathBuf>),
    Stop,
}

/// Waits until a burst of events is over.
fn settle(messages: &Receiver<Message>) -> Settled {
    let end = Instant::now() + MAX_BURST;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match messages.recv_timeout(QUIET.min(left)) {
            Ok(Message::Look) => {}
            Ok(Message::Replace(paths)) => return Settled::Replace(paths),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Settled::Stop,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Settled::Look
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Long enough for any machine; a test that waits this long has failed.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn noticed(changes: &mut mpsc::Receiver<()>) {
        tokio::time::timeout(PATIENCE, changes.recv())
            .await
            .expect("no notice of the change")
            .expect("the watcher is alive");
    }

    fn watching(paths: &[PathBuf]) -> (Watcher, mpsc::Receiver<()>) {
        let (notify, changes) = mpsc::channel(1);
        (spawn(paths.to_vec(), notify).expect("watcher"), changes)
    }

    /// What `vim` and `sed -i` do.
    fn save(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).expect("write");
        fs::rename(&new, path).expect("rename");
    }

    #[tokio::test]
    async fn an_editor_renames_again_and_again() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("application.properties");
        save(&file, "0");
        let (_watcher, mut changes) = watching(std::slice::from_ref(&file));
        for round in 1..4 {
            save(&file, &round.to_string());
            noticed(&mut changes).await;
        }
        fs::write(&file, "in place").expect("write");
        noticed(&mut changes).await;
        fs::remove_file(&file).expect("remove");
        noticed(&mut changes).await;
        save(&file, "back");
        noticed(&mut changes).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn kubernetes_swaps_its_data_link_again_and_again() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().expect("folder");
        let swap = |version: u32| {
            let data = format!("..2026_{version}");
            fs::create_dir(folder.path().join(&data)).expect("folder");
            fs::write(
                folder.path().join(&data).join("application.properties"),
                version.to_string(),
            )
            .expect("write");
            symlink(&data, folder.path().join("..data_tmp")).expect("link");
            fs::rename(
                folder.path().join("..data_tmp"),
                folder.path().join("..data"),
            )
            .expect("rename");
        };
        swap(0);
        let file = folder.path().join("application.properties");
        symlink("..data/application.properties", &file).expect("link");
        let (_watcher, mut changes) = watching(std::slice::from_ref(&file));
        for version in 1..4 {
            swap(version);
            fs::remove_dir_all(folder.path().join(format!("..2026_{}", version - 1)))
                .expect("remove");
            noticed(&mut changes).await;
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_target_of_a_link_changes_in_its_own_folder() {
        let (links, targets) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        let target = targets.path().join("cert.pem");
        fs::write(&target, "old").expect("write");
        let link = links.path().join("cert.pem");
        std::os::unix::fs::symlink(&target, &link).expect("link");
        let (_watcher, mut changes) = watching(&[link]);
        save(&target, "new");
        noticed(&mut changes).await;
    }

    #[tokio::test]
    async fn other_files_after_a_reload() {
        let folder = tempfile::tempdir().expect("folder");
        let elsewhere = tempfile::tempdir().expect("folder");
        let (first, second) = (folder.path().join("a"), elsewhere.path().join("b"));
        let (watcher, mut changes) = watching(std::slice::from_ref(&first));
        fs::write(&first, "1").expect("write");
        noticed(&mut changes).await;
        watcher.replace(vec![first, second.clone()]);
        // The second is new here, and may have changed before: that is a notice of its own.
        noticed(&mut changes).await;
        fs::write(&second, "1").expect("write");
        noticed(&mut changes).await;
    }

    #[tokio::test]
    async fn what_is_written_right_behind_the_reading_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("application.properties");
        let policies = folder.path().join("policies.toml");
        save(&file, "server.drain.seconds=7");
        let (loaded, mut watching) = load(Some(&file), &[]).expect("a configuration");
        assert_eq!(loaded.config.server.drain, Duration::from_secs(7));
        // Nobody has begun to wait for changes yet, as in the rest of a start.
        save(&policies, "# new");
        noticed(&mut watching.changes).await;
        save(&file, "server.drain.seconds=8");
        noticed(&mut watching.changes).await;
    }

    #[test]
    fn only_new_content_is_a_change() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("a");
        fs::write(&file, "1").expect("write");
        let mut watch = Watch::new(vec![file.clone(), folder.path().join("missing")], None);
        assert!(!watch.look(true));
        save(&file, "1");
        assert!(!watch.look(true), "saved unchanged");
        save(&file, "2");
        assert!(watch.look(true));
        assert!(!watch.look(true) && !watch.look(false));
        save(&file, "333");
        assert!(watch.look(false), "another length is seen without events");
        fs::write(folder.path().join("missing"), "").expect("write");
        assert!(watch.look(false), "an empty file isn't a missing one");
    }

    /// Events come in order: whatever reading causes stands before the marker's event.
    #[test]
    fn reading_causes_no_event() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("a");
        fs::write(&file, "1").expect("write");
        let (let_through, events) = channel();
        let mut source = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let event = event.expect("event");
            if matters(&event) {
                let _ = let_through.send(event);
            }
        })
        .expect("events of the file system");
        source
            .watch(folder.path(), RecursiveMode::NonRecursive)
            .expect("watch");
        for _ in 0..10 {
            assert_eq!(fs::read(&file).expect("read"), b"1");
        }
        fs::write(folder.path().join("marker"), "").expect("write");
        let first = events.recv_timeout(PATIENCE).expect("the marker's event");
        assert!(
            first.paths.iter().all(|path| path.ends_with("marker")),
            "{first:?}"
        );
    }
}
