//! Families for the path of a request: every thread counts into series of its own, and the
//! exposition adds them up. A count costs one look-up in a table of the thread and one uncontended
//! atomic add; cores never write to each other's cache lines. Only the first use of a series on a
//! thread takes the family's lock.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::LocalKey;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::labels;

/// A label set that has a table on each thread.
pub(super) trait PerThread:
    Copy + Eq + Hash + Ord + EncodeLabelSet + fmt::Debug + Send + Sync + 'static
{
    /// The thread's table.
    fn table() -> &'static LocalKey<RefCell<Table<Self>>>;
}

/// One thread's series, by family (several gateways can live in one process) and labels.
pub(super) type Table<L> = HashMap<(u64, L), Arc<AtomicI64>, ahash::RandomState>;

macro_rules! per_thread {
    ($($labels:ty),+) => {$(
        impl PerThread for $labels {
            fn table() -> &'static LocalKey<RefCell<Table<Self>>> {
                thread_local! {
                    static TABLE: RefCell<Table<$labels>> = RefCell::new(Table::default());
                }
                &TABLE
            }
        }
    )+};
}

per_thread!(labels::Request, labels::Decision, labels::Live);

/// A family whose series are kept once per thread.
#[derive(Debug)]
pub(super) struct Series<L> {
    id: u64,
    kind: MetricType,
    threads: Mutex<BTreeMap<L, Parts>>,
}

/// One series: what ended threads have left, and the parts of living ones.
#[derive(Debug, Default)]
struct Parts {
    left: i64,
    living: Vec<Arc<AtomicI64>>,
}

impl<L: PerThread> Series<L> {
    /// A family of counters.
    pub(super) fn counters() -> Arc<Self> {
        Self::of(MetricType::Counter)
    }

    /// A family of gauges that go up and down by one.
    pub(super) fn gauges() -> Arc<Self> {
        Self::of(MetricType::Gauge)
    }

    fn of(kind: MetricType) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            kind,
            threads: Mutex::default(),
        })
    }

    /// Adds one to the calling thread's part of a series.
    pub(super) fn increment(&self, labels: L) {
        let counted = L::table().try_with(|table| {
            if let Ok(table) = table.try_borrow()
                && let Some(part) = table.get(&(self.id, labels))
            {
                part.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            false
        });
        if !matches!(counted, Ok(true)) {
            self.part(labels).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The calling thread's part of a series, made on first use.
    pub(super) fn part(&self, labels: L) -> Arc<AtomicI64> {
        let found = L::table()
            .try_with(|table| table.try_borrow().ok()?.get(&(self.id, labels)).cloned())
            .ok()
            .flatten();
        if let Some(part) = found {
            return part;
        }
        let part = Arc::new(AtomicI64::new(0));
        self.threads
            .lock()
            .entry(labels)
            .or_default()
            .living
            .push(Arc::clone(&part));
        // A thread that is already ending has no table left; its part then lives for this count.
        let _ = L::table().try_with(|table| {
            if let Ok(mut table) = table.try_borrow_mut() {
                table.insert((self.id, labels), Arc::clone(&part));
            }
        });
        part
    }

    /// The sum of every series, in label order. Parts of ended threads are folded.
    fn sums(&self) -> Vec<(L, i64)> {
        self.threads
            .lock()
            .iter_mut()
            .map(|(labels, parts)| {
                let Parts { left, living } = parts;
                living.retain_mut(|part| match Arc::get_mut(part) {
                    // Nobody else holds it: no more counts can come.
                    Some(value) => {
                        *left += *value.get_mut();
                        false
                    }
                    None => true,
                });
                let now: i64 = living.iter().map(|p| p.load(Ordering::Relaxed)).sum();
                (*labels, *left + now)
            })
            .collect()
    }
}

/// The family as the registry takes it. Its descriptor is shown before the first series exists.
#[derive(Debug)]
pub(super) struct Exposed<L>(pub(super) Arc<Series<L>>);

impl<L: PerThread> EncodeMetric for Exposed<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, sum) in self.0.sums() {
            let mut series = encoder.encode_family(&labels)?;
            match self.0.kind {
                MetricType::Counter => {
                    series.encode_counter::<NoLabelSet, u64, f64>(&sum.unsigned_abs(), None)?;
                }
                _ => series.encode_gauge(&sum)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.0.kind
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::{Live, Protocol};
    use super::*;

    const PING: Live = Live {
        protocol: Protocol::Eas,
        command: "Ping",
    };

    #[test]
    fn threads_add_up_and_outlive_their_thread() {
        let series = Series::<Live>::counters();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| series.increment(PING)));
            }
        });
        series.increment(PING);
        assert_eq!(series.sums(), [(PING, 4001)]);
        assert_eq!(series.sums(), [(PING, 4001)], "folding counts once");
        assert!(series.threads.lock()[&PING].living.len() <= 1 + 4);
    }

    #[test]
    fn families_do_not_share_a_threads_table() {
        let (one, other) = (Series::<Live>::counters(), Series::<Live>::counters());
        one.increment(PING);
        assert_eq!(one.sums(), [(PING, 1)]);
        assert_eq!(other.sums(), []);
    }

    #[test]
    fn a_gauge_may_go_down_on_another_thread() {
        let series = Series::<Live>::gauges();
        let part = series.part(PING);
        part.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| part.fetch_sub(1, Ordering::Relaxed));
        });
        assert_eq!(series.sums(), [(PING, 0)]);
    }
}
