//! Two places at once. A phone moves from one network to another, and back after a while; only two
//! phones with one DeviceId go back and forth all the time.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

/// Where one device was, lately.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The last network of each family: a phone with both uses them side by side.
    last: [Option<IpAddr>; 2],
    /// When it changed, in seconds since 1970.
    changes: Vec<i64>,
}

impl Places {
    /// Whether this request makes it `most` changes within `window`.
    pub(super) fn come(
        &mut self,
        address: IpAddr,
        now: Timestamp,
        most: usize,
        window: Duration,
    ) -> bool {
        let (family, network) = network(address);
        let Some(last) = self.last.get_mut(family) else {
            return false;
        };
        let before = last.replace(network);
        if before.is_none_or(|before| before == network) {
            return false;
        }
        let now = now.as_second();
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        self.changes.retain(|at| now.saturating_sub(*at) < window);
        self.changes.push(now);
        if self.changes.len() < most {
            return false;
        }
        // Counted anew: after somebody has looked at it, it takes as many again.
        self.changes.clear();
        true
    }
}

/// The family and the network: /24 and /48, what a provider moves one customer around in.
pub(super) fn network(address: IpAddr) -> (usize, IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            (0, IpAddr::from([a, b, c, 0]))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            (1, IpAddr::from([a, b, c, 0, 0, 0, 0, 0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(steps: &[(&str, i64)]) -> bool {
        let mut places = Places::default();
        let mut two = false;
        for (address, second) in steps {
            let now = Timestamp::from_second(*second).expect("a time");
            let address = address.parse().expect("an address");
            two |= places.come(address, now, 4, Duration::from_secs(600));
        }
        two
    }

    #[test]
    fn only_back_and_forth_is_two_places() {
        let (home, road, v6) = ("192.0.2.1", "198.51.100.7", "2001:db8::1");
        assert!(!walk(&[(home, 0), (road, 1), (home, 2), (road, 3)]));
        assert!(walk(&[
            (home, 0),
            (road, 1),
            (home, 2),
            (road, 3),
            (home, 4)
        ]));
        // Over a day that is a commuter.
        assert!(!walk(&[
            (home, 0),
            (road, 900),
            (home, 1800),
            (road, 2700),
            (home, 3600)
        ]));
        // Both families side by side are one place.
        assert!(!walk(&[
            (home, 0),
            (v6, 1),
            (home, 2),
            (v6, 3),
            (home, 4),
            (v6, 5)
        ]));
        // So are the addresses of one network.
        assert!(!walk(&[
            (home, 0),
            ("192.0.2.9", 1),
            (home, 2),
            ("192.0.2.9", 3),
            ("::ffff:192.0.2.3", 4)
        ]));
    }
}
