//! The listeners beside the clients' and the admin's, opened at start.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::gateway::StartError;
use super::{Shared, SnapshotError};
use crate::beside::{self, Door};
use crate::config::{Beside, ClientAuth, Config};
use crate::succession::Inherited;
use crate::{decision, tls, webhook};

/// Listeners that are bound, and who may come.
pub(super) struct Besides {
    decision: Option<(StdListener, Door)>,
    webhook: Option<(StdListener, Door)>,
    certified: bool,
}

impl Besides {
    /// Opens what the configuration names, or takes what is open already. `sockets`: what is handed
    /// on to a process that follows.
    pub(super) fn open(
        config: &Config,
        inherited: &mut Inherited,
        sockets: &mut Vec<StdListener>,
    ) -> Result<Self, StartError> {
        let mut open = |beside, key| open(config, beside, key, inherited, sockets);
        Ok(Self {
            decision: open(&config.decision.beside, "decision.listen")?,
            webhook: open(&config.webhook, "webhook.listen")?,
            certified: config.webhook.client_ca.is_some(),
        })
    }

    /// With whom it asks.
    pub(super) fn with(self, shared: &Arc<Shared>) -> Serving {
        Serving {
            besides: self,
            shared: Arc::clone(shared),
        }
    }
}

/// Listeners and those who answer there.
pub(super) struct Serving {
    besides: Besides,
    shared: Arc<Shared>,
}

impl Serving {
    /// Serves on the runtime that this is called in, until `stopped` turns true.
    pub(super) fn open(&self, stopped: &watch::Receiver<bool>) -> io::Result<()> {
        let listener = |listener: &StdListener| TcpListener::from_std(listener.try_clone()?);
        if let Some((decisions, door)) = &self.besides.decision {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(beside::serve(
                listener(decisions)?,
                door.clone(),
                stopped.clone(),
                move |peer, request| decision::answer(Arc::clone(&shared), peer, request),
            ));
        }
        if let Some((webhooks, door)) = &self.besides.webhook {
            let (shared, certified) = (Arc::clone(&self.shared), self.besides.certified);
            tokio::spawn(beside::serve(
                listener(webhooks)?,
                door.clone(),
                stopped.clone(),
                move |peer, request| webhook::answer(Arc::clone(&shared), peer, request, certified),
            ));
        }
        Ok(())
    }
}

fn open(
    config: &Config,
    beside: &Beside,
    key: &'static str,
    inherited: &mut Inherited,
    sockets: &mut Vec<StdListener>,
) -> Result<Option<(StdListener, Door)>, StartError> {
    let Some(address) = beside.listen else {
        return Ok(None);
    };
    let tls = match &beside.client_ca {
        None => None,
        Some(ca) => {
            let mut asking = config.clone();
            asking.server.tls.client_auth = ClientAuth::Required;
            asking.server.tls.client_ca = Some(ca.clone());
            let built = tls::server_config(&asking).map_err(SnapshotError::from)?;
            Some(built.config)
        }
    };
    let failed = |source| StartError::Listen {
        key,
        address,
        source,
    };
    let listener = match inherited.take(address).pop() {
        Some(listener) => Ok(listener),
        None => StdListener::bind(address),
    };
    let listener = listener
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(failed)?;
    sockets.push(listener.try_clone().map_err(failed)?);
    let networks = beside.networks.clone();
    Ok(Some((listener, Door { networks, tls })))
}
