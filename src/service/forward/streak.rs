//! How much input a direction has had lately, which decides how its bytes move.

use super::scratch::SCRATCH;

/// Reads in a row that filled the scratch.
#[derive(Debug, Default)]
pub(super) struct Streak(u8);

impl Streak {
    /// Whether a pipe is worth its two calls more.
    pub(super) const fn is_bulk(&self) -> bool {
        self.0 >= BULK
    }

    /// Notes a read into the scratch.
    pub(super) const fn copied(&mut self, is_full: bool) {
        self.0 = if is_full { self.0.saturating_add(1) } else { 0 };
    }

    /// Notes a move of `bytes` into a pipe.
    pub(super) const fn spliced(&mut self, bytes: usize) {
        if bytes < SCRATCH / 2 {
            // Little input is cheaper to copy, with two calls in place of four.
            self.reset();
        }
    }

    /// Copies for a while.
    pub(super) const fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Reads that fill the scratch, after which bytes move through a pipe.
const BULK: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk() -> Streak {
        let mut streak = Streak::default();
        streak.copied(true);
        assert!(!streak.is_bulk());
        streak.copied(true);
        assert!(streak.is_bulk());
        streak
    }

    #[test]
    fn two_full_reads_begin_a_bulk_transfer_and_one_that_is_not_full_ends_it() {
        let mut streak = bulk();
        streak.copied(false);
        assert!(!streak.is_bulk());
    }

    #[test]
    fn a_move_below_32_kib_ends_a_bulk_transfer() {
        for (bytes, goes_on) in [(32 * 1024 - 1, false), (32 * 1024, true)] {
            let mut streak = bulk();
            streak.spliced(bytes);
            assert_eq!(streak.is_bulk(), goes_on);
        }
    }

    #[test]
    fn a_long_transfer_that_is_copied_stays_one() {
        let mut streak = bulk();
        for _ in 0..1000 {
            streak.copied(true);
        }
        assert!(streak.is_bulk());
    }
}
