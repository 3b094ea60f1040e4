//! The way of a finished line to standard output: appended to one shared buffer, written by a
//! thread of its own every 50 ms or at 256 KiB. A request never waits for standard output; when it
//! stands still, lines are dropped and counted.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// Longest time that a line lies in the buffer.
const INTERVAL: Duration = Duration::from_millis(50);
/// Bytes at which the buffer is written before its time.
const FULL: usize = 256 * 1024;
/// Bytes that may lie in the buffer while standard output takes nothing.
const CAPACITY: usize = 4 * 1024 * 1024;

/// The shared buffer, and the thread's orders.
#[derive(Debug)]
pub(super) struct Sink {
    state: Mutex<State>,
    work: Condvar,
    written: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// The thread is writing what it took.
    writing: bool,
    /// Somebody waits in `flush`.
    urgent: bool,
    closed: bool,
}

impl Sink {
    /// A sink, and its thread that writes to `out` until `close`.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        dropped: Counter,
    ) -> std::io::Result<Arc<Self>> {
        let sink = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped,
        });
        let thread = Arc::clone(&sink);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || thread.run(out))?;
        Ok(sink)
    }

    /// Takes a line, or drops and counts it where the buffer is at its limit.
    pub(super) fn append(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let before = state.pending.len();
        let after = before + line.len();
        if after > CAPACITY {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.pending.extend_from_slice(line);
        drop(state);
        // The thread waits for a first line, and then for a full buffer; any other line would wake
        // it for nothing.
        if before == 0 || (before < FULL && after >= FULL) {
            self.work.notify_one();
        }
    }

    /// Waits until every line that was taken is written, at most `limit`. False where it is not.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while !state.pending.is_empty() || state.writing {
            state.urgent = true;
            self.work.notify_one();
            if self.written.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Ends the thread after what is pending.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    fn run(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        loop {
            while state.pending.is_empty() {
                if state.closed {
                    return;
                }
                self.work.wait(&mut state);
            }
            let deadline = Instant::now() + INTERVAL;
            while state.pending.len() < FULL && !state.urgent && !state.closed {
                if self.work.wait_until(&mut state, deadline).timed_out() {
                    break;
                }
            }
            std::mem::swap(&mut state.pending, &mut taken);
            state.writing = true;
            state.urgent = false;
            drop(state);
            if out.write_all(&taken).and_then(|()| out.flush()).is_err() {
                let lines = taken.iter().filter(|&&byte| byte == b'\n').count();
                self.dropped.inc_by(lines as u64);
            }
            taken.clear();
            taken.shrink_to(2 * FULL);
            state = self.state.lock();
            state.writing = false;
            self.written.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Standard output as the test plays it: each write is shown, and waits to be let through.
    struct Gate {
        shown: mpsc::Sender<Vec<u8>>,
        open: mpsc::Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.shown.send(bytes.to_vec());
            self.open.recv().map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (
        Arc<Sink>,
        Counter,
        mpsc::Receiver<Vec<u8>>,
        mpsc::Sender<()>,
    ) {
        let (shown, writes) = mpsc::channel();
        let (gate, open) = mpsc::channel();
        let dropped = Counter::default();
        let sink = Sink::start(Gate { shown, open }, dropped.clone()).unwrap();
        (sink, dropped, writes, gate)
    }

    #[test]
    fn flush_waits_for_the_write() {
        let (sink, dropped, writes, gate) = gated();
        sink.append(b"one\n");
        assert_eq!(writes.recv().unwrap(), b"one\n");
        assert!(!sink.flush(Duration::ZERO), "the write has not ended");
        sink.append(b"two\n");
        gate.send(()).unwrap();
        gate.send(()).unwrap();
        assert!(sink.flush(Duration::from_secs(60)));
        assert_eq!(writes.recv().unwrap(), b"two\n");
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn lines_are_dropped_whole_and_counted_when_nothing_is_taken() {
        let (sink, dropped, writes, gate) = gated();
        sink.append(b"first\n");
        writes.recv().unwrap();
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..6 {
            sink.append(&line);
        }
        assert_eq!(dropped.get(), 2);
        gate.send(()).unwrap();
        assert_eq!(writes.recv().unwrap().len(), CAPACITY);
        gate.send(()).unwrap();
        assert!(sink.flush(Duration::from_secs(60)));
    }

    #[test]
    fn a_closed_output_counts_its_lines() {
        let (sink, dropped, _writes, gate) = gated();
        drop(gate);
        sink.append(b"one\ntwo\n");
        assert!(sink.flush(Duration::from_secs(60)));
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn close_writes_what_is_pending() {
        let (sink, _, writes, gate) = gated();
        sink.append(b"last\n");
        sink.close();
        gate.send(()).unwrap();
        assert_eq!(writes.recv().unwrap(), b"last\n");
        assert!(writes.recv().is_err(), "the thread has ended");
    }
}
