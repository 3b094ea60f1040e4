//! One core: a thread, its runtime, its listeners and its upstream connections.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use seg_compliance::Cut;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Shared;
use super::slots::{CutOrder, Signal, Slots};
use crate::accept::{self, Door};
use crate::upstream::Pool;

/// How often a draining core looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// What a core is told.
#[derive(Debug)]
pub(super) enum CoreCommand {
    /// These requests lost their leases, at that moment.
    Cut {
        cuts: Vec<Cut>,
        taken: std::time::Instant,
    },
    /// Accept nothing more, end polls over that time, then stop.
    Drain { over: Duration },
    /// Another process accepts now: end polls over that time, each connection after its next
    /// answer, then stop. Again: in that time.
    Leave { over: Duration },
    /// Stop now.
    Stop,
}

/// One core, as its connections see it.
pub struct Core {
    /// Its number.
    pub id: u16,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Its requests that can be reached from outside.
    pub slots: Arc<Slots>,
    /// Its connections to the servers.
    pub pool: Pool,
    connections: AtomicUsize,
    drain: watch::Sender<bool>,
    leaving: AtomicBool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn new(id: u16, shared: Arc<Shared>, pool: Pool) -> Arc<Self> {
        Arc::new(Self {
            id,
            shared,
            slots: Arc::default(),
            pool,
            connections: AtomicUsize::new(0),
            drain: watch::Sender::new(false),
            leaving: AtomicBool::new(false),
        })
    }

    /// Turns true when connections shall finish what they have and close.
    pub(crate) fn drain_connections(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Whether each answer shall be the last of its connection, because another process serves the
    /// next.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Serves until it is told to stop. Runs on the core's own thread.
    pub(super) async fn run(
        self: Arc<Self>,
        listeners: Vec<(StdListener, Door)>,
        mut commands: mpsc::UnboundedReceiver<CoreCommand>,
    ) {
        let stop_accepting = watch::Sender::new(false);
        for (listener, door) in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let stop = stop_accepting.subscribe();
                    tokio::spawn(accept::run(Arc::clone(&self), listener, door, stop));
                }
                Err(error) => tracing::error!(error = %error, "a listener can't be served"),
            }
        }
        tokio::spawn(self.pool.clone().tend());
        while let Some(command) = commands.recv().await {
            match command {
                CoreCommand::Cut { cuts, taken } => self.cut(cuts, taken),
                CoreCommand::Drain { over } => {
                    let _ = stop_accepting.send(true);
                    let _ = self.drain.send(true);
                    return self.drain(over, commands).await;
                }
                CoreCommand::Leave { over } => {
                    // A connection that is closed while it is idle can lose the request that is on
                    // its way: until the time is over, the client closes it, told by an answer.
                    self.leaving.store(true, Ordering::Relaxed);
                    let _ = stop_accepting.send(true);
                    return self.drain(over, commands).await;
                }
                CoreCommand::Stop => return,
            }
        }
    }

    fn cut(&self, cuts: Vec<Cut>, taken: std::time::Instant) {
        let orders = cuts.into_iter().map(|cut| {
            let order = CutOrder {
                decision: cut.decision,
                taken,
            };
            (cut.token, Signal::Cut(Arc::new(order)))
        });
        self.slots.signal(orders);
    }

    /// Ends polls one after the other over `over`, so that the phones don't all come to the next
    /// gateway at once, and waits for the rest. Blocks are obeyed to the end.
    async fn drain(
        self: Arc<Self>,
        mut over: Duration,
        mut commands: mpsc::UnboundedReceiver<CoreCommand>,
    ) {
        let begun = Instant::now();
        let mut polls = self.slots.polls();
        let total = polls.len();
        let mut step = tokio::time::interval(DRAIN_STEP);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(CoreCommand::Cut { cuts, taken }) => self.cut(cuts, taken),
                    Some(CoreCommand::Drain { over: anew } | CoreCommand::Leave { over: anew }) => {
                        over = over.min(anew);
                    }
                    Some(CoreCommand::Stop) | None => return,
                },
                _ = step.tick() => {
                    let elapsed = begun.elapsed();
                    if elapsed >= over {
                        self.drain.send_if_modified(|draining| !std::mem::replace(draining, true));
                    }
                    let left = if elapsed >= over || over.is_zero() {
                        0
                    } else {
                        let part = 1.0 - elapsed.as_secs_f64() / over.as_secs_f64();
                        (total as f64 * part).ceil() as usize
                    };
                    let due = polls.split_off(left.min(polls.len()));
                    self.slots.signal(due.into_iter().map(|token| (token, Signal::EndPoll)));
                    if polls.is_empty() {
                        // Polls that began on connections which were still open meanwhile.
                        let late = self.slots.polls();
                        self.slots
                            .signal(late.into_iter().map(|token| (token, Signal::EndPoll)));
                    }
                    if self.connections() == 0 || elapsed >= over + GRACE {
                        return;
                    }
                }
            }
        }
    }
}

/// How long requests that are no polls may go on after the polls have ended.
const GRACE: Duration = Duration::from_secs(5);

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Core>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
