//! Limits how often a kind of log line is written, so that peers cannot fill the disk.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Admits a number of lines per period and counts the suppressed ones.
///
/// By default it admits five lines per second. Share one limit between all code that writes the same kind of line.
///
/// ```
/// use portcullis_middleware::log_limit::LogLimit;
/// use std::time::Duration;
///
/// let limit = LogLimit::new(1, Duration::from_secs(60));
/// let mut lines = Vec::new();
/// for peer in ["192.0.2.1", "192.0.2.2"] {
///     limit.write(|suppressed| lines.push(format!("rejected {peer}, suppressed={suppressed}")));
/// }
/// assert_eq!(lines, ["rejected 192.0.2.1, suppressed=0"]);
/// ```
#[derive(Debug)]
pub struct LogLimit {
    lines: u32,
    period: Duration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    begun: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Admits `lines` lines per `period`, which begins with its first line.
    pub const fn new(lines: u32, period: Duration) -> Self {
        Self {
            lines,
            period,
            window: Mutex::new(Window {
                begun: None,
                lines: 0,
                suppressed: 0,
            }),
        }
    }

    /// Returns the number of lines suppressed since the last one, or `None` to suppress this one.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.is_none_or(|begun| now - begun >= self.period) {
            window.begun = Some(now);
            window.lines = 0;
        }
        if window.lines >= self.lines {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }

    /// Calls `write` with the number of lines suppressed before, if this line is [admitted](Self::admit).
    pub fn write(&self, write: impl FnOnce(u64)) {
        if let Some(suppressed) = self.admit() {
            write(suppressed);
        }
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new(5, Duration::from_secs(1))
    }
}

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
        tokio::time::advance(Duration::from_secs(1)).await;
        limit.write(|suppressed| written.push(suppressed));
        assert_eq!(written, [0, 0, 0, 0, 0, 95]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_is_over_when_all_of_it_has_passed() {
        let limit = LogLimit::new(2, Duration::from_secs(60));
        let admitted = || [limit.admit(), limit.admit(), limit.admit()];
        assert_eq!(admitted(), [Some(0), Some(0), None]);
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert_eq!(limit.admit(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(), [Some(2), Some(0), None]);
    }
}
