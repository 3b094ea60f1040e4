//! The gateway as a whole: start, drain, stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use seg_compliance::{Engine, journal};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::administered::Administered;
use super::administration::Administration;
use super::besides::Besides;
use super::core::{Core, CoreCommand};
use super::cutter::CoreCutter;
use super::reload::Reloader;
use super::{Shared, Snapshot, SnapshotError, background};
use crate::accept::{self, Door};
use crate::admin;
use crate::binding::Bindings;
use crate::config::{self, Warning};
use crate::decide::{Folders, Proofs, Rates, Restarts, Withheld, callout, misses};
use crate::delegate;
use crate::identify::DigestKey;
use crate::outbound::Outbound;
use crate::protocol::PollMemory;
use crate::protocol::ews::EwsMemory;
use crate::redirect::Moves;
use crate::servers;
use crate::succession::{self, Former, HandoverError, Inherited, Taking};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use crate::tls::revocation::{self, Revocations};
use crate::upstream::{Pool, PoolSettings};
use crate::webhook;

/// How long `/lb-health` says "draining" before the listeners close: two checks of a usual load
/// balancer.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// Idle connections to servers, over all cores.
const MAX_IDLE_UPSTREAM: usize = 2048;

/// What a gateway is started with.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// The properties file; none: built-in defaults.
    pub config: Option<PathBuf>,
    /// The environment that overrides it.
    pub env: Vec<(String, String)>,
    /// Cores that serve; none: as many as the machine has.
    pub cores: Option<usize>,
    /// The process's log, for reloads of its level and format.
    pub log: Option<Arc<Log>>,
    /// The counters, where somebody has begun to count before the start.
    pub metrics: Option<Arc<Metrics>>,
    /// Listening sockets that are open already.
    pub inherited: Inherited,
    /// Follows the gateway that runs with the same data folder.
    pub take_over: bool,
}

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration, or something that it names.
    #[error(transparent)]
    Config(#[from] SnapshotError),
    /// The store.
    #[error("{path}: the store can't be opened: {source}")]
    Store {
        /// `data.dir`.
        path: String,
        /// What the engine says.
        source: seg_compliance::StoreError,
    },
    /// An address.
    #[error("{key}: {address} can't be listened on: {source}")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A socket that somebody has opened for us.
    #[error(
        "the service manager passes a socket at {0}, which no listen key of the configuration names"
    )]
    Stray(SocketAddr),
    /// The gateway that should hand over.
    #[error("{0}")]
    Handover(#[from] HandoverError),
    /// A revocation list that the start was told to wait for.
    #[error("{0}")]
    Revocation(String),
    /// The admin token.
    #[error("admin.token.path: {0}")]
    Token(#[from] admin::TokenError),
    /// Threads or randomness.
    #[error("the system refuses what every process needs: {0}")]
    System(String),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    cores: Vec<(mpsc::UnboundedSender<CoreCommand>, JoinHandle<()>)>,
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    reloader: Arc<Reloader>,
    former: Arc<Former>,
    background: Option<tokio::runtime::Runtime>,
    /// What was odd about the configuration.
    pub warnings: Vec<Warning>,
    /// How the store came up.
    pub recovery: journal::Recovery,
}

impl Gateway {
    /// Starts everything: when this returns, the gateway serves.
    ///
    /// # Errors
    /// What is in the way, with the key that names it.
    pub fn start(options: StartOptions) -> Result<Self, StartError> {
        let StartOptions {
            config,
            env,
            cores,
            log,
            metrics,
            mut inherited,
            take_over,
        } = options;
        let (loaded, watching) =
            config::watch::load(config.as_deref(), &env).map_err(SnapshotError::from)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let metrics = metrics.unwrap_or_else(Metrics::new);
        let mut warn = |text: String| tracing::warn!("{text}");
        let snapshot = Snapshot::build(loaded.config, None, &mut warn)?;
        background::note_certificates(&metrics, &snapshot);
        metrics.config_reload(true);

        // Who follows another opens everything else before he has that one let go of its journal.
        let mut taking = None;
        let mut opened = None;
        if take_over {
            let (begun, sockets) = Taking::begin(&snapshot.config.data_dir)?;
            (taking, inherited) = (Some(begun), sockets);
        } else {
            opened = Some(open_store(&snapshot)?);
        }
        let cores = cores.unwrap_or_else(available_cores).max(1);
        let admin_listen = snapshot.config.admin.listen;
        let token_path = snapshot.config.admin.token_path.clone();
        let token = admin::Token::load_or_create(&token_path)?;
        let mut sockets = Vec::new();
        let mut per_core: Vec<Vec<(StdListener, Door)>> = (0..cores).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for (key, door, address) in doors(&snapshot.config.server) {
            let failed = |source| StartError::Listen {
                key,
                address,
                source,
            };
            let mut here = inherited.take(address);
            if here.is_empty() {
                here = accept::bind(address, cores).map_err(failed)?;
            }
            addresses.extend(here.first().and_then(|first| first.local_addr().ok()));
            let spread = succession::spread(&here, cores).map_err(failed)?;
            for (core, listeners) in per_core.iter_mut().zip(spread) {
                core.extend(listeners.into_iter().map(|listener| (listener, door)));
            }
            sockets.extend(here);
        }
        let admin_failed = |source| StartError::Listen {
            key: "admin.listen",
            address: admin_listen,
            source,
        };
        let admin_listener = match inherited.take(admin_listen).pop() {
            Some(listener) => Ok(listener),
            None => StdListener::bind(admin_listen),
        };
        let admin_listener = admin_listener
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(admin_failed)?;
        let admin_address = admin_listener.local_addr().map_err(admin_failed)?;
        let besides = Besides::open(&snapshot.config, &mut inherited, &mut sockets)?;
        sockets.push(admin_listener.try_clone().map_err(admin_failed)?);
        if let Some(stray) = inherited.left().first()
            && !take_over
        {
            return Err(StartError::Stray(*stray));
        }
        if let Some(taking) = &mut taking {
            taking.release()?;
        }
        let (engine, recovery) = match opened {
            Some(opened) => opened,
            None => open_store(&snapshot)?,
        };
        for step in &recovery.steps {
            tracing::error!("the store was damaged: {step}");
        }
        let engine = Arc::new(engine);
        engine.limit_sources(snapshot.source_limits());
        let _none_yet = engine.configure(snapshot.settings(), snapshot.policies.clone(), &[]);

        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("seg-background")
            .enable_all()
            .build()
            .map_err(|error| StartError::System(error.to_string()))?;
        let outbound = Outbound::new(background.handle().clone());
        outbound
            .use_proxy(snapshot.config.outbound_proxy.as_ref())
            .map_err(SnapshotError::from)?;
        let revocations = Revocations::new(outbound.clone());

        let bindings = Bindings::default();
        if snapshot.bindings.is_some() {
            bindings
                .open(&snapshot.config.data_dir)
                .map_err(SnapshotError::from)?;
        }

        let folders = Folders::load(&snapshot.config.data_dir);
        let shared = Arc::new(Shared {
            bindings,
            snapshot: ArcSwap::from_pointee(snapshot),
            revocations,
            outbound,
            callouts: callout::Answers::default(),
            misses: misses::Misses::default(),
            webhooks: webhook::Used::default(),
            engine: Arc::clone(&engine),
            metrics,
            proofs: Proofs::default(),
            withheld: Withheld::default(),
            folders,
            restarts: Restarts::default(),
            rates: Rates::default(),
            polls: PollMemory::default(),
            ews: EwsMemory::default(),
            digest_key: DigestKey::generate()
                .map_err(|_| StartError::System("no randomness".to_owned()))?,
            moves: Moves::default(),
            draining: AtomicBool::new(false),
            listening: AtomicBool::new(false),
        });
        let reloader = Arc::new(Reloader::new(Arc::clone(&shared), config, env, log));

        load_revocations(&background, &shared)?;

        let pool = PoolSettings {
            max_idle: (MAX_IDLE_UPSTREAM / cores).max(32),
            ..PoolSettings::default()
        };
        let mut senders = Vec::with_capacity(cores);
        let mut threads = Vec::with_capacity(cores);
        for (id, listeners) in per_core.into_iter().enumerate() {
            let (sender, commands) = mpsc::unbounded_channel();
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            let core = Core::new(id, Arc::clone(&shared), Pool::new(pool));
            threads.push((sender.clone(), start_core(core, listeners, commands)?));
            senders.push(sender);
        }
        engine.set_cutter(Arc::new(CoreCutter(senders.clone())));

        let administered = Arc::new(Administered::new(&shared, &reloader));
        let administration = Arc::new(Administration::new(
            background.handle().clone(),
            admin_listener,
            administered,
            token,
            besides.with(&shared),
        ));
        let former = Arc::new(Former {
            shared: Arc::clone(&shared),
            administration,
            sockets: Mutex::new(sockets),
            followed: watch::Sender::new(false),
            hurry: Box::new(move || {
                for core in &senders {
                    let over = Duration::ZERO;
                    let _ = core.send(CoreCommand::Leave { over });
                }
            }),
            feed: Mutex::default(),
        });
        {
            let _inside = background.enter();
            // Before anybody is told that the gateway is ready: until then SIGHUP would end it.
            let hangups = signal(SignalKind::hangup())
                .map_err(|error| StartError::System(error.to_string()))?;
            shared.listening.store(true, Ordering::Relaxed);
            former.administration.open().map_err(admin_failed)?;
            let synced = recovery.state == journal::State::Synced;
            background.spawn(background::tick(Arc::clone(&shared), synced));
            background.spawn(servers::watch(Arc::clone(&shared)));
            let keeper = revocation::keep(Arc::clone(&shared), shared.outbound.clone());
            background.spawn(keeper);
            background.spawn(delegate::tend(Arc::clone(&shared)));
            background.spawn(background::trim_audit_trail(Arc::clone(&shared)));
            background.spawn(background::reload_on_change(
                Arc::clone(&shared),
                Arc::clone(&reloader),
                hangups,
                watching,
            ));
        }
        if let Some(taking) = taking {
            taking.serving(&engine, background.handle())?;
        }
        succession::wait(&background, &former);
        Ok(Self {
            shared,
            cores: threads,
            addresses,
            admin_address,
            reloader,
            former,
            background: Some(background),
            warnings: loaded.warnings,
            recovery,
        })
    }

    /// Where clients are served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What all cores share; for embedders and tests.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads the configuration anew.
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Stops as a load balancer and phones like it: announced for five seconds, then no new
    /// connections, polls ended with an empty normal answer over `server.drain.seconds`. Blocks
    /// until it is done.
    pub fn drain(mut self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        tracing::info!("draining: /lb-health says so, connections are still accepted");
        std::thread::sleep(ANNOUNCED);
        self.shared.listening.store(false, Ordering::Relaxed);
        let over = self.shared.snapshot().config.server.drain;
        tracing::info!(
            seconds = over.as_secs(),
            "draining: no new connections, ending polls"
        );
        self.finish(&CoreCommand::Drain { over });
    }

    /// Turns true when another process serves in our place.
    pub fn followed(&self) -> watch::Receiver<bool> {
        self.former.followed.subscribe()
    }

    /// Leaves the clients to the process that follows: polls are ended as by [`Gateway::drain`],
    /// connections after their next answer. Blocks until it is done.
    pub fn leave(mut self) {
        let over = self.shared.snapshot().config.server.drain;
        tracing::info!(seconds = over.as_secs(), "leaving: ending polls");
        self.finish(&CoreCommand::Leave { over });
    }

    /// Stops at once.
    pub fn stop(mut self) {
        self.finish(&CoreCommand::Stop);
    }

    fn finish(&mut self, command: &CoreCommand) {
        // What listens is closed by whoever accepts last.
        self.former.sockets.lock().clear();
        for (core, _) in &self.cores {
            let _ = core.send(match command {
                CoreCommand::Drain { over } => CoreCommand::Drain { over: *over },
                CoreCommand::Leave { over } => CoreCommand::Leave { over: *over },
                _ => CoreCommand::Stop,
            });
        }
        for (core, thread) in self.cores.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a core ended by a panic");
            }
            drop(core);
        }
        self.former.administration.close();
        self.former.part();
        if let Some(background) = self.background.take() {
            background.shutdown_timeout(Duration::from_secs(2));
        }
        // What was acknowledged is durable already; this waits for what is still being written.
        tracing::info!("stopped");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !self.cores.is_empty() {
            self.finish(&CoreCommand::Stop);
        }
    }
}

