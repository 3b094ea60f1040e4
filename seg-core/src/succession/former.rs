//! The process that is followed.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::meeting_point;
use super::messages::{self, HandoverError};
use crate::runtime::{Administration, Shared};

/// How long the one that follows may take for a word, while nothing is let go of.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often, and how far apart, the store is tried when the one that followed has gone.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(100);

/// What a gateway hands over.
pub(crate) struct Former {
    pub(crate) shared: Arc<Shared>,
    pub(crate) administration: Arc<Administration>,
    /// Its listening sockets, the admin API's among them.
    pub(crate) sockets: Mutex<Vec<TcpListener>>,
    /// Turns true when another process serves.
    pub(crate) followed: watch::Sender<bool>,
    /// Ends what is in flight without further delay.
    pub(crate) hurry: Box<dyn Fn() + Send + Sync>,
    /// Where changes are heard of; `None`: nobody follows, or we have ended.
    pub(crate) feed: Mutex<Option<UnixStream>>,
}

impl std::fmt::Debug for Former {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Former").finish_non_exhaustive()
    }
}

impl Former {
    /// We have ended: no change is waited for any more.
    pub(crate) fn part(&self) {
        self.sockets.lock().clear();
        if let Some(feed) = self.feed.lock().take() {
            // The other end may have gone already.
            let _ = feed.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Has the one that follows waited for. Where that can't be, the gateway serves without.
pub(crate) fn wait(background: &Runtime, former: &Arc<Former>) {
    let place = meeting_point(&former.shared.snapshot().config.data_dir);
    // What lies there is left from a process that has ended, or is about to.
    let _ = std::fs::remove_file(&place);
    let _inside = background.enter();
    match UnixListener::bind(&place) {
        Ok(listener) => {
            let only_ours = Permissions::from_mode(0o600);
            if let Err(error) = std::fs::set_permissions(&place, only_ours) {
                tracing::warn!("{}: {error}", place.display());
            }
            background.spawn(answer(listener, Arc::clone(former)));
        }
        Err(error) => {
            tracing::warn!(
                "{}: no handover to another process will be possible: {error}",
                place.display()
            );
        }
    }
}

/// Waits for the one that follows, until it has.
async fn answer(listener: UnixListener, former: Arc<Former>) {
    while let Ok((stream, _)) = listener.accept().await {
        // The file is ours alone already; this holds whatever became of its folder.
        let ours = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw());
        let Ok(stream) = stream.into_std() else {
            continue;
        };
        if !ours {
            tracing::warn!("another user asked for a handover");
            continue;
        }
        let former = Arc::clone(&former);
        let handed = tokio::task::spawn_blocking(move || hand_over(&former, stream));
        match handed.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::warn!("not handed over, serving on: {error}"),
            Err(_) => tracing::error!("a handover ended by a panic"),
        }
    }
}

/// The whole conversation. An error: everything is as it was before.
fn hand_over(former: &Former, mut stream: UnixStream) -> Result<(), HandoverError> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    messages::hear_hello(&mut stream)?;
    messages::send_sockets(&stream, &former.sockets.lock())?;
    messages::await_release(&mut stream)?;
    tracing::info!("handing over: letting go of the journal");
    former.administration.close();
    let revision = former.shared.engine.release();
    // However long it reads the journal: only its end ends the wait.
    let serving = stream
        .set_read_timeout(None)
        .and_then(|()| messages::say_released(&mut stream, revision))
        .map_err(HandoverError::from)
        .and_then(|()| messages::await_serving(&mut stream));
    if let Err(error) = serving {
        go_on(former);
        return Err(error);
    }
    tracing::info!("another gateway serves now");
    *former.feed.lock() = stream.try_clone().ok();
    let _ = former.followed.send(true);
    obey(former, &mut stream);
    Ok(())
}

/// Obeys the changes that the one that follows tells of. Where they stop before our end, nothing
/// that is in flight may go on for long.
fn obey(former: &Former, stream: &mut UnixStream) {
    loop {
        let obeyed = messages::read_changes(stream).and_then(|changes| {
            let engine = &former.shared.engine;
            let cut = engine.obey(&changes);
            let cut = cut.map_err(|_| HandoverError::Unexpected)?;
            messages::say_obeyed(stream, engine.revision())?;
            Ok(cut)
        });
        match obeyed {
            Ok(cut) => tracing::debug!(cut, "changes obeyed"),
            Err(_) if former.feed.lock().is_none() => return,
            Err(error) => {
                tracing::warn!("no further changes, ending what is in flight: {error}");
                (former.hurry)();
                return;
            }
        }
    }
}

/// The one that should have followed has gone: the journal is ours again.
fn go_on(former: &Former) {
    let shared = &former.shared;
    let folder = shared.snapshot().config.data_dir.clone();
    let mut outcome = Ok(());
    for _ in 0..TRIES {
        outcome = shared.engine.take_back(&folder);
        if outcome.is_ok() {
            break;
        }
        std::thread::sleep(BETWEEN);
    }
    match outcome {
        Ok(()) => tracing::info!("the journal is open again"),
        Err(error) => {
            tracing::error!("the journal can't be opened again: {error}; restart the gateway");
        }
    }
    if let Err(error) = former.administration.open() {
        tracing::error!("the admin API can't be opened again: {error}");
    }
}
