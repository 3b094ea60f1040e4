//! A deadline that costs nothing until somebody has to wait for it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Counts from the first poll after creation or [`Timer::restart`], so the fast path neither
/// reads the clock nor touches the timer wheel. A restart leaves an armed timer where it is and
/// moves it only when it fires too early or stands too late.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
}

impl Timer {
    /// Something moved: the next poll starts counting anew.
    pub(super) fn restart(&mut self) {
        self.deadline = None;
    }

    /// Lets go of the task that waited last, which would otherwise stay in memory with an armed
    /// timer.
    pub(super) fn let_go(&mut self) {
        if let Some(sleep) = &mut self.sleep {
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Ready once `limit` has passed since the first poll after the last restart.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let deadline = match self.deadline {
            Some(deadline) => deadline,
            // A limit beyond what the clock can count is no limit.
            None => match Instant::now().checked_add(limit) {
                Some(deadline) => *self.deadline.insert(deadline),
                None => return Poll::Pending,
            },
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if sleep.deadline() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline);
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_first_poll_and_anew_after_a_restart() {
        let mut timer = Timer::default();
        tokio::time::advance(Duration::from_secs(100)).await;
        let start = Instant::now();
        poll_fn(|cx| timer.poll(cx, Duration::from_secs(5))).await;
        assert_eq!(start.elapsed().as_secs(), 5);

        timer.restart();
        let start = Instant::now();
        poll_fn(|cx| timer.poll(cx, Duration::from_secs(7))).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn an_armed_timer_moves_both_ways() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let pending = poll_fn(|cx| Poll::Ready(timer.poll(cx, Duration::from_secs(90)))).await;
        assert!(pending.is_pending());
        timer.restart();
        poll_fn(|cx| timer.poll(cx, Duration::from_secs(3))).await;
        assert_eq!(
            start.elapsed().as_secs(),
            3,
            "earlier than it was armed for"
        );

        timer.restart();
        let pending = poll_fn(|cx| Poll::Ready(timer.poll(cx, Duration::from_secs(10)))).await;
        assert!(pending.is_pending());
        tokio::time::advance(Duration::from_secs(8)).await;
        timer.restart();
        poll_fn(|cx| timer.poll(cx, Duration::from_secs(10))).await;
        assert_eq!(start.elapsed().as_secs(), 21, "later than it was armed for");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_limit_never_fires() {
        let mut timer = Timer::default();
        let first = poll_fn(|cx| Poll::Ready(timer.poll(cx, Duration::MAX))).await;
        assert!(first.is_pending());
        assert!(timer.sleep.is_none());
    }
}
