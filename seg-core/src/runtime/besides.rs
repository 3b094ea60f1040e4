//! The listeners beside the clients' and the admin's: opened at start, their doors as the
//! configuration has them now.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Shared;
use super::gateway::StartError;
use crate::beside::{self, Door};
use crate::config::{Beside, ClientAuth, Config};
use crate::succession::Inherited;
use crate::tls::TlsError;
use crate::{decision, tls, webhook};

/// Who may come to which of them.
#[derive(Clone, Debug)]
pub struct Doors {
    decision: Door,
    webhook: Door,
}

impl Doors {
    /// Out of the configuration.
    ///
    /// # Errors
    /// A file that can't be used.
    pub(super) fn new(config: &Config) -> Result<Self, TlsError> {
        Ok(Self {
            decision: door(config, &config.decision.beside)?,
            webhook: door(config, &config.webhook)?,
        })
    }

    /// A listener that stays open until a restart, whatever the new configuration says of it, keeps
    /// its door.
    pub(super) fn keep_where_open(&mut self, new: &Config, before: &Config, kept: &Self) {
        if new.decision.beside.listen != before.decision.beside.listen {
            self.decision.clone_from(&kept.decision);
        }
        if new.webhook.listen != before.webhook.listen {
            self.webhook.clone_from(&kept.webhook);
        }
    }
}

fn door(config: &Config, beside: &Beside) -> Result<Door, TlsError> {
    let tls = match &beside.client_ca {
        None => None,
        Some(ca) => {
            let mut asking = config.clone();
            asking.server.tls.client_auth = ClientAuth::Required;
            asking.server.tls.client_ca = Some(ca.clone());
            Some(tls::server_config(&asking)?.config)
        }
    };
    let networks = beside.networks.clone();
    Ok(Door { networks, tls })
}

/// Listeners that are bound.
pub(super) struct Besides {
    decision: Option<StdListener>,
    webhook: Option<StdListener>,
}

impl Besides {
    /// Opens what the configuration names, or takes what is open already. `sockets`: what is handed
    /// on to a process that follows.
    pub(super) fn open(
        config: &Config,
        inherited: &mut Inherited,
        sockets: &mut Vec<StdListener>,
    ) -> Result<Self, StartError> {
        let mut open = |beside, key| open(beside, key, inherited, sockets);
        Ok(Self {
            decision: open(&config.decision.beside, "decision.listen")?,
            webhook: open(&config.webhook, "webhook.listen")?,
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
        if let Some(decisions) = &self.besides.decision {
            let (shared, now) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
            tokio::spawn(beside::serve(
                listener(decisions)?,
                move || now.snapshot().doors.decision.clone(),
                stopped.clone(),
                move |visitor, request| decision::answer(Arc::clone(&shared), visitor, request),
            ));
        }
        if let Some(webhooks) = &self.besides.webhook {
            let (shared, now) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
            tokio::spawn(beside::serve(
                listener(webhooks)?,
                move || now.snapshot().doors.webhook.clone(),
                stopped.clone(),
                move |visitor, request| webhook::answer(Arc::clone(&shared), visitor, request),
            ));
        }
        Ok(())
    }
}

fn open(
    beside: &Beside,
    key: &'static str,
    inherited: &mut Inherited,
    sockets: &mut Vec<StdListener>,
) -> Result<Option<StdListener>, StartError> {
    let Some(address) = beside.listen else {
        return Ok(None);
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
    Ok(Some(listener))
}
