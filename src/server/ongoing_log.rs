//! Limits the log lines of a lasting condition, such as a lack of file descriptors.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Admits one line per second at first, then one line per minute with a count.
///
/// It starts over after a minute without the condition.
#[derive(Debug, Default)]
pub(super) struct OngoingLog(Mutex<Ongoing>);

#[derive(Debug, Default)]
struct Ongoing {
    seen: Option<Instant>,
    written: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl OngoingLog {
    /// Calls `write` with the number of lines suppressed before it, or suppresses this one too.
    pub(super) fn write(&self, write: impl FnOnce(u64)) {
        let now = Instant::now();
        let mut ongoing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = ongoing.seen.replace(now);
        if seen.is_none_or(|seen| now - seen >= SELDOM) {
            ongoing.written = None;
            ongoing.lines = 0;
        }
        let period = if ongoing.lines < LINES {
            PERIOD
        } else {
            SELDOM
        };
        if ongoing
            .written
            .is_some_and(|written| now - written < period)
        {
            ongoing.suppressed += 1;
            return;
        }
        ongoing.written = Some(now);
        ongoing.lines += 1;
        let suppressed = std::mem::take(&mut ongoing.suppressed);
        drop(ongoing);
        write(suppressed);
    }
}

/// The interval between lines at first.
const PERIOD: Duration = Duration::from_secs(1);
/// The interval after that.
const SELDOM: Duration = Duration::from_secs(60);
/// How many lines are written at the first interval.
const LINES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_logged_once_a_second_for_some_lines_and_then_once_a_minute() {
        let log = OngoingLog::default();
        let begun = Instant::now();
        let mut written = Vec::new();
        // Twice a second for three minutes and a bit.
        for _ in 0..370 {
            log.write(|suppressed| written.push((begun.elapsed().as_secs(), suppressed)));
            tokio::time::advance(PERIOD / 2).await;
        }
        let seconds = [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1)];
        let minutes = [(64, 119), (124, 119), (184, 119)];
        assert_eq!(written, [&seconds[..], &minutes].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_after_a_minute_is_news_again() {
        let log = OngoingLog::default();
        let mut written = 0;
        for _ in 0..100 {
            log.write(|_| written += 1);
            tokio::time::advance(PERIOD).await;
        }
        let before = written;
        tokio::time::advance(SELDOM).await;
        for _ in 0..LINES {
            log.write(|_| written += 1);
            tokio::time::advance(PERIOD).await;
        }
        assert_eq!(written - before, LINES);
    }
}