/// Revocation lists at hand are read before the first client comes. Waits for the network only
/// where the configuration says so.
fn load_revocations(
    background: &tokio::runtime::Runtime,
    shared: &Arc<Shared>,
) -> Result<(), StartError> {
    if !shared.snapshot().config.server.tls.revocation.enabled {
        return Ok(());
    }
    let (tell, told) = std::sync::mpsc::channel();
    let shared = Arc::clone(shared);
    // Not `block_on`: an embedder may have a runtime of his own around us.
    background.spawn(async move {
        let snapshot = shared.snapshot();
        let loaded = revocation::load_first(&shared.revocations, &shared.outbound, &snapshot).await;
        let _ = tell.send(loaded.map_err(|error| error.to_string()));
    });
    match told.recv() {
        Ok(loaded) => loaded.map_err(StartError::Revocation),
        Err(_) => Err(StartError::System(
            "the background runtime ended".to_owned(),
        )),
    }
}

/// What clients come to: the key, what is spoken there, and the address.
fn doors(server: &config::Server) -> impl Iterator<Item = (&'static str, Door, SocketAddr)> {
    let tls = server.listen.iter();
    let plain = server.http_listen.iter();
    let tls = tls.map(|address| ("server.listen", Door::Tls, *address));
    tls.chain(plain.map(|address| ("server.http.listen", Door::Plain, *address)))
}

fn open_store(snapshot: &Snapshot) -> Result<(Engine, journal::Recovery), StartError> {
    let folder = &snapshot.config.data_dir;
    Engine::open(folder, snapshot.settings()).map_err(|source| StartError::Store {
        path: folder.display().to_string(),
        source,
    })
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn start_core(
    core: Arc<Core>,
    listeners: Vec<(StdListener, Door)>,
    commands: mpsc::UnboundedReceiver<CoreCommand>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::System(error.to_string()))?;
    std::thread::Builder::new()
        .name(format!("seg-core-{}", core.id))
        .spawn(move || {
            runtime.block_on(core.run(listeners, commands));
            // Connections that are still open end with their tasks.
            runtime.shutdown_background();
        })
        .map_err(|error| StartError::System(error.to_string()))
}
