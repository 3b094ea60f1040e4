//! Closing abandoned connections a few at a time.
//!
//! When thousands of long polls are cut at once, closing their upstream sockets takes several
//! times as long as answering the clients. So an abandoned connection waits here for a moment,
//! and the answers leave first.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::Connection;

/// How long a connection waits at least before it is closed.
pub(super) const DELAY: Duration = Duration::from_millis(50);
/// Between two rounds of closing.
const TICK: Duration = Duration::from_millis(1);
/// Connections closed in one round.
pub(super) const PER_TICK: usize = 64;
/// Connections that may wait; further ones are closed at once.
const MAX_WAITING: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Closer {
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    /// Somebody closes; without, nothing may be left waiting.
    tended: bool,
    waiting: VecDeque<(Instant, Box<Connection>)>,
}

impl Closer {
    /// Closes `connection` later, or at once where nobody tends or too many wait.
    pub(super) fn push(&self, connection: Box<Connection>) {
        let first = {
            let mut queue = self.queue.lock();
            if !queue.tended || queue.waiting.len() >= MAX_WAITING {
                drop(queue);
                // Closed here, outside of the lock.
                drop(connection);
                return;
            }
            queue.waiting.push_back((Instant::now(), connection));
            queue.waiting.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
    }

    /// Connections that wait to be closed.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Closes what comes, for as long as it is polled.
    pub(super) async fn run(&self) {
        self.queue.lock().tended = true;
        let _untended = Untended(self);
        loop {
            let first = self.queue.lock().waiting.front().map(|(since, _)| *since);
            let Some(since) = first else {
                self.arrived.notified().await;
                continue;
            };
            sleep_until(since + DELAY).await;
            while self.close_due() {
                sleep(TICK).await;
            }
        }
    }

    /// Closes one round of those whose time has come; whether the round was full.
    fn close_due(&self) -> bool {
        let now = Instant::now();
        let mut round = Vec::new();
        {
            let mut queue = self.queue.lock();
            while round.len() < PER_TICK {
                match queue.waiting.front() {
                    Some((since, _)) if *since + DELAY <= now => {
                        round.extend(queue.waiting.pop_front());
                    }
                    _ => break,
                }
            }
        }
        round.len() == PER_TICK
    }
}

/// When the task ends, what waits is closed and nothing waits any more.
struct Untended<'a>(&'a Closer);

impl Drop for Untended<'_> {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.0.queue.lock();
            queue.tended = false;
            std::mem::take(&mut queue.waiting)
        };
        drop(left);
    }
}
