#![forbid(unsafe_code)]
//! What the benchmarks share: medians, percentiles, and timing of a repeated computation.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// What ends a run early: the thing, the reason, and the mend where there is one.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The middle of the values; of an even number of them the upper of the two. 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(&mut values.to_vec(), 0.5)
}

/// The value that `share` (0 to 1) of the values don't exceed, by nearest rank; sorts them. 0 of
/// none.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    // Truncation and sign are settled: 0 <= share * len.
    let at = (share * values.len() as f64) as usize;
    values.get(at.min(last)).copied().unwrap_or_default()
}

/// How long one call takes: the median of several stretches, each long enough for the clock.
pub fn time<T>(stretches: usize, at_least: Duration, mut call: impl FnMut() -> T) -> Duration {
    let mut calls = 1_u32;
    loop {
        let began = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        if began.elapsed() >= at_least || calls > u32::MAX / 2 {
            break;
        }
        calls *= 2;
    }
    let seconds: Vec<f64> = (0..stretches.max(1))
        .map(|_| {
            let began = Instant::now();
            for _ in 0..calls {
                black_box(call());
            }
            began.elapsed().as_secs_f64() / f64::from(calls)
        })
        .collect();
    Duration::from_secs_f64(median(&seconds))
}

/// Megabytes (10^6 bytes) a second.
#[must_use]
pub fn megabytes_a_second(bytes: usize, each: Duration) -> f64 {
    bytes as f64 / each.as_secs_f64() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), 51.0);
        assert_eq!(percentile(&mut values, 0.99), 100.0);
        assert_eq!(percentile(&mut values, 0.0), 1.0);
        assert_eq!(percentile(&mut values, 1.0), 100.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
