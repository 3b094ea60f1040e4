//! Gauges that show the distance of a moment from now. The distance is reckoned at each
//! exposition, so a value never stands still because nobody updates it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// A family of moments with one label. Clones share the moments.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    label: &'static str,
    direction: Direction,
    by_name: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Since,
    Until,
}

impl Moments {
    /// Shows the seconds since each moment.
    pub(super) fn since(label: &'static str) -> Self {
        Self::of(label, Direction::Since)
    }

    /// Shows the seconds until each moment, negative afterwards.
    pub(super) fn until(label: &'static str) -> Self {
        Self::of(label, Direction::Until)
    }

    fn of(label: &'static str, direction: Direction) -> Self {
        Self {
            label,
            direction,
            by_name: Arc::default(),
        }
    }

    /// Sets the moment of one series.
    pub(super) fn set(&self, name: &str, moment: Timestamp) {
        self.by_name.lock().insert(name.to_owned(), moment);
    }

    fn distances(&self, now: Timestamp) -> Vec<(String, i64)> {
        self.by_name
            .lock()
            .iter()
            .map(|(name, moment)| {
                let since = now.as_second().saturating_sub(moment.as_second());
                let distance = match self.direction {
                    Direction::Since => since,
                    Direction::Until => since.saturating_neg(),
                };
                (name.clone(), distance)
            })
            .collect()
    }
}

impl EncodeMetric for Moments {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (name, distance) in self.distances(Timestamp::now()) {
            encoder
                .encode_family(&[(self.label, name)])?
                .encode_gauge(&distance)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_reckoned_from_now() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let age = Moments::since("source");
        age.set("intune", at(100));
        assert_eq!(age.distances(at(160)), [("intune".to_owned(), 60)]);
        let expiry = Moments::until("name");
        expiry.set("server", at(100));
        assert_eq!(expiry.distances(at(40)), [("server".to_owned(), 60)]);
        assert_eq!(expiry.distances(at(160)), [("server".to_owned(), -60)]);
    }
}
