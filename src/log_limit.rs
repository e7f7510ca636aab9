//! Bounds how often a kind of log line is written: what a peer causes must not fill a disk.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Lets a few lines pass in each period and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Calls `write` with the number of lines left out before it, unless this one is left out too.
    pub(crate) fn write(&self, write: impl FnOnce(u64)) {
        let now = Instant::now();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.is_none_or(|begun| now - begun >= PERIOD) {
            window.begun = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.suppressed += 1;
            return;
        }
        window.lines += 1;
        let suppressed = std::mem::take(&mut window.suppressed);
        drop(window);
        write(suppressed);
    }
}

/// Tells of something that may last: once a second for some lines, then once a minute with a count.
///
/// Where it has not happened for a minute it is news again.
#[derive(Debug, Default)]
pub(crate) struct OngoingLog(Mutex<Ongoing>);

#[derive(Debug, Default)]
struct Ongoing {
    seen: Option<Instant>,
    written: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl OngoingLog {
    /// Calls `write` with the number of lines left out before it, unless this one is left out too.
    pub(crate) fn write(&self, write: impl FnOnce(u64)) {
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

const PERIOD: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);
const LINES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_lines_pass_in_each_second_and_the_rest_is_counted() {
        let limit = LogLimit::default();
        let mut written = Vec::new();
        for _ in 0..100 {
            limit.write(|suppressed| written.push(suppressed));
        }
        tokio::time::advance(PERIOD).await;
        limit.write(|suppressed| written.push(suppressed));
        assert_eq!(written, [0, 0, 0, 0, 0, 95]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_once_a_second_for_some_lines_and_then_once_a_minute() {
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
