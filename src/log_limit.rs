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

const PERIOD: Duration = Duration::from_secs(1);
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
}
