//! Measures how long a connection has been silent.

use super::{drain::Drain, service::DrainPolicy};
use portcullis_middleware::{ConnectionInfo, internal::note_timer};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// What may limit silence, in a box that few connections have before they end.
#[derive(Default)]
pub(super) struct Silence {
    drain: Option<Drain>,
    /// There while silence is limited.
    watch: Option<Watch>,
}

/// A limit in whole milliseconds, small because each connection has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct SilenceLimit(u32);

#[derive(Debug)]
struct Watch {
    progress: u64,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl SilenceLimit {
    const NONE: Self = Self(u32::MAX);
    const LONGEST: Self = Self(u32::MAX - 1);

    /// Rounded up, and 49 days at most.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        let milliseconds = limit.map(|limit| limit.as_nanos().div_ceil(1_000_000));
        let longest = u128::from(Self::LONGEST.0);
        milliseconds.map_or(Self::NONE, |it| Self(it.min(longest) as u32))
    }

    pub(super) fn get(self) -> Option<Duration> {
        (self.0 != Self::NONE.0).then(|| Duration::from_millis(self.0.into()))
    }
}

impl Silence {
    /// `None` while nothing can limit it.
    pub(super) fn new(client: &ConnectionInfo, policy: DrainPolicy) -> Option<Box<Self>> {
        let drain = Drain::new(client, policy)?;
        Some(Box::new(Self {
            drain: Some(drain),
            watch: None,
        }))
    }

    /// The limit while the server drains; see [`Drain::poll`].
    pub(super) fn drain_limit(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        self.drain.as_mut()?.poll(cx)
    }

    /// Ready once `progress` has not changed for `limit`. Without a limit nothing is measured.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: u64,
        limit: Option<Duration>,
    ) -> Poll<()> {
        let Some(limit) = limit else {
            self.watch = None;
            return Poll::Pending;
        };
        let watch = self
            .watch
            .get_or_insert_with(|| Watch::new(progress, limit));
        if watch.progress != progress {
            watch.progress = progress;
            watch.since = Instant::now();
        }
        loop {
            // The limit may have changed, and a timer that fires early is set again.
            let end = after(watch.since, limit);
            if watch.timer.deadline() > end {
                watch.timer.as_mut().reset(end);
            }
            // Not by tokio's budget, which a busy connection uses up.
            ready!(poll_unbudgeted(watch.timer.as_mut(), cx));
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            watch.timer.as_mut().reset(end);
        }
    }
}

impl Watch {
    fn new(progress: u64, limit: Duration) -> Self {
        let since = Instant::now();
        note_timer();
        Self {
            progress,
            since,
            timer: Box::pin(sleep_until(after(since, limit))),
        }
    }
}

fn poll_unbudgeted(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    Pin::new(&mut tokio::task::unconstrained(timer)).poll(cx)
}

/// `since + time`, or a year later if that overflows.
fn after(since: Instant, time: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    since.checked_add(time).unwrap_or(since + A_YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_rounded_up_to_milliseconds_and_is_49_days_at_most() {
        let limit = |limit| SilenceLimit::new(Some(limit)).get();
        assert_eq!(limit(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(
            limit(Duration::from_nanos(1)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(
            limit(Duration::from_millis(2)),
            Some(Duration::from_millis(2))
        );
        let longest = Duration::from_millis(u64::from(u32::MAX) - 1);
        assert_eq!(limit(longest), Some(longest));
        assert_eq!(limit(longest + Duration::from_nanos(1)), Some(longest));
        assert_eq!(limit(longest + Duration::from_millis(1)), Some(longest));
        assert_eq!(limit(Duration::MAX), Some(longest));
        assert_eq!(SilenceLimit::new(None).get(), None);
    }
}
