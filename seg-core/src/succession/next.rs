//! The process that follows.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seg_compliance::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;

use super::messages::{self, HandoverError};
use super::{Inherited, meeting_point};

/// How long the one before may take for a word. It answers at once, but for the flush of its
/// journal.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to put changes in force: nobody who changes something here waits longer for
/// it. One that can't is told of nothing more, and ends what is in flight for that.
const OBEDIENCE: Duration = Duration::from_secs(5);

/// A handover that has begun.
#[derive(Debug)]
pub(crate) struct Taking {
    stream: UnixStream,
    revision: u64,
}

impl Taking {
    /// Meets the gateway that runs with this data folder and gets its listening sockets. It serves
    /// on, and goes on serving when nothing more is said.
    pub(crate) fn begin(data_dir: &Path) -> Result<(Self, Inherited), HandoverError> {
        let met = UnixStream::connect(meeting_point(data_dir));
        let mut stream = met.map_err(HandoverError::Nobody)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        messages::say_hello(&mut stream)?;
        let sockets = messages::receive_sockets(&stream)?;
        let revision = 0;
        Ok((Self { stream, revision }, Inherited::new(sockets)))
    }

    /// Has the journal let go of.
    pub(crate) fn release(&mut self) -> Result<(), HandoverError> {
        messages::ask_release(&mut self.stream)?;
        self.revision = messages::await_released(&mut self.stream)?;
        Ok(())
    }

    /// Clients are served here now: the one before may end, and hears of every change until it has.
    pub(crate) fn serving(
        mut self,
        engine: &Arc<Engine>,
        background: &Handle,
    ) -> Result<(), HandoverError> {
        let relay = engine.relay(self.revision);
        messages::say_serving(&mut self.stream)?;
        self.stream.set_nonblocking(true)?;
        let _inside = background.enter();
        let mut stream = tokio::net::UnixStream::from_std(self.stream)?;
        background.spawn(async move {
            let Ok(mut relay) = relay else {
                // Without a feed it ends at once.
                return;
            };
            let mut word = [0];
            loop {
                let changes = tokio::select! {
                    changes = relay.next() => changes,
                    // It says nothing any more: it has ended.
                    _ = stream.read(&mut word) => break,
                };
                let message = changes.and_then(|changes| messages::framed(&changes));
                let Some(message) = message else { break };
                let told = async {
                    stream.write_all(&message).await?;
                    messages::hear_obeyed(&mut stream).await
                };
                match tokio::time::timeout(OBEDIENCE, told).await {
                    Ok(Ok(revision)) => relay.obeyed(revision),
                    Ok(Err(_)) => break,
                    Err(_) => {
                        tracing::warn!("the gateway before does not follow changes any more");
                        break;
                    }
                }
            }
            tracing::info!("the gateway before has ended");
        });
        Ok(())
    }
}
