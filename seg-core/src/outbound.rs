//! The gateway's own requests: revocation lists, responders, keys of token issuers.
//!
//! They run on the background runtime, over connections of their own, so that a slow server out
//! there costs no client's core anything. No redirect is followed: who may be asked stands in the
//! configuration.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;

use crate::config::{Origin, ProxyAddress, UpstreamTls, WebAddress};
use crate::tls;
use crate::upstream::{
    BodyKind, Deadlines, NoBody, Pool, PoolSettings, ReplayPolicy, RequestHead, Target,
    TargetError, TargetSettings, Via, send,
};

/// Idle connections that are kept.
const MAX_IDLE: usize = 16;
/// Servers that are remembered, …
const SERVERS_MAX: usize = 64;
/// … and for how long: then the CAs are read anew.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A client for the gateway's own requests.
#[derive(Clone)]
pub struct Outbound {
    runtime: Handle,
    pool: Pool,
    /// `outbound.proxy.url`.
    via: Arc<ArcSwapOption<Via>>,
    /// Servers that were asked lately, whose connections may be used again.
    servers: Arc<Mutex<HashMap<Server, Known>>>,
}

/// A server, and the CA file by which it is known.
type Server = (Origin, Option<PathBuf>);

#[derive(Clone)]
struct Known {
    since: Instant,
    /// The proxy on the way to it.
    via: Option<Arc<Via>>,
    target: Target,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where to.
    pub to: WebAddress,
    /// What is sent, and of which type; `None`: a GET.
    pub body: Option<(&'static str, Bytes)>,
    /// The CA file that is trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Further header lines.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long all of it may take.
    pub within: Duration,
    /// The longest answer, in bytes.
    pub limit: usize,
}

impl Ask {
    /// A GET.
    pub fn get(to: WebAddress, within: Duration, limit: usize) -> Self {
        Self {
            to,
            body: None,
            ca: None,
            headers: Vec::new(),
            within,
            limit,
        }
    }
}

/// Why nothing was got.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OutboundError {
    /// The address is none.
    #[error("{0} can't be asked: {1}")]
    Address(String, String),
    /// No answer.
    #[error("{0}: {1}")]
    Failed(String, String),
    /// An answer that is no success.
    #[error("{0} answers {1}")]
    Status(String, u16),
    /// Not within the time.
    #[error("{0} did not answer within {1} seconds")]
    Late(String, u64),
    /// The gateway is ending.
    #[error("the gateway is ending")]
    Ending,
}

impl Outbound {
    /// A client that works on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        let pool = Pool::new(PoolSettings {
            max_idle: MAX_IDLE,
            ..PoolSettings::default()
        });
        runtime.spawn(pool.clone().tend());
        Self {
            runtime,
            pool,
            via: Arc::default(),
            servers: Arc::default(),
        }
    }

    /// Sends further requests through this proxy, or none.
    ///
    /// # Errors
    /// The proxy's host is neither a name nor an address.
    pub fn use_proxy(&self, proxy: Option<&ProxyAddress>) -> Result<(), TargetError> {
        let via = proxy.map(|proxy| {
            let origin = &proxy.origin;
            Via::new(&origin.host, origin.port, proxy.credentials.reveal())
        });
        self.via.store(via.transpose()?.map(Arc::new));
        Ok(())
    }

    /// The runtime on which it works.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Sends a request and gives the body of its 2xx answer. May be awaited on any runtime.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn fetch(&self, ask: Ask) -> Result<Bytes, OutboundError> {
        let own = self.clone();
        self.runtime
            .spawn(async move {
                let (name, within) = (ask.to.to_string(), ask.within);
                match tokio::time::timeout(within, Box::pin(own.ask(ask))).await {
                    Ok(fetched) => fetched,
                    Err(_) => Err(OutboundError::Late(name, within.as_secs())),
                }
            })
            .await
            .unwrap_or(Err(OutboundError::Ending))
    }

    /// The server, as it was asked lately, or made anew.
    async fn server(&self, server: Server) -> Result<Target, OutboundError> {
        let via = self.via.load_full();
        let known = self.servers.lock().get(&server).cloned();
        if let Some(known) = known
            && known.since.elapsed() < REMEMBERED
            && known.via.as_ref().map(Arc::as_ptr) == via.as_ref().map(Arc::as_ptr)
        {
            return Ok(known.target);
        }
        let (origin, ca) = &server;
        let bad = |why: String| OutboundError::Address(origin.to_string(), why);
        let mut settings = TargetSettings {
            via: via.clone(),
            ..TargetSettings::default()
        };
        if origin.tls {
            let trust = UpstreamTls {
                ca: ca.clone(),
                ..UpstreamTls::default()
            };
            // Reads the system's CAs.
            let built = tokio::task::spawn_blocking(move || tls::client_config(&trust))
                .await
                .map_err(|_| OutboundError::Ending)?
                .map_err(|error| bad(error.to_string()))?;
            settings.tls = Some(built.config);
        }
        let target = Target::new(&origin.host, origin.port, settings)
            .map_err(|error| bad(error.to_string()))?;
        let mut servers = self.servers.lock();
        if servers.len() >= SERVERS_MAX {
            servers.clear();
        }
        let known = Known {
            since: Instant::now(),
            via,
            target: target.clone(),
        };
        servers.insert(server, known);
        Ok(target)
    }

    async fn ask(&self, ask: Ask) -> Result<Bytes, OutboundError> {
        fetch(
            &self.pool,
            self.server((ask.to.origin.clone(), ask.ca.clone())).await?,
            ask,
        )
        .await
    }
}

async fn fetch(pool: &Pool, target: Target, ask: Ask) -> Result<Bytes, OutboundError> {
    let name = ask.to.to_string();
    let bad = |why: String| OutboundError::Address(name.clone(), why);
    let path = PathAndQuery::try_from(ask.to.path.as_str()).map_err(|e| bad(e.to_string()))?;
    let method = if ask.body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let mut head = RequestHead::new(method, path);
    let mut headers = HeaderMap::new();
    headers.insert(
        http::header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    if let Some((kind, body)) = ask.body {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        head.body = BodyKind::Full(body);
    }
    headers.extend(
        ask.headers
            .into_iter()
            .map(|(name, value)| (Some(name), value)),
    );
    head.headers = headers;
    // Whoever asks may ask again: none of these requests changes anything.
    head.replay = ReplayPolicy { allowed: true };
    let deadlines = Deadlines {
        connect: ask.within,
        head: ask.within,
        between_bytes: ask.within,
    };
    let failed = |why: String| OutboundError::Failed(name.clone(), why);
    let exchange = send(pool, &target, head, NoBody, deadlines)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let status = exchange.status;
    let body = exchange
        .body
        .collect(ask.limit)
        .await
        .map_err(|error| failed(error.to_string()))?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(OutboundError::Status(name, status.as_u16()))
    }
}
