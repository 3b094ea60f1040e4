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
use crate::socket::Gathering;
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
    /// Requests that are finished whether their client is there or not.
    unfinished: AtomicUsize,
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
            unfinished: AtomicUsize::new(0),
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

    /// Counts a request that goes on without its client until the guard is dropped: a drain waits
    /// for it as for a connection.
    pub(crate) fn unfinished(self: &Arc<Self>) -> Unfinished {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished(Arc::clone(self))
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
        let _gathering = Gathering::begin();
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
                    let unfinished = self.unfinished.load(Ordering::Relaxed);
                    if self.connections() + unfinished == 0 || elapsed >= over + GRACE {
                        return;
                    }
                }
            }
        }
    }
}

/// How long requests that are no polls may go on after the polls have ended.
const GRACE: Duration = Duration::from_secs(5);

/// One counted request.
#[derive(Debug)]
pub(crate) struct Unfinished(Arc<Core>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Core>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::runtime::{Gateway, StartOptions};
    use crate::upstream::PoolSettings;

    const OVER: Duration = Duration::from_secs(30);

    /// Runs `test` with a core that serves nobody, on a clock that moves only while everything
    /// waits.
    fn with_core<F: Future<Output = ()>>(test: impl FnOnce(Arc<Core>) -> F) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("application.properties");
        let properties = "server.listen=127.0.0.1:0\nadmin.listen=127.0.0.1:0\ndata.dir=data\n";
        std::fs::write(&file, properties).expect("the properties");
        let gateway = Gateway::start(StartOptions {
            config: Some(file),
            cores: Some(1),
            ..StartOptions::default()
        })
        .expect("a gateway");
        let pool = Pool::new(PoolSettings::default());
        let core = Core::new(1, Arc::clone(gateway.shared()), pool);
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(test(core));
        gateway.stop();
    }

    /// A poll on a connection of its own; the future tells when it was ended.
    fn poll(core: &Arc<Core>, begun: Instant) -> impl Future<Output = Duration> + use<> {
        let (ticket, connected) = (core.slots.enter(), core.connected());
        ticket.is_poll();
        async move {
            let signal = ticket.signal().await;
            assert!(matches!(signal, Signal::EndPoll), "{signal:?}");
            drop(connected);
            begun.elapsed()
        }
    }

    #[test]
    fn polls_end_one_after_the_other_over_the_whole_time() {
        const POLLS: u32 = 100;
        with_core(|core| async move {
            let begun = Instant::now();
            let (_orders, commands) = mpsc::unbounded_channel();
            let polls = join_all((0..POLLS).map(|_| poll(&core, begun)));
            let ((), mut ended) = tokio::join!(Arc::clone(&core).drain(OVER, commands), polls);
            ended.sort();
            for (ended, number) in ended.iter().zip(1..) {
                let due = OVER * number / POLLS;
                let seen = due..=due + 2 * DRAIN_STEP;
                assert!(seen.contains(ended), "poll {number} ended after {ended:?}");
            }
            assert!(
                begun.elapsed() <= OVER + 3 * DRAIN_STEP,
                "{:?}",
                begun.elapsed()
            );
        });
    }

    #[test]
    fn polls_that_come_meanwhile_are_ended_too() {
        with_core(|core| async move {
            let begun = Instant::now();
            let (_orders, commands) = mpsc::unbounded_channel();
            let first = poll(&core, begun);
            let late = async {
                tokio::time::sleep(OVER / 2).await;
                poll(&core, begun).await
            };
            let drained = Arc::clone(&core).drain(OVER, commands);
            let ((), first, late) = tokio::join!(drained, first, late);
            for ended in [first, late] {
                assert!(ended >= OVER && ended <= OVER + 3 * DRAIN_STEP, "{ended:?}");
            }
        });
    }

    #[test]
    fn what_is_no_poll_is_waited_for_within_bounds() {
        with_core(|core| async move {
            let begun = Instant::now();
            let (_orders, commands) = mpsc::unbounded_channel();
            let (request, _connected) = (core.slots.enter(), core.connected());
            Arc::clone(&core).drain(OVER, commands).await;
            assert!(request.signalled().is_none());
            assert!(begun.elapsed() >= OVER + GRACE);
            assert!(
                *core.drain_connections().borrow(),
                "idle connections are closed"
            );
        });
    }

    #[test]
    fn who_is_in_a_hurry_shortens_the_drain() {
        with_core(|core| async move {
            let begun = Instant::now();
            let (orders, commands) = mpsc::unbounded_channel();
            let polls = join_all((0..10).map(|_| poll(&core, begun)));
            let hurry = async {
                tokio::time::sleep(OVER / 3).await;
                let over = Duration::ZERO;
                orders.send(CoreCommand::Leave { over }).expect("it drains");
            };
            let drained = Arc::clone(&core).drain(OVER, commands);
            let ((), mut ended, ()) = tokio::join!(drained, polls, hurry);
            ended.sort();
            let ended_before = ended.iter().filter(|ended| **ended < OVER / 3).count();
            assert_eq!(ended_before, 3, "{ended:?}");
            assert!(
                ended
                    .iter()
                    .all(|ended| *ended <= OVER / 3 + 2 * DRAIN_STEP),
                "{ended:?}"
            );
        });
    }
}
