//! Measures how long a connection has been silent.

use portcullis_middleware::internal::note_timer;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is only there while silence is limited.
#[derive(Debug, Default)]
pub(super) struct Silence {
    watch: Option<Box<Watch>>,
}

#[derive(Debug)]
struct Watch {
    progress: u64,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
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
            .get_or_insert_with(|| Box::new(Watch::new(progress, limit)));
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
