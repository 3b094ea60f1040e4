//! The listeners of the admin API, the decision service and webhooks, opened and closed: for good at
//! the end, and for a moment while another process takes over.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::administered::Administered;
use super::besides::Serving;
use crate::admin::{self, Token};

/// The admin API on its way to callers.
pub(crate) struct Administration {
    runtime: Handle,
    listener: StdListener,
    gateway: Arc<Administered>,
    token: Token,
    besides: Serving,
    stop: Mutex<Option<watch::Sender<bool>>>,
}

impl Administration {
    pub(super) fn new(
        runtime: Handle,
        listener: StdListener,
        gateway: Arc<Administered>,
        token: Token,
        besides: Serving,
    ) -> Self {
        Self {
            runtime,
            listener,
            gateway,
            token,
            besides,
            stop: Mutex::default(),
        }
    }

    /// Accepts calls.
    pub(crate) fn open(&self) -> io::Result<()> {
        let _inside = self.runtime.enter();
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let (stop, mut stopped) = watch::channel(false);
        self.besides.open(&stopped)?;
        let gateway = Arc::clone(&self.gateway) as Arc<dyn admin::Gateway>;
        self.runtime.spawn(admin::serve(
            listener,
            gateway,
            self.token.clone(),
            async move {
                let _ = stopped.wait_for(|stop| *stop).await.map(|value| *value);
            },
        ));
        *self.stop.lock() = Some(stop);
        Ok(())
    }

    /// Accepts no more calls, and ends feeds. Those in progress get a few seconds.
    pub(crate) fn close(&self) {
        if let Some(stop) = self.stop.lock().take() {
            let _ = stop.send(true);
        }
    }
}

impl std::fmt::Debug for Administration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administration").finish_non_exhaustive()
    }
}
